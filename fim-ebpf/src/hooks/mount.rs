//! Mounts that hide a watched path behind another file system.

use fim_common::Hook;

use super::shells;
use crate::context::Arguments;
use crate::maps::seen;
use crate::{emit, filter, kernel};

shells!(SbMount, lsm_sb_mount, fentry_sb_mount, "sb_mount", "security_sb_mount", over);
shells!(MoveMount, lsm_move_mount, fentry_move_mount, "move_mount", "security_move_mount", over);

#[inline(always)]
fn over(hook: Hook, arguments: Arguments) -> Option<()> {
    seen(hook);
    let subject = filter::subject(kernel::dentry_of_path(arguments.wanted(hook, 0)?)?)?;
    // Anybody can try, and the kernel asks for rights only afterwards.
    emit::report_once(hook, &subject, 0);
    Some(())
}
