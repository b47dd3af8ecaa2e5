//! Descriptor-relative access to watched trees. Nothing here follows a path twice.
//!
//! Objects are first reached as `O_PATH` descriptors, which run no code of a driver and wake no reader of a FIFO. Only
//! when such a descriptor is known to be a regular file or a directory is it opened, through `/proc/self/fd`, so that
//! what is read or changed is the very object that was checked.

pub mod attributes;
pub mod flags;
pub mod hash;
pub mod inspect;
pub mod mounts;
pub mod near;
mod object;
mod open;
pub mod private;
pub mod reach;
pub mod root;
pub mod sysroot;

pub use root::{Root, TreeError};
pub use sysroot::Sysroot;

#[cfg(test)]
mod tests;
