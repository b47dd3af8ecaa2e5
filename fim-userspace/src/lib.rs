//! fim: a file integrity monitor that knows what every watched file must be, who changed it, and puts it back.

pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod metrics;
pub mod pulse;
pub mod report;
pub mod respond;
pub mod sensor;
pub mod sink;
pub mod store;
pub mod sys;
pub mod tree;
