//! Names: made, linked, moved and removed.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use fim_common::{EventHead, Hook, Watched};

use super::shells;
use crate::context::Arguments;
use crate::filter::Subject;
use crate::maps::{WATCHED, dropped, kept, offset, seen};
use crate::{emit, filter, kernel};

shells!(InodeCreate, lsm_inode_create, fentry_inode_create, "inode_create", "security_inode_create", one);
shells!(InodeMkdir, lsm_inode_mkdir, fentry_inode_mkdir, "inode_mkdir", "security_inode_mkdir", one);
shells!(InodeMknod, lsm_inode_mknod, fentry_inode_mknod, "inode_mknod", "security_inode_mknod", one);
shells!(
    InodeSymlink,
    lsm_inode_symlink,
    fentry_inode_symlink,
    "inode_symlink",
    "security_inode_symlink",
    one
);
shells!(InodeUnlink, lsm_inode_unlink, fentry_inode_unlink, "inode_unlink", "security_inode_unlink", one);
shells!(InodeRmdir, lsm_inode_rmdir, fentry_inode_rmdir, "inode_rmdir", "security_inode_rmdir", one);
shells!(InodeLink, lsm_inode_link, fentry_inode_link, "inode_link", "security_inode_link", link);
shells!(InodeRename, lsm_inode_rename, fentry_inode_rename, "inode_rename", "security_inode_rename", rename);
shells!(
    DInstantiate,
    lsm_d_instantiate,
    fentry_d_instantiate,
    "d_instantiate",
    "security_d_instantiate",
    instantiate
);

#[inline(always)]
fn one(hook: Hook, arguments: Arguments) -> Option<()> {
    seen(hook);
    let subject = filter::subject(arguments.wanted(hook, 0)?)?;
    emit::report(hook, &subject, 0);
    Some(())
}

#[inline(always)]
fn link(hook: Hook, arguments: Arguments) -> Option<()> {
    seen(hook);
    let (old, new) = both(hook, arguments)?;
    // From now on the file can be written by a name outside: its inode is watched before the link exists.
    if old.ino != 0 {
        join(hook, &old, Watched { watch: if old.flags != 0 { old.watch } else { new.watch }, flags: 0 });
    }
    emit::report_two(hook, &old, &new, 0);
    Some(())
}

#[inline(always)]
fn rename(hook: Hook, arguments: Arguments) -> Option<()> {
    seen(hook);
    let (old, new) = both(hook, arguments)?;
    emit::report_two(hook, &old, &new, arguments.wanted(hook, 2).unwrap_or(0) as u32);
    Some(())
}

/// Old and new name, when at least one of them is watched.
#[inline(always)]
fn both(hook: Hook, arguments: Arguments) -> Option<(Subject, Subject)> {
    let old = filter::describe(arguments.wanted(hook, 0)?)?;
    let new = filter::describe(arguments.wanted(hook, 1)?)?;
    let matched =
        old.flags & (EventHead::BY_NAME | EventHead::BY_INODE) != 0 || new.flags & EventHead::BY_NAME != 0;
    if matched { Some((old, new)) } else { None }
}

/// A dentry got its inode, by being made or looked up: a directory below a watched one is watched from that moment,
/// before anything can be made in it.
#[inline(always)]
fn instantiate(hook: Hook, arguments: Arguments) -> Option<()> {
    let (dentry, inode) = (arguments.wanted(hook, 0)?, arguments.wanted(hook, 1)?);
    if inode == 0 || !kernel::is_directory(inode) {
        return None;
    }
    seen(hook);
    let dev = kernel::device(dentry)?;
    let parent = kernel::pointer(dentry, offset!(dentry_parent))?;
    if parent == dentry {
        return None;
    }
    let above = filter::watched(dev, kernel::inode_number(parent)?)?;
    let ino = kernel::read::<u64>(inode, offset!(inode_ino))?;
    let subject = Subject { dentry, dev, dir: 0, ino, watch: above.watch, flags: 0 };
    join(hook, &subject, Watched { watch: above.watch, flags: Watched::DIRECTORY });
    Some(())
}

#[inline(always)]
fn join(hook: Hook, subject: &Subject, watched: Watched) {
    let key = kernel::key_of(subject.dev, subject.ino);
    let directory = watched.flags & Watched::DIRECTORY != 0;
    if WATCHED.get_ptr(key).is_some() {
        return;
    }
    let flags = if directory { BPF_NOEXIST } else { BPF_ANY };
    match WATCHED.insert(key, watched, flags as u64) {
        Ok(()) if directory => kept(hook),
        Ok(()) => {}
        // Another CPU was first.
        Err(-17) => {}
        Err(_) => dropped(hook),
    }
}
