//! The crate as its callers see it: records in, columns out, and back.

mod decode;
mod encode;
mod infer;
