//! The second half of the loop: replies, events and dead letters out, and only then the offsets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use messaging::{AckedProducer, Consumer, PublishError, Received, Record};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::dead_letter::{Letters, Reason};

/// How many batches may wait for their acknowledgement; the next one waits before it is handed over.
pub(crate) const UNACKNOWLEDGED_BATCHES: usize = 4;
/// So many records are published in one go at most, when batches have piled up.
const MERGED_RECORDS: usize = 10_000;
/// How long the last commit of offsets may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What is to be sent for the records of a batch.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    pub(crate) records: Vec<Outgoing>,
    /// The topics, partitions and next offsets that the batch completes.
    pub(crate) offsets: Vec<(Arc<str>, i32, i64)>,
}

/// A record to be sent, and the command or poison record it answers.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) record: Record,
    pub(crate) of: Arc<Received>,
    /// A dead letter that cannot be sent is given up; of anything else that cannot, a dead letter is made.
    pub(crate) is_letter: bool,
}

/// Publishes one publication after the other.
pub(crate) struct Publisher {
    pub(crate) producer: AckedProducer,
    pub(crate) consumer: Consumer,
    pub(crate) letters: Letters,
    /// Ends the waiting for acknowledgements; what is not acknowledged then is done again after the next start.
    pub(crate) give_up: CancellationToken,
}

impl Publisher {
    /// Works until the channel is closed and empty, commits the last offsets, and gives back the consumer.
    ///
    /// # Errors
    /// The producer failed for good.
    pub(crate) async fn run(
        self,
        mut publications: mpsc::Receiver<Publication>,
    ) -> (Consumer, Result<(), PublishError>) {
        let mut last = HashMap::new();
        while let Some(mut publication) = publications.recv().await {
            while publication.records.len() < MERGED_RECORDS
                && let Ok(more) = publications.try_recv()
            {
                publication.records.extend(more.records);
                publication.offsets.extend(more.offsets);
            }
            match self.publish(publication.records).await {
                Ok(()) => {}
                Err(PublishError::Stopped) => break,
                Err(error) => return (self.consumer, Err(error)),
            }
            let next = furthest(publication.offsets);
            self.consumer.commit(&next);
            last.extend(next.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset)));
        }
        let last: Vec<_> =
            last.into_iter().map(|((topic, partition), offset)| (topic, partition, offset)).collect();
        if !last.is_empty()
            && let Err(error) = self.consumer.commit_and_wait(&last, LAST_COMMIT).await
        {
            tracing::info!(%error, "the last offsets were not committed; their commands will be answered again");
        }
        (self.consumer, Ok(()))
    }

    async fn publish(&self, mut outgoing: Vec<Outgoing>) -> Result<(), PublishError> {
        while !outgoing.is_empty() {
            let records = outgoing.iter().map(|outgoing| outgoing.record.clone()).collect();
            let (index, why) = match self.producer.publish(records, &self.give_up).await {
                Ok(_) => return Ok(()),
                Err(PublishError::TooLarge { index, topic, text }) => {
                    (index, format!("the answer to {topic} is too large: {text}"))
                }
                Err(PublishError::Refused { index, topic, text }) => {
                    (index, format!("the answer to {topic} was refused: {text}"))
                }
                Err(error) => return Err(error),
            };
            // The others go again, whether they were written or not: at least once is the promise.
            self.replace(&mut outgoing, index, &why);
        }
        Ok(())
    }

    /// Puts a dead letter of the command in the place of a record that will never be taken.
    fn replace(&self, outgoing: &mut Vec<Outgoing>, index: usize, why: &str) {
        let Some(refused) = outgoing.get_mut(index) else { return };
        let of = refused.of.clone();
        tracing::error!(topic = &*of.topic, partition = of.partition, offset = of.offset, "{why}");
        if refused.is_letter {
            outgoing.remove(index);
        } else {
            *refused = Outgoing {
                record: self.letters.of_record(&of, Reason::Unpublishable, why),
                of,
                is_letter: true,
            };
        }
    }
}

/// Of each partition the furthest offset.
fn furthest(offsets: Vec<(Arc<str>, i32, i64)>) -> Vec<(Arc<str>, i32, i64)> {
    let mut furthest: HashMap<(Arc<str>, i32), i64> = HashMap::with_capacity(8);
    for (topic, partition, next) in offsets {
        let known = furthest.entry((topic, partition)).or_insert(next);
        *known = next.max(*known);
    }
    furthest.into_iter().map(|((topic, partition), next)| (topic, partition, next)).collect()
}
