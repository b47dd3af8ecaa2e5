//! What a comparison by lines takes of memory, whatever the contents: counted, not estimated. A program of its own, since
//! the allocator counts for all of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use fim::core::linediff::{Comparison, compare};

mod hostile;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all of it is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMIT: usize = 64 << 20;

/// The peak above the start, with both contents counted.
fn peak(make: hostile::Make) -> (usize, &'static str) {
    let start = NOW.load(Ordering::Relaxed);
    PEAK.store(start, Ordering::Relaxed);
    let (old, new) = make();
    let compared = compare(old, new);
    let told = match &compared {
        Comparison::Lines(lines) => {
            lines.unified();
            "lines"
        }
        Comparison::Binary => "binary",
        Comparison::TooLarge => "too large",
    };
    (PEAK.load(Ordering::Relaxed) - start, told)
}

#[test]
fn no_content_takes_more_than_64_mib() {
    for (name, make, expected) in hostile::CASES {
        let (peak, told) = peak(make);
        println!("{name}: {} KiB, {told}", peak / 1024);
        assert!(peak < LIMIT, "{name}: {} MiB", peak >> 20);
        assert_eq!(told, expected, "{name}");
    }
}
