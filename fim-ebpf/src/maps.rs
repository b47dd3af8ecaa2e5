//! Everything the programs remember, and the constants the daemon patches in before loading.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use fim_common::{
    ABSENT, CollapseKey, Counters, Hook, InodeKey, Offsets, ProcessRecord, Settings, Slots, TaskKey, Watched,
};

const BPF_F_NO_PREALLOC: u32 = 1;

/// Watched directories, and files with more than one link.
#[map]
pub static WATCHED: HashMap<InodeKey, Watched> = HashMap::with_max_entries(1 << 20, BPF_F_NO_PREALLOC);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(Hook::COUNT as u32, 0);

#[map]
pub static PROCESS: LruHashMap<TaskKey, ProcessRecord> = LruHashMap::with_max_entries(16384, 0);

/// Process id to start, of the process that has the id now or had it last.
#[map]
pub static CURRENT: LruHashMap<u32, u64> = LruHashMap::with_max_entries(32768, 0);

#[map]
pub static COLLAPSE: LruHashMap<CollapseKey, u64> = LruHashMap::with_max_entries(8192, 0);

/// One record of zeros, to start new ones from: a record does not fit on the stack.
#[map]
pub static BLANK: Array<ProcessRecord> = Array::with_max_entries(1, 0);

#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings {
    own_tgid: 0,
    pad: 0,
    collapse_ns: 0,
    slots: [Slots { of: [ABSENT; 4], verdict: ABSENT }; Hook::COUNT],
};

/// Reads a constant that the daemon patched; the verifier knows its value.
#[inline(always)]
pub fn patched<T: Copy>(constant: *const T) -> T {
    // SAFETY: the macros below pass fields of our own statics; volatile, because they change after compilation.
    unsafe { core::ptr::read_volatile(constant) }
}

macro_rules! offset {
    ($field:ident) => {
        $crate::maps::patched(&raw const $crate::maps::OFFSETS.$field)
    };
}

macro_rules! setting {
    ($($field:tt)+) => {
        $crate::maps::patched(&raw const $crate::maps::SETTINGS.$($field)+)
    };
}

pub(crate) use {offset, setting};

#[inline(always)]
fn count(hook: Hook, add: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(hook as u32) {
        // SAFETY: the lookup gave a live value of this CPU; a torn count after preemption is tolerable.
        add(unsafe { &mut *counters });
    }
}

#[inline(always)]
pub fn seen(hook: Hook) {
    count(hook, |c| c.seen += 1);
}

#[inline(always)]
pub fn kept(hook: Hook) {
    count(hook, |c| c.kept += 1);
}

#[inline(always)]
pub fn dropped(hook: Hook) {
    count(hook, |c| c.dropped += 1);
}
