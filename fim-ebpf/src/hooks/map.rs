//! Shared writable mappings: stores into them are invisible from then on.

use fim_common::Hook;

use super::shells;
use crate::context::Arguments;
use crate::maps::{offset, seen};
use crate::{emit, filter, kernel};

const PROT_WRITE: u64 = 2;
const MAP_TYPE: u64 = 0x0f;
const MAP_SHARED: u64 = 1;
const MAP_SHARED_VALIDATE: u64 = 3;
const VM_SHARED: u64 = 8;

shells!(MmapFile, lsm_mmap_file, fentry_mmap_file, "mmap_file", "security_mmap_file", mmap_file);
shells!(
    FileMprotect,
    lsm_file_mprotect,
    fentry_file_mprotect,
    "file_mprotect",
    "security_file_mprotect",
    file_mprotect
);

#[inline(always)]
fn mmap_file(hook: Hook, arguments: Arguments) -> Option<()> {
    let (file, prot, flags) =
        (arguments.wanted(hook, 0)?, arguments.wanted(hook, 1)?, arguments.wanted(hook, 2)?);
    let shared = matches!(flags & MAP_TYPE, MAP_SHARED | MAP_SHARED_VALIDATE);
    if file == 0 || prot & PROT_WRITE == 0 || !shared {
        return None;
    }
    seen(hook);
    let subject = filter::subject(kernel::dentry_of_file(file)?)?;
    emit::report_once(hook, &subject, 0);
    Some(())
}

#[inline(always)]
fn file_mprotect(hook: Hook, arguments: Arguments) -> Option<()> {
    let (vma, prot) = (arguments.wanted(hook, 0)?, arguments.wanted(hook, 1)?);
    if prot & PROT_WRITE == 0 || kernel::read::<u64>(vma, offset!(vma_flags))? & VM_SHARED == 0 {
        return None;
    }
    let file = kernel::pointer(vma, offset!(vma_file))?;
    seen(hook);
    let subject = filter::subject(kernel::dentry_of_file(file)?)?;
    emit::report_once(hook, &subject, 0);
    Some(())
}
