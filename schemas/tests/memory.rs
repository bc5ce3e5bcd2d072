//! Hostile bytes may claim anything: what reading them allocates stays within a small multiple of the limit.
//!
//! One test in a file of its own, because it watches the whole process's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use schemas::{Catalog, DECODED_LIMIT_BYTES, Data};
use serde_json::{Value, json};

struct Watched;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator; the counters do not allocate.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

/// Lists grow by doubling, and while one grows both its old and its new room exist.
const SLACK: usize = 4;

#[track_caller]
fn check_bounded(ty: Value, valid: Value, body: &[u8]) {
    let text =
        json!({ "type": "record", "name": "Any", "fields": [{ "name": "f", "type": ty }] }).to_string();
    let catalog = Catalog::default().with_sources([("Any.avsc".to_owned(), text)]).expect("a schema");
    let fields: Data = [("f".to_owned(), valid)].into_iter().collect();
    let mut bytes = catalog.encode("Any", &fields).expect("encode");
    bytes.truncate(10);
    bytes.extend_from_slice(body);
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    assert!(catalog.decode(&bytes).is_err(), "{ty} from {} bytes", body.len());
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert!(peak <= DECODED_LIMIT_BYTES * SLACK, "{ty} took {peak} bytes");
}

#[test]
fn what_reading_allocates_is_bounded() {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let billion = [0x80, 0xa8, 0xd6, 0xb9, 0x07];
    let negative = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00];
    let empty = json!({ "type": "record", "name": "Empty", "fields": [] });
    for claim in [&huge[..], &billion[..], &negative[..]] {
        for items in [json!("null"), json!("long"), json!("string"), empty.clone()] {
            check_bounded(json!({ "type": "array", "items": items }), json!([]), claim);
            check_bounded(json!({ "type": "map", "values": items }), json!({}), claim);
        }
        let lists = json!({ "type": "array", "items": { "type": "array", "items": "null" } });
        check_bounded(lists, json!([]), claim);
        check_bounded(json!("string"), json!(""), claim);
        check_bounded(json!("bytes"), json!(""), claim);
    }
    // A mebibyte that is what it says: a million empty lists, each of which takes more memory than bytes.
    let mut lists = vec![0x80, 0x80, 0x80, 0x01];
    lists.resize(1024 * 1024, 0);
    check_bounded(
        json!({ "type": "array", "items": { "type": "array", "items": "long" } }),
        json!([]),
        &lists,
    );
}
