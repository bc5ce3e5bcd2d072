//! Between the consumer's thread, which learns of rebalances, and the lane, which claims shards.

use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use messaging::{Assignments, KafkaSettings, StartAt, topic_id};
use saga_defs::ids::Shard;
use tokio::sync::mpsc;

use super::INBOX;

/// How long the consumer's thread waits for the lane to let shards go. Nothing rests on it: the fence holds.
pub const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// How long the broker has to say which topic it is. Without an answer it is taken for the one that it was.
const TOPIC_LIMIT: Duration = Duration::from_secs(3);

/// Something the lane has to know before another record is handed out.
#[derive(Debug)]
pub enum Rebalance {
    /// These shards are ours to claim; answer with where to start reading each (`None`: do not read it).
    Assigned {
        /// Of this and no other assignment are the records that follow.
        generation: u64,
        /// Which.
        shards: Vec<Shard>,
        /// The id of the topic [`INBOX`], if the broker tells one.
        inbox: Option<Arc<str>>,
        /// Where to start, in the same order.
        answer: blocking::SyncSender<Vec<Option<i64>>>,
    },
    /// The group was not heard of for longer than a session. Others may have our shards by now, which the fence tells, or
    /// nobody; what follows is an assignment.
    Lost,
    /// These shards are no longer ours.
    Revoked {
        /// Which.
        shards: Vec<Shard>,
        /// Whether the lane has let them go.
        done: blocking::SyncSender<()>,
    },
}

/// Passes rebalances to the lane and waits for it.
pub struct ToLane {
    lane: mpsc::UnboundedSender<Rebalance>,
    kafka: KafkaSettings,
}

impl ToLane {
    /// To this lane. The queue holds at most one message: the consumer's thread waits for each answer.
    pub const fn new(lane: mpsc::UnboundedSender<Rebalance>, kafka: KafkaSettings) -> Self {
        Self { lane, kafka }
    }

    /// Asked at each assignment: a topic that is made again leads to one.
    fn inbox(&self) -> Option<Arc<str>> {
        match topic_id(&self.kafka, INBOX, TOPIC_LIMIT) {
            Ok(id) => id.map(Arc::from),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "whether {INBOX} was made again is not known");
                None
            }
        }
    }
}

fn shards(partitions: &[(Arc<str>, i32)]) -> Vec<Shard> {
    partitions.iter().map(|(_, partition)| Shard(u16::try_from(*partition).unwrap_or(u16::MAX))).collect()
}

impl Assignments for ToLane {
    fn assigned(&self, generation: u64, partitions: &[(Arc<str>, i32)]) -> Vec<StartAt> {
        let (answer, answered) = blocking::sync_channel(1);
        let inbox = if partitions.is_empty() { None } else { self.inbox() };
        let message = Rebalance::Assigned { generation, shards: shards(partitions), inbox, answer };
        if self.lane.send(message).is_err() {
            return vec![StartAt::Skip; partitions.len()];
        }
        // However long the database is away: giving up would leave the partitions unread with nobody to notice. After
        // the group's own limit it gives them to another member, or to us again.
        match answered.recv() {
            Ok(offsets) => {
                offsets.into_iter().map(|offset| offset.map_or(StartAt::Skip, StartAt::Offset)).collect()
            }
            // The lane has ended, and the process is about to.
            Err(_) => vec![StartAt::Skip; partitions.len()],
        }
    }

    fn revoked(&self, _generation: u64, partitions: &[(Arc<str>, i32)]) {
        let (done, finished) = blocking::sync_channel(1);
        if self.lane.send(Rebalance::Revoked { shards: shards(partitions), done }).is_ok() {
            // The fence holds whether or not the lane answers in time.
            let _ = finished.recv_timeout(RELEASE_LIMIT);
        }
    }

    fn lost(&self, _generation: u64, _partitions: &[(Arc<str>, i32)]) {
        // Without a lane the process is about to end.
        let _ = self.lane.send(Rebalance::Lost);
    }
}
