//! Decisions, purely: no files, no clock, no async, no kernel. Everything here can be tested in a table.

pub mod actor;
pub mod blame;
pub mod canary;
pub mod change;
pub mod correlate;
pub mod digest;
pub mod entry;
pub mod event;
pub mod flags;
mod holders;
pub mod linediff;
pub mod maintenance;
pub mod mask;
pub mod observation;
pub mod path;
pub mod plan;
pub mod policy;
pub mod quarantine;
pub mod repetition;
pub mod retention;
pub mod route;
pub mod size;
pub mod tier;
pub mod trust;
pub mod witness;
