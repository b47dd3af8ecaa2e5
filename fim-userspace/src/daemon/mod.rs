//! The task graph: who feeds whom, start order, drain.
