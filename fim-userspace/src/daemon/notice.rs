//! What the daemon says to whoever started it.

use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// Changes from now on are certain to be caught.
    Ready,
    /// The configuration is being read again.
    Reloading,
    /// The new configuration is in force, and changes are certain to be caught as it says.
    Reloaded,
    /// There was nothing new in it.
    Unchanged,
    /// The old configuration stays, for this reason.
    Refused(&'a str),
    /// Every loop turns.
    Alive,
    /// The end has begun.
    Stopping,
}

pub type Tell = Arc<dyn Fn(Notice<'_>) + Send + Sync>;
