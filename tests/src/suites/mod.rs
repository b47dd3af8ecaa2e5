//! The suites. Each takes a [`Setting`](crate::fim::Setting) and tells a [`Report`](crate::report::Report).

pub mod alerts;
pub mod bad_input;
pub mod cost;
pub mod crash;
pub mod faults;
pub mod flood;
pub mod hands;
pub mod lines;
pub mod logs;
pub mod metrics;
pub mod powercut;
pub mod race;
pub mod service;
pub mod silent;
pub mod table;
pub mod trust;
pub mod who;
