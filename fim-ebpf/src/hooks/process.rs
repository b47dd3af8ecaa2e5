//! Processes come and go: fills the process table in every tier.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;
use fim_common::Hook;

use crate::context::Arguments;
use crate::maps::{kept, seen};
use crate::process;

#[btf_tracepoint(function = "sched_process_fork")]
fn tp_sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    seen(Hook::ProcessFork);
    // (parent, child)
    if let Some(child) = Arguments::new(ctx.as_ptr()).at(1) {
        process::forked(child);
        kept(Hook::ProcessFork);
    }
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
fn tp_sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    seen(Hook::ProcessExec);
    // (task, old pid, binary)
    if let Some(task) = Arguments::new(ctx.as_ptr()).at(0) {
        process::executed(task);
        kept(Hook::ProcessExec);
    }
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn tp_sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    seen(Hook::ProcessExit);
    // (task, …)
    if let Some(task) = Arguments::new(ctx.as_ptr()).at(0) {
        process::exited(task);
        kept(Hook::ProcessExit);
    }
    0
}

/// The second of two programs at each place. A kernel that can be preempted in a program skips that program for whoever
/// runs on the processor meanwhile, and in doing so would lose a process; it takes two preempted ones to skip both.
#[btf_tracepoint(function = "sched_process_fork")]
fn again_sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    if Arguments::new(ctx.as_ptr()).at(1).is_some_and(process::forked_again) {
        kept(Hook::ProcessFork);
    }
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
fn again_sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    if Arguments::new(ctx.as_ptr()).at(0).is_some_and(process::executed_again) {
        kept(Hook::ProcessExec);
    }
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn again_sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    if Arguments::new(ctx.as_ptr()).at(0).is_some_and(process::exited_again) {
        kept(Hook::ProcessExit);
    }
    0
}

/// Walks all tasks once, for the processes that are older than the daemon. Read through a file descriptor.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
fn iter_task(ctx: *mut c_void) -> i32 {
    // struct bpf_iter__task: meta, task; the task is null at the end.
    if let Some(task) = Arguments::new(ctx).at(1)
        && task != 0
    {
        process::found(task);
    }
    0
}
