//! Stories of topics, configurations and settings.

mod configs;
mod describe;
mod harness;
mod random_wishes;
mod settings;
mod tables;
mod topics;
