//! Records shared by the programs in the kernel and the daemon. Native byte order; nothing here leaves the machine.
#![no_std]

mod hook;
mod offsets;

pub use hook::Hook;
pub use offsets::{ABSENT, Offsets};

/// Longest file name the kernel has, without its NUL (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Room for a path: components, each ended by a NUL, the last one first.
pub const PATH_ROOM: usize = 512;
/// How much of an argument list is kept.
pub const ARGS_ROOM: usize = 256;

/// An inode: the kernel's own device number (`super_block.s_dev`, `major << 20 | minor`) and the inode's number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InodeKey {
    pub dev: u64,
    pub ino: u64,
}

/// What an inode is watched for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub watch: u32,
    /// [`Watched::DIRECTORY`] or nothing.
    pub flags: u32,
}

impl Watched {
    pub const DIRECTORY: u32 = 1;
}

/// A process for ever: its id and the start of its first thread, nanoseconds since boot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskKey {
    pub tgid: u32,
    pub pad: u32,
    pub start_ns: u64,
}

/// A path as the kernel holds it, up to the root of its mount namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathText {
    /// Bytes of `text` in use.
    pub len: u32,
    pub flags: u32,
    pub text: [u8; PATH_ROOM],
}

impl PathText {
    pub const NONE: Self = Self { len: 0, flags: 0, text: [0; PATH_ROOM] };

    /// The walk to the root was cut short: the first components are missing.
    pub const CUT: u32 = 1;
    /// The file had no place in any directory (memfd).
    pub const DETACHED: u32 = 2;
    /// The file had no name any more.
    pub const UNLINKED: u32 = 4;
    /// The walk came to the root: without any text, it is the root itself.
    pub const ROOTED: u32 = 8;
}

/// One process, as of its fork, exec or exit, whichever was last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Who started it.
    pub parent: TaskKey,
    /// Start of the process that had this id before; 0 when none is known.
    pub previous_ns: u64,
    /// Nanoseconds since boot; 0 when it did not exec since the daemon started.
    pub exec_ns: u64,
    /// Nanoseconds since boot; 0 while it lives.
    pub exit_ns: u64,
    /// Inode of the executable; 0 when there is none.
    pub exe_ino: u64,
    /// Number of its control group in the unified hierarchy; 0 when there is none.
    pub cgroup: u64,
    /// Ids that could not be read are `u32::MAX`, which the kernel never gives out.
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub fsuid: u32,
    /// `u32::MAX` when it never logged in.
    pub auid: u32,
    pub session: u32,
    pub flags: u32,
    /// Counts the execs of the process and of those it was forked from; tells two programs of one process apart.
    pub exec_id: u32,
    /// Device of the executable, as in [`InodeKey`].
    pub exe_dev: u32,
    /// Process id in its innermost pid namespace; `u32::MAX` where unknown.
    pub inner_pid: u32,
    /// Who is its parent now, or was at the end; `parent` is who started it.
    pub ppid: u32,
    /// Number of its mount namespace.
    pub mounts: u32,
    /// Bytes of `args` in use, at most [`ARGS_ROOM`] - 1.
    pub args_len: u32,
    pub pad: u32,
    pub comm: [u8; 16],
    /// The terminal's name as the kernel has it, such as `pts3`.
    pub tty: [u8; 16],
    pub exe: PathText,
    /// Working directory, taken at the end: while it lives, /proc tells.
    pub cwd: PathText,
    pub args: [u8; ARGS_ROOM],
}

impl ProcessRecord {
    /// There were more arguments than fit.
    pub const ARGS_CUT: u32 = 1;
}

