//! Processes in all the shapes that have misled tools like fim. Each says who it is, and then overwrites one file.

mod places;
mod shapes;
mod truth;
mod uring;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

pub use shapes::act;
pub use truth::{Forebear, Truth};

use super::{CONTENT, become_user};

/// None of them is equal to another, to root, or to a pid in a small system.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

pub const FIRST: User = User { uid: 1234, gid: 2345 };
pub const SECOND: User = User { uid: 3456, gid: 4567 };
/// Who owns a program that is setuid.
pub const OWNER: u32 = 5678;
/// Who logged in, as far as audit knows.
pub const LOGIN: u32 = 6789;

impl User {
    fn put_on(self) -> io::Result<()> {
        become_user(Some(self.uid), Some(self.gid), &[])
    }
}

/// A line of JSON on stdout, whole even when several write.
fn tell(truth: &Truth) -> io::Result<()> {
    let line = serde_json::to_string(truth)? + "\n";
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

/// Over the start of the file, nothing truncated.
fn deed(file: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(CONTENT)
}
