//! The arguments of a hook.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::{FEntryContext, LsmContext};
use fim_common::Hook;

use crate::maps::setting;

/// The array of arguments that a BTF program gets. Copied freely: it is only an address.
#[derive(Clone, Copy)]
pub struct Arguments(*mut c_void);

impl From<&LsmContext> for Arguments {
    #[inline(always)]
    fn from(ctx: &LsmContext) -> Self {
        Self(ctx.as_ptr())
    }
}

impl From<&FEntryContext> for Arguments {
    #[inline(always)]
    fn from(ctx: &FEntryContext) -> Self {
        Self(ctx.as_ptr())
    }
}

/// One load with its offset spelled out. Were it plain Rust, the compiler would merge the arms of `at` into one load
/// at a computed address, which the verifier refuses for a context.
macro_rules! load {
    ($ctx:expr, $offset:literal) => {{
        let value: u64;
        // SAFETY: reads one argument; the verifier checks that the hook has it, or that this arm is never reached.
        unsafe {
            asm!(concat!("{0} = *(u64 *)({1} + ", $offset, ")"), out(reg) value, in(reg) $ctx, options(nostack, readonly))
        };
        value
    }};
}

impl Arguments {
    pub const fn new(ctx: *mut c_void) -> Self {
        Self(ctx)
    }

    /// The argument at a position that is a constant by the time the verifier looks.
    #[inline(always)]
    pub fn at(self, position: u32) -> Option<u64> {
        let ctx = self.0;
        Some(match position {
            0 => load!(ctx, "0"),
            1 => load!(ctx, "8"),
            2 => load!(ctx, "16"),
            3 => load!(ctx, "24"),
            4 => load!(ctx, "32"),
            5 => load!(ctx, "40"),
            6 => load!(ctx, "48"),
            _ => return None,
        })
    }

    /// The `n`th of the arguments listed in [`Hook::wanted`].
    #[inline(always)]
    pub fn wanted(self, hook: Hook, n: usize) -> Option<u64> {
        self.at(setting!(slots[hook as usize].of[n]))
    }

    /// What an LSM program must return: the verdict of those before it, untouched.
    #[inline(always)]
    pub fn verdict(self, hook: Hook) -> i32 {
        let earlier = self.at(setting!(slots[hook as usize].verdict)).unwrap_or(0) as i32;
        // The verifier of 6.11 and later wants to see the range.
        if (-4095..0).contains(&earlier) { earlier } else { 0 }
    }
}
