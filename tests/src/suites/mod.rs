//! The suites. Each takes a [`Setting`](crate::fim::Setting) and tells a [`Report`](crate::report::Report).

pub mod bad_input;
pub mod crash;
pub mod flood;
pub mod logs;
pub mod silent;
pub mod table;
