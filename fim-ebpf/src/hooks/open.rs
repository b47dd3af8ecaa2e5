//! Getting a descriptor to write with, by opening or from another process: every write by a descriptor begins here,
//! whatever system call makes it.

use fim_common::Hook;

use super::shells;
use crate::context::Arguments;
use crate::maps::{offset, seen};
use crate::{emit, filter, kernel};

const FMODE_WRITE: u32 = 2;

shells!(FileOpen, lsm_file_open, fentry_file_open, "file_open", "security_file_open", file_open);
shells!(
    FileReceive,
    lsm_file_receive,
    fentry_file_receive,
    "file_receive",
    "security_file_receive",
    file_open
);

/// On overlayfs the hook fires again for the file below; it carries the same dentry or one that is not watched.
#[inline(always)]
fn file_open(hook: Hook, arguments: Arguments) -> Option<()> {
    let file = arguments.wanted(hook, 0)?;
    if kernel::read::<u32>(file, offset!(file_mode))? & FMODE_WRITE == 0 {
        return None;
    }
    seen(hook);
    let subject = filter::subject(kernel::dentry_of_file(file)?)?;
    emit::report_once(hook, &subject, 0);
    Some(())
}
