//! Where the fields of the kernel's structs lie, as its BTF says.

/// No such field or argument in this kernel.
pub const ABSENT: u32 = u32::MAX;

macro_rules! offsets {
    ($($field:ident = $strukt:literal [$($spelling:literal),+],)+) => {
        /// Byte offsets into the kernel's structs, [`ABSENT`] where this kernel has no such field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $(pub $field: u32,)+
        }

        impl Offsets {
            pub const NONE: Self = Self { $($field: ABSENT,)+ };

            /// Asks `find(struct, spellings)` for every field; fields it does not find stay [`ABSENT`].
            /// Returns the names of those beside the offsets.
            pub fn resolve<'a>(
                mut find: impl FnMut(&'static str, &'static [&'static str]) -> Option<u32>,
                mut missing: impl FnMut(&'static str) + 'a,
            ) -> Self {
                Self {
                    $($field: find($strukt, &[$($spelling),+]).unwrap_or_else(|| {
                        missing(concat!($strukt, ".", stringify!($field)));
                        ABSENT
                    }),)+
                }
            }
        }
    };
}

offsets! {
    task_pid = "task_struct" ["pid"],
    task_tgid = "task_struct" ["tgid"],
    task_leader = "task_struct" ["group_leader"],
    task_parent = "task_struct" ["real_parent"],
    task_start = "task_struct" ["start_boottime", "real_start_time"],
    task_cred = "task_struct" ["cred"],
    task_real_cred = "task_struct" ["real_cred"],
    task_mm = "task_struct" ["mm"],
    task_comm = "task_struct" ["comm"],
    task_signal = "task_struct" ["signal"],
    task_loginuid = "task_struct" ["loginuid"],
    task_session = "task_struct" ["sessionid"],
    task_exec_id = "task_struct" ["self_exec_id"],
    task_pids = "task_struct" ["thread_pid"],
    task_fs = "task_struct" ["fs"],
    task_cgroups = "task_struct" ["cgroups"],
    task_nsproxy = "task_struct" ["nsproxy"],
    nsproxy_mounts = "nsproxy" ["mnt_ns"],
    mounts_common = "mnt_namespace" ["ns"],
    common_number = "ns_common" ["inum"],
    signal_live = "signal_struct" ["live"],
    signal_tty = "signal_struct" ["tty"],
    tty_name = "tty_struct" ["name"],
    pid_level = "pid" ["level"],
    pid_numbers = "pid" ["numbers"],
    fs_pwd = "fs_struct" ["pwd"],
    cgroups_default = "css_set" ["dfl_cgrp"],
    cgroup_node = "cgroup" ["kn"],
    node_id = "kernfs_node" ["id"],
    cred_uid = "cred" ["uid"],
    cred_gid = "cred" ["gid"],
    cred_euid = "cred" ["euid"],
    cred_egid = "cred" ["egid"],
    cred_fsuid = "cred" ["fsuid"],
    mm_exe = "mm_struct" ["exe_file"],
    mm_arg_start = "mm_struct" ["arg_start"],
    mm_arg_end = "mm_struct" ["arg_end"],
    file_path = "file" ["f_path", "__f_path"],
    file_mode = "file" ["f_mode"],
    path_mnt = "path" ["mnt"],
    path_dentry = "path" ["dentry"],
    dentry_inode = "dentry" ["d_inode"],
    dentry_parent = "dentry" ["d_parent"],
    dentry_name = "dentry" ["d_name", "__d_name"],
    dentry_sb = "dentry" ["d_sb"],
    qstr_name = "qstr" ["name"],
    qstr_len = "qstr" ["len"],
    inode_mode = "inode" ["i_mode"],
    inode_links = "inode" ["i_nlink", "__i_nlink"],
    inode_ino = "inode" ["i_ino"],
    sb_dev = "super_block" ["s_dev"],
    vfsmount_root = "vfsmount" ["mnt_root"],
    mount_mnt = "mount" ["mnt"],
    mount_parent = "mount" ["mnt_parent"],
    mount_mountpoint = "mount" ["mnt_mountpoint"],
    vma_file = "vm_area_struct" ["vm_file"],
    vma_flags = "vm_area_struct" ["vm_flags", "__vm_flags"],
    iattr_valid = "iattr" ["ia_valid"],
}
