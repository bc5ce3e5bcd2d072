//! How much memory a saga's transitions ask for. It is the same on every machine and in every run, so a change that makes
//! the heart of the engine dearer is seen here, to the allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use saga_defs::Shipped;
use saga_defs::machine::replay;
use saga_defs::rehearsal::{Rehearsal, rehearse};

/// The system's allocator, and how often it was asked.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test only: another one beside it would be counted too.
#[test]
fn a_booking_asks_for_no_more_memory_than_recorded() {
    let booking = Shipped::named("booking").unwrap().definition();
    let runs = rehearse(&booking);
    let asked = |run: &Rehearsal| {
        let journal = || run.moves.iter().map(|one| (one.at, &one.event));
        replay(&booking, run.saga, journal()).unwrap();
        let before = ASKED.load(Ordering::Relaxed);
        let saga = replay(&booking, run.saga, journal()).unwrap();
        let asked = ASKED.load(Ordering::Relaxed) - before;
        assert_eq!(saga.status(), run.ended);
        asked
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("performance-gate.toml");
    let recorded: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    for title in ["every step succeeds", "charge-payment rejected"] {
        let run = runs.iter().find(|run| run.title == title);
        let run = run.unwrap_or_else(|| {
            panic!("{title:?} of {:?}", runs.iter().map(|r| &r.title).collect::<Vec<_>>())
        });
        let (now, then) = (asked(run), recorded["allocations"][title].as_integer().unwrap());
        assert_eq!(
            i64::try_from(now).unwrap(),
            then,
            "allocations of a booking, {title}: {now}, recorded are {then}. If more are worth it, or there are fewer, \
             record the number in tests/performance-gate.toml under [allocations]"
        );
    }
}
