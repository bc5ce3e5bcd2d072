//! Hostile bytes may claim anything: what reading them allocates stays within a small multiple of the limit.
//!
//! One test in a file of its own, because it watches the whole process's allocator: bytes that claim the worst that we
//! could think of, then random ones.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
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
    let (read, peak) = watched(|| catalog.decode(&bytes).is_ok());
    assert!(!read, "{ty} from {} bytes", body.len());
    assert!(peak <= DECODED_LIMIT_BYTES * SLACK, "{ty} took {peak} bytes");
}

/// What it gives, and how many bytes more than before were in use at once.
fn watched<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let done = work();
    (done, PEAK.load(Ordering::Relaxed) - before)
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
    random_messages_are_bounded();
}

/// How many random messages of each schema are read.
const CASES: usize = 400;
/// What an error's text and a few fields may take however short the message is.
const SMALL_BYTES: usize = 64 * 1024;
/// A byte of a message may stand for a list's item or a map's entry, which take more room in memory.
const ROOM_PER_BYTE: usize = 512;

/// A part of a hostile message: bytes, or a number that claims to be a length.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let claim = prop_oneof![any::<i64>(), -70_000_i64..70_000, -3_i64..3].prop_map(|number| {
        let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    });
    prop_oneof![3 => claim, 2 => prop::collection::vec(any::<u8>(), 0..40)]
}

/// Messages that begin as those of a schema do, and those that do not: however they lie about their lengths, the room that
/// reading takes is in proportion to what they are long.
fn random_messages_are_bounded() {
    let lists = json!({ "type": "record", "name": "Lists", "fields": [
        { "name": "maps", "type": { "type": "map", "values": { "type": "array", "items": "string" } } },
        { "name": "lists", "type": { "type": "array", "items": { "type": "array", "items": ["null", "bytes"] } } },
    ] });
    let lists = [("Lists.avsc".to_owned(), lists.to_string())];
    let catalog = Catalog::shipped().with_sources(lists).expect("a schema");
    let mut runner = TestRunner::default();
    for name in catalog.message_types() {
        let header = header(&catalog, name);
        for _ in 0..CASES {
            let parts = (prop::collection::vec(part(), 0..12), any::<Option<(Index, u8)>>());
            let (parts, broken) = parts.new_tree(&mut runner).expect("parts").current();
            let mut bytes = [header.clone(), parts.concat()].concat();
            if let Some((at, byte)) = broken {
                *at.get_mut(&mut bytes) = byte;
            }
            let (_, peak) = watched(|| drop(catalog.decode(&bytes)));
            assert!(
                peak <= SMALL_BYTES + bytes.len() * ROOM_PER_BYTE,
                "{peak} bytes for {name}: {bytes:02x?}"
            );
        }
    }
}

/// What every message of a record begins with.
fn header(catalog: &Catalog, name: &str) -> Vec<u8> {
    let shape = catalog.record(name).expect("it is listed");
    let fields = shape.fields().iter().map(|field| (field.name().to_owned(), sample(field.ty())));
    catalog.encode(name, &fields.collect()).expect("it fits")[..10].to_vec()
}

fn sample(ty: &schemas::FieldType) -> Value {
    use schemas::FieldType;
    match ty {
        FieldType::Uuid => json!("0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"),
        FieldType::Union(_) => Value::Null,
        FieldType::Int | FieldType::Long | FieldType::Time(_) => json!(1),
        FieldType::Map(_) => json!({}),
        FieldType::Array(_) => json!([]),
        _ => json!("text"),
    }
}
