//! Attributes: mode, owner, times and size, extended attributes, ACLs, and the ioctls that set flags or clone content.
//!
//! inode_setattr also covers truncation (`ATTR_SIZE`), by path, by descriptor and by `O_TRUNC`, so path_truncate and
//! file_truncate would only repeat it.

use fim_common::Hook;

use super::shells;
use crate::context::Arguments;
use crate::maps::{offset, seen};
use crate::{emit, filter, kernel};

shells!(
    InodeSetattr,
    lsm_inode_setattr,
    fentry_inode_setattr,
    "inode_setattr",
    "security_inode_setattr",
    setattr
);
shells!(
    InodeSetxattr,
    lsm_inode_setxattr,
    fentry_inode_setxattr,
    "inode_setxattr",
    "security_inode_setxattr",
    named
);
shells!(
    InodeRemovexattr,
    lsm_inode_removexattr,
    fentry_inode_removexattr,
    "inode_removexattr",
    "security_inode_removexattr",
    named
);
// Before 6.2 ACLs come through the xattr hooks.
shells!(
    InodeSetAcl,
    lsm_inode_set_acl,
    fentry_inode_set_acl,
    "inode_set_acl",
    "security_inode_set_acl",
    named
);
shells!(
    InodeRemoveAcl,
    lsm_inode_remove_acl,
    fentry_inode_remove_acl,
    "inode_remove_acl",
    "security_inode_remove_acl",
    named
);
// file_setattr(2), from 6.17.
shells!(
    InodeFileSetattr,
    lsm_inode_file_setattr,
    fentry_inode_file_setattr,
    "inode_file_setattr",
    "security_inode_file_setattr",
    named
);
shells!(FileIoctl, lsm_file_ioctl, fentry_file_ioctl, "file_ioctl", "security_file_ioctl", ioctl);
shells!(
    FileIoctlCompat,
    lsm_file_ioctl_compat,
    fentry_file_ioctl_compat,
    "file_ioctl_compat",
    "security_file_ioctl_compat",
    ioctl
);

#[inline(always)]
fn setattr(hook: Hook, arguments: Arguments) -> Option<()> {
    seen(hook);
    let subject = filter::subject(arguments.wanted(hook, 0)?)?;
    let valid = kernel::read::<u32>(arguments.wanted(hook, 1)?, offset!(iattr_valid)).unwrap_or(0);
    emit::report_once(hook, &subject, valid);
    Some(())
}

#[inline(always)]
fn named(hook: Hook, arguments: Arguments) -> Option<()> {
    seen(hook);
    let subject = filter::subject(arguments.wanted(hook, 0)?)?;
    emit::report_once(hook, &subject, 0);
    Some(())
}

// linux/fs.h. FIDEDUPERANGE is left out: the kernel only shares blocks whose content is equal already.
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC32_SETFLAGS: u32 = 0x4004_6602;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;

#[inline(always)]
fn ioctl(hook: Hook, arguments: Arguments) -> Option<()> {
    let command = arguments.wanted(hook, 1)? as u32;
    match command {
        FS_IOC_SETFLAGS | FS_IOC32_SETFLAGS | FS_IOC_FSSETXATTR | FICLONE | FICLONERANGE => {}
        _ => return None,
    }
    seen(hook);
    let subject = filter::subject(kernel::dentry_of_file(arguments.wanted(hook, 0)?)?)?;
    emit::report_once(hook, &subject, command);
    Some(())
}
