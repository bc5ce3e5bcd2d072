//! I9: a shard's commits go from owner to owner, and no owner commits after the next one has claimed.

use std::collections::HashMap;

use super::{Violation, violation};
use crate::oracle::evidence::Update;

/// A shard as it was left by its last update.
struct Held<'a> {
    epoch: i64,
    process: &'a str,
    seq: i64,
    published: i64,
}

pub(super) fn judge(updates: &[Update], found: &mut Vec<Violation>) {
    let mut shards: HashMap<i32, Held<'_>> = HashMap::new();
    for update in updates {
        let Update { shard, epoch, process, seq, published, .. } = update;
        if let Some(held) = shards.get(shard) {
            if *epoch < held.epoch {
                let detail = format!("shard {shard}: epoch {epoch} of {process} after {}", held.epoch);
                found.push(violation(9, "epoch went back", detail));
            } else if *epoch == held.epoch && *process != held.process {
                let detail =
                    format!("shard {shard}, epoch {epoch}: {process} commits while {} owns it", held.process);
                found.push(violation(9, "epochs interleave", detail));
            }
            if seq.0 != held.seq {
                let detail = format!("shard {shard}: {process} went on from seq {}, not {}", seq.0, held.seq);
                found.push(violation(9, "sequence not taken on", detail));
            }
            if *published < held.published {
                let detail = format!("shard {shard}: from {} to {published}", held.published);
                found.push(violation(9, "watermark went back", detail));
            }
        }
        shards.insert(
            *shard,
            Held { epoch: *epoch, process: process.as_str(), seq: seq.1, published: *published },
        );
    }
}