/// Start of every event in the ring. After it come `name` and, for rename and link, `name2` at `name2_at`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventHead {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub time_ns: u64,
    pub start_ns: u64,
    /// Inode of the directory that holds the name.
    pub dir: u64,
    /// Inode of the file; 0 when there is none yet.
    pub ino: u64,
    /// Rename and link: inode of the directory that gets the new name.
    pub dir2: u64,
    /// Device of all of them.
    pub dev: u32,
    pub tgid: u32,
    pub tid: u32,
    /// Ids that could not be read are `u32::MAX`.
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub auid: u32,
    pub session: u32,
    /// `iattr.ia_valid` of inode_setattr, the command of file_ioctl, the flags of inode_rename (fentry only).
    pub detail: u32,
    /// The watch of the matched inode.
    pub watch: u32,
    pub hook: u8,
    /// [`EventHead::BY_NAME`] and so on.
    pub flags: u8,
    pub name_len: u8,
    pub name2_len: u8,
    /// Where `name2` starts, bytes from the start of the record.
    pub name2_at: u16,
    pub pad: u16,
    pub fsuid: u32,
    /// As in [`ProcessRecord`]: which of the process's programs it was.
    pub exec_id: u32,
}

impl EventHead {
    /// The directory in `dir` is watched.
    pub const BY_NAME: u8 = 1;
    /// The inode in `ino` is watched itself: a file with several links, or a directory.
    pub const BY_INODE: u8 = 2;
    /// The directory in `dir2` is watched.
    pub const BY_NEW_NAME: u8 = 4;
    /// The object is a directory.
    pub const DIRECTORY: u8 = 8;
}

/// A record with room for names; the smallest that fits is sent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Record<const NAME: usize, const NAME2: usize> {
    pub head: EventHead,
    pub name: [u8; NAME],
    pub name2: [u8; NAME2],
}

/// What has been sent lately, so that a repetition by the same process is counted but not sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollapseKey {
    pub start_ns: u64,
    pub ino: u64,
    /// Tells two names of one directory apart where the file has no inode yet, and two kinds of attribute.
    pub detail: u32,
    pub dev: u32,
    pub tgid: u32,
    pub hook: u32,
}

/// Per hook and CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls that could matter: for file_open and file_receive, only those for writing.
    pub seen: u64,
    /// Sent to the daemon.
    pub kept: u64,
    /// Should have been sent, but the ring or a map was full.
    pub dropped: u64,
}

/// Which argument of a hook holds what, since both moved between kernels. [`ABSENT`] where there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Positions of the arguments in the order of [`Hook::wanted`].
    pub of: [u32; 4],
    /// Position of the earlier verdict (lsm only).
    pub verdict: u32,
}

/// Settings of one run.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The daemon's own process id, in the first pid namespace: what it does is not reported.
    pub own_tgid: u32,
    pub pad: u32,
    /// Repetitions within this time collapse, nanoseconds.
    pub collapse_ns: u64,
    pub slots: [Slots; Hook::COUNT],
}

const _: () = {
    assert!(size_of::<InodeKey>() == 16);
    assert!(size_of::<Watched>() == 8);
    assert!(size_of::<TaskKey>() == 16);
    assert!(size_of::<PathText>() == 8 + PATH_ROOM);
    assert!(size_of::<ProcessRecord>() == 16 + 40 + 60 + 4 + 32 + 2 * size_of::<PathText>() + ARGS_ROOM);
    assert!(size_of::<EventHead>() == 96);
    assert!(size_of::<Record<32, 0>>() == 128);
    assert!(size_of::<Record<32, 32>>() == 160);
    assert!(size_of::<CollapseKey>() == 32);
    assert!(size_of::<Counters>() == 24);
    assert!(size_of::<Slots>() == 20);
};

#[cfg(feature = "user")]
mod pod {
    use super::*;

    macro_rules! pod {
        ($($t:ty),+) => {
            $(
                // SAFETY: repr(C), only integers and arrays of integers, and no padding (the sizes are asserted above).
                unsafe impl aya::Pod for $t {}
            )+
        };
    }

    pod!(InodeKey, Watched, TaskKey, ProcessRecord, CollapseKey, Counters, Settings, Offsets);
}
