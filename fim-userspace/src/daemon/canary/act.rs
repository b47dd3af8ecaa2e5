//! The helper's side: a process of its own, which makes the change.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::core::canary::{GID, NAMES, UID};
use crate::sys::mapping;

/// Makes the change in the current folder, and stays until its stdin ends.
///
/// # Errors
/// When it may not become the user of the test, or a step fails.
pub fn act() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(GID));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let [first, second, third] = NAMES;
    // A helper that was killed may have left something.
    for name in NAMES {
        match fs::remove_file(name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(first)?;
    file.write_all(b"written to see whether it is seen\n")?;
    drop(file);
    fs::set_permissions(first, Permissions::from_mode(0o640))?;
    fs::hard_link(first, second)?;
    mapping::store(&OpenOptions::new().read(true).write(true).open(first)?, b"W")?;
    fs::rename(second, third)?;
    fs::remove_file(third)?;
    fs::remove_file(first)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
