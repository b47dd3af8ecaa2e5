//! One body for each hook, and two shells around it: an LSM program, and a probe on `security_…`, the function through
//! which the kernel calls the LSMs. Both run before the operation, so they also see attempts that are then refused.

mod attr;
mod map;
mod mount;
mod namespace;
mod open;
mod process;

/// Wraps a body in its two shells.
macro_rules! shells {
    ($hook:ident, $lsm:ident, $fentry:ident, $name:literal, $function:literal, $body:path) => {
        #[aya_ebpf::macros::lsm(hook = $name)]
        fn $lsm(ctx: aya_ebpf::programs::LsmContext) -> i32 {
            let arguments = $crate::context::Arguments::from(&ctx);
            let _ = $body(fim_common::Hook::$hook, arguments);
            arguments.verdict(fim_common::Hook::$hook)
        }

        #[aya_ebpf::macros::fentry(function = $function)]
        fn $fentry(ctx: aya_ebpf::programs::FEntryContext) -> i32 {
            let _ = $body(fim_common::Hook::$hook, $crate::context::Arguments::from(&ctx));
            0
        }
    };
}

pub(crate) use shells;
