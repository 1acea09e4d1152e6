//! The whole, seen from outside: the real binary, real clients, and the rules of the house.

mod backup;
mod command_line;
mod harness;
mod http;
mod layers;
mod licences;
mod log_tools;
mod node;
mod readme;
mod streams;
