//! I10, I11: nothing grows without bounds, and whenever nothing disturbs, sagas come to their ends.

use std::time::Duration;

use saga_defs::time::Timestamp;

use super::{Violation, World, status, violation};

/// In each such window of a calm time something has to end, in milliseconds.
const WINDOW_MS: i64 = 5_000;
/// A process of the load that is run here needs a tenth of it.
const MOST_RESIDENT_MIB: u64 = 512;
/// More connections than any process has reason to hold, by far.
const MOST_FILES: u64 = 1_024;

/// For how long of a calm time it is judged whether there is progress.
pub fn judged((from, to): &(Timestamp, Timestamp)) -> Duration {
    let millis = (to.unix_millis() - from.unix_millis()).max(0) / WINDOW_MS * WINDOW_MS;
    Duration::from_millis(millis.unsigned_abs())
}

pub(super) fn judge(world: &World<'_>, found: &mut Vec<Violation>) {
    if !world.evidence.sagas.iter().any(|row| status(row) == "completed") {
        found.push(violation(11, "no progress", "nothing completed: that nothing works would not be seen"));
    }
    let mut ends: Vec<i64> =
        world.evidence.sagas.iter().filter_map(|row| Some(row.finished_at?.unix_millis())).collect();
    ends.sort_unstable();
    for (from, to) in &world.evidence.calm {
        let (mut from, to) = (from.unix_millis(), to.unix_millis());
        while from + WINDOW_MS <= to {
            let at = ends.partition_point(|end| *end < from);
            if ends.get(at).is_none_or(|end| *end >= from + WINDOW_MS) {
                let since = Timestamp::from_unix_millis(from);
                found.push(violation(11, "no progress", format!("nothing ended in the 5 s from {since}")));
            }
            from += WINDOW_MS;
        }
    }
    for used in &world.evidence.used {
        if used.resident_mib > MOST_RESIDENT_MIB || used.files > MOST_FILES {
            found.push(violation(10, "beyond its bounds", format!("{used:?}")));
        }
    }
}
