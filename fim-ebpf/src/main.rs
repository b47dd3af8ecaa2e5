//! fim's programs for the kernel: who did what to a watched file, and who every process is.
//!
//! Nothing here may stop or alter what the observed program does: every LSM program hands on the earlier verdict.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod context;
mod emit;
mod filter;
mod hooks;
mod kernel;
mod maps;
mod process;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The verifier only lets programs under a GPL-compatible licence call the helpers that read kernel memory.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
