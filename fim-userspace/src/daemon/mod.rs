//! The task graph: who feeds whom, start order, drain.

pub mod clock;
pub mod watch;

mod act;
mod examine;
mod journal;
mod progress;
mod recent;
mod reconcile;
mod record;
mod scanner;
