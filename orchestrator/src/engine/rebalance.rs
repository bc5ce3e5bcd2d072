//! Between the consumer's thread, which learns of rebalances, and the lane, which claims shards.

use std::io;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Weak};
use std::time::Duration;

use messaging::{Assignments, KafkaError, KafkaSettings, StartAt, topic_id};
use saga_defs::ids::Shard;
use tokio::sync::mpsc;

use super::INBOX;
use super::bus::Group;

/// How long the consumer's thread waits for the lane to let shards go. Nothing rests on it: the fence holds.
pub const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// How long the broker has to say which topic it is, before it is asked again.
const TOPIC_LIMIT: Duration = Duration::from_secs(3);
/// How often it is looked whether the topic is still the same one, while nothing is assigned.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long to wait then: a broker that refuses at once is not to be asked without a pause.
const ASK_AGAIN: Duration = Duration::from_millis(200);

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

    /// Asked at each assignment, until the broker answers: a topic that is made again leads to one, and an offset of the old
    /// one must not be read from. Meanwhile nothing is read, which needs the same broker. `None` if it has no ids.
    fn inbox(&self) -> Option<Arc<str>> {
        let ask = || topic_id(&self.kafka, INBOX, TOPIC_LIMIT);
        answered(ask, || !self.lane.is_closed()).map(Arc::from)
    }
}

/// Asks until there is an answer, or nobody waits for one any more.
fn answered(
    ask: impl Fn() -> Result<Option<String>, KafkaError>,
    is_awaited: impl Fn() -> bool,
) -> Option<String> {
    while is_awaited() {
        match ask() {
            Ok(id) => return id,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "whether {INBOX} was made again is not known; asking again");
                std::thread::sleep(ASK_AGAIN);
            }
        }
    }
    None
}

/// Looks now and then whether [`INBOX`] was made again, until the group is gone. A broker need not tell the group of it: one
/// that finds the name again, with as many partitions, goes on at its old offsets, and those are other records' by then. An
/// assignment asks which topic it is, so the group is joined anew.
///
/// A thread of its own, which nobody waits for: it may be asking a broker that is away when the process ends.
///
/// # Errors
/// There is no thread to be had.
pub fn watch_inbox(kafka: KafkaSettings, group: Weak<dyn Group>) -> io::Result<()> {
    let watch = move || {
        let mut known = None;
        while group.strong_count() > 0 {
            // One that does not answer is asked the next time. Meanwhile nothing here keeps the group from being left.
            let id = topic_id(&kafka, INBOX, TOPIC_LIMIT).ok().flatten();
            if is_another(&mut known, id)
                && let Some(group) = group.upgrade()
            {
                tracing::warn!("{INBOX} was deleted and made again; joining the group anew");
                group.rejoin();
            }
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new().name("inbox-topic".to_owned()).spawn(watch).map(drop)
}

/// Whether this is the id of another topic than the last one that was known.
fn is_another(known: &mut Option<String>, id: Option<String>) -> bool {
    let Some(id) = id else { return false };
    known.replace(id).is_some_and(|before| known.as_ref() != Some(&before))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_topic_that_was_made_again_has_another_id() {
        let mut known = None;
        let answers = [None, Some("a"), None, Some("a"), Some("b"), Some("b"), None, Some("c")];
        let seen = answers.map(|id| is_another(&mut known, id.map(str::to_owned)));
        assert_eq!(seen, [false, false, false, false, true, false, false, true]);
    }

    #[test]
    fn a_broker_that_does_not_say_which_topic_it_is_is_asked_again() {
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            let silent = || KafkaError::Unreachable {
                question: "the id".to_owned(),
                servers: "nowhere".to_owned(),
                source: None,
            };
            if asked.get() < 3 { Err(silent()) } else { Ok(Some("id".to_owned())) }
        };
        assert_eq!(answered(ask, || true).as_deref(), Some("id"));
        assert_eq!(asked.get(), 3);
        // The lane has ended.
        asked.set(0);
        assert_eq!(answered(ask, || asked.get() == 0), None);
        assert_eq!(asked.get(), 1);
    }
}
