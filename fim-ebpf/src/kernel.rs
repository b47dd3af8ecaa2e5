//! The only reads of kernel and user memory. Addresses are plain numbers; a read that fails gives `None`.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
};
use fim_common::{ABSENT, InodeKey};

use crate::maps::offset;

/// The address of something in the kernel.
pub type Address = u64;

/// Reads a value of plain integers at `base + offset`.
#[inline(always)]
pub fn read<T: Copy>(base: Address, offset: u32) -> Option<T> {
    // Reading at null fails by itself.
    if offset == ABSENT {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the destination is our own; the helper checks the source and fails where nothing is mapped.
    let failed = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            (base + offset as u64) as *const _,
        )
    };
    if failed != 0 {
        return None;
    }
    // SAFETY: the helper wrote every byte, and callers ask for integers only.
    Some(unsafe { value.assume_init() })
}

#[inline(always)]
pub fn pointer(base: Address, offset: u32) -> Option<Address> {
    read::<u64>(base, offset).filter(|address| *address != 0)
}

/// The same, 0 where it cannot be read: without a branch, which the verifier would have to follow.
#[inline(always)]
pub fn pointer_or_null(base: Address, offset: u32) -> Address {
    let mut value: u64 = 0;
    // SAFETY: the destination is our own; the helper checks the source, and writes zeros where nothing is mapped.
    unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), 8, base.wrapping_add(offset as u64) as *const _)
    };
    value
}

/// Reads a number, or gives `u32::MAX`, which for ids means unknown. Without a branch too.
#[inline(always)]
pub fn number(base: Address, offset: u32) -> u32 {
    let mut value: u32 = 0;
    // SAFETY: as above.
    let failed = unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), 4, base.wrapping_add(offset as u64) as *const _)
    };
    // Failure is negative: all ones once its sign is spread.
    value | (failed as i64 >> 63) as u32
}

/// Reads text up to its NUL into `room` bytes at `to`; gives its length with the NUL.
///
/// # Safety
/// `to` must be valid for writes of `room` bytes.
#[inline(always)]
pub unsafe fn text(to: *mut u8, room: u32, from: Address) -> Option<u32> {
    // SAFETY: the caller vouches for the destination; the helper checks the source.
    let length = unsafe { bpf_probe_read_kernel_str(to.cast(), room, from as *const _) };
    if length > 0 { Some(length as u32) } else { None }
}

/// Copies `length` bytes, or writes zeros where nothing is mapped.
///
/// # Safety
/// `to` must be valid for writes of `length` bytes.
#[inline(always)]
pub unsafe fn copy(to: *mut u8, length: u32, from: Address) {
    // SAFETY: the caller vouches for the destination; the helper checks the source.
    unsafe { bpf_probe_read_kernel(to.cast(), length, from as *const _) };
}

/// Reads `length` bytes of the current process's own memory.
///
/// # Safety
/// `to` must be valid for writes of `length` bytes.
#[inline(always)]
pub unsafe fn user(to: *mut u8, length: u32, from: u64) -> bool {
    // SAFETY: the caller vouches for the destination; the helper checks the source.
    unsafe { bpf_probe_read_user(to.cast(), length, from as *const _) == 0 }
}

#[inline(always)]
pub fn current_task() -> Address {
    // SAFETY: takes nothing, gives the address of the running task.
    unsafe { bpf_get_current_task() }
}

/// Keeps `value` below 256 in a way that the compiler cannot take away before the verifier has seen it.
#[inline(always)]
pub fn below_256(value: u32) -> u32 {
    let mut bounded = value as u64;
    // SAFETY: arithmetic on one register.
    unsafe { core::arch::asm!("{0} &= 255", inout(reg) bounded, options(pure, nomem, nostack)) };
    bounded as u32
}

#[inline(always)]
pub fn dentry_of_file(file: Address) -> Option<Address> {
    let path = offset!(file_path);
    if path == ABSENT {
        return None;
    }
    dentry_of_path(file + path as u64)
}

#[inline(always)]
pub fn dentry_of_path(path: Address) -> Option<Address> {
    pointer(path, offset!(path_dentry))
}

#[inline(always)]
pub fn inode_number(dentry: Address) -> Option<u64> {
    read::<u64>(pointer(dentry, offset!(dentry_inode))?, offset!(inode_ino))
}

#[inline(always)]
pub fn device(dentry: Address) -> Option<u32> {
    read::<u32>(pointer(dentry, offset!(dentry_sb))?, offset!(sb_dev))
}

#[inline(always)]
pub fn is_directory(inode: Address) -> bool {
    const S_IFMT: u32 = 0o170000;
    const S_IFDIR: u32 = 0o040000;
    // Two bytes are the mode; where it cannot be read all bits are set, which is no type.
    number(inode, offset!(inode_mode)) & S_IFMT == S_IFDIR
}

#[inline(always)]
pub fn key_of(dev: u32, ino: u64) -> InodeKey {
    InodeKey { dev: dev as u64, ino }
}

/// Address and length of a dentry's name.
#[inline(always)]
pub fn name(dentry: Address) -> Option<(Address, u32)> {
    let qstr = dentry + offset!(dentry_name) as u64;
    Some((pointer(qstr, offset!(qstr_name))?, read::<u32>(qstr, offset!(qstr_len))?))
}
