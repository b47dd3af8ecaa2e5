//! The harness of fim's end-to-end tests: it starts the real daemon on real trees, lets `fim-actor` do one thing at a
//! time, and compares the ledger and the files with what a table says.
//!
//! It uses none of fim's own code: what scripts may rely on is read here as a script would read it.

pub mod actor;
pub mod disk;
pub mod fim;
pub mod kernel;
pub mod receiver;
pub mod record;
pub mod report;
pub mod state;
pub mod storm;
pub mod suites;
pub mod sys;
pub mod tree;
pub mod wait;
