//! The list of hooks: one place for their numbers, names and arguments.

macro_rules! hooks {
    ($($variant:ident = $name:literal [$($wanted:literal),*],)+) => {
        /// A place in the kernel where fim looks. The number is the index into the counters.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Hook {
            $($variant,)+
        }

        impl Hook {
            pub const ALL: &[Hook] = &[$(Hook::$variant),+];
            pub const COUNT: usize = Self::ALL.len();

            /// The kernel's name: of the LSM hook, or of the tracepoint.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Hook::$variant => $name,)+
                }
            }

            /// The arguments the program reads, by their name in the kernel's BTF; `type name` asks for a pointer to
            /// that struct whatever it is called.
            pub const fn wanted(self) -> &'static [&'static str] {
                match self {
                    $(Hook::$variant => &[$($wanted),*],)+
                }
            }
        }
    };
}

hooks! {
    FileOpen = "file_open" ["struct file"],
    FileReceive = "file_receive" ["struct file"],
    MmapFile = "mmap_file" ["struct file", "prot", "flags"],
    FileMprotect = "file_mprotect" ["struct vm_area_struct", "prot"],
    InodeSetattr = "inode_setattr" ["struct dentry", "struct iattr"],
    InodeSetxattr = "inode_setxattr" ["struct dentry"],
    InodeRemovexattr = "inode_removexattr" ["struct dentry"],
    InodeSetAcl = "inode_set_acl" ["struct dentry"],
    InodeRemoveAcl = "inode_remove_acl" ["struct dentry"],
    InodeFileSetattr = "inode_file_setattr" ["struct dentry"],
    FileIoctl = "file_ioctl" ["struct file", "cmd"],
    FileIoctlCompat = "file_ioctl_compat" ["struct file", "cmd"],
    InodeCreate = "inode_create" ["struct dentry"],
    InodeMkdir = "inode_mkdir" ["struct dentry"],
    InodeMknod = "inode_mknod" ["struct dentry"],
    InodeSymlink = "inode_symlink" ["struct dentry"],
    InodeLink = "inode_link" ["old_dentry", "new_dentry"],
    InodeRename = "inode_rename" ["old_dentry", "new_dentry", "flags"],
    InodeUnlink = "inode_unlink" ["struct dentry"],
    InodeRmdir = "inode_rmdir" ["struct dentry"],
    SbMount = "sb_mount" ["struct path"],
    MoveMount = "move_mount" ["to_path"],
    DInstantiate = "d_instantiate" ["struct dentry", "struct inode"],
    ProcessFork = "sched_process_fork" [],
    ProcessExec = "sched_process_exec" [],
    ProcessExit = "sched_process_exit" [],
}

impl Hook {
    pub const fn from_index(index: u8) -> Option<Hook> {
        if (index as usize) < Self::COUNT { Some(Self::ALL[index as usize]) } else { None }
    }

    /// Fills the process table, in every tier, by way of a tracepoint.
    pub const fn is_process(self) -> bool {
        matches!(self, Hook::ProcessFork | Hook::ProcessExec | Hook::ProcessExit)
    }
}
