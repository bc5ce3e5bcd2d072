//! The second half of the loop: replies, events and dead letters out, and only then the offsets.
//!
//! Sagas wait for replies; nobody waits for domain events. A request to the broker carries the records of one partition,
//! and events are spread over all partitions of their topics: sent with every batch, they would be most of the requests.
//! So replies leave at once, and events are gathered for a moment.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use messaging::{AckedProducer, Consumer, PublishError, Received, Record};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::dead_letter::{Letters, Reason};

/// How many batches may wait for the acknowledgement of their replies, and as many to be sent; the next one waits before
/// it is handed over.
pub(crate) const UNACKNOWLEDGED_BATCHES: usize = 4;
/// How long events are gathered before they are published.
const GATHER: Duration = Duration::from_millis(50);
/// When so many events are gathered, they are published at once.
const GATHERED_RECORDS: usize = 1_000;
/// How many publications may wait, answered, while gathered events are on their way.
const WAITING_PUBLICATIONS: usize = 16;
/// How long the last commit of offsets may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What is to be sent for the records of a batch.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// Replies and dead letters.
    pub(crate) replies: Vec<Outgoing>,
    pub(crate) events: Vec<Outgoing>,
    /// The topics, partitions and next offsets that the batch completes.
    pub(crate) offsets: Vec<(Arc<str>, i32, i64)>,
}

impl Publication {
    fn extend(&mut self, more: Self) {
        self.replies.extend(more.replies);
        self.events.extend(more.events);
        self.offsets.extend(more.offsets);
    }
}

/// A record to be sent, and the command or poison record it answers.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) record: Record,
    pub(crate) of: Arc<Received>,
    /// A dead letter that cannot be sent is given up; of anything else that cannot, a dead letter is made.
    pub(crate) is_letter: bool,
}

impl Borrow<Record> for Outgoing {
    fn borrow(&self) -> &Record {
        &self.record
    }
}

/// Publishes publications in their order.
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
        publications: mpsc::Receiver<Publication>,
    ) -> (Consumer, Result<(), PublishError>) {
        let (answered, queue) = mpsc::channel(WAITING_PUBLICATIONS);
        let (replies, events) =
            tokio::join!(self.publish_replies(publications, answered), self.publish_events(queue));
        let published = replies.and(events);
        (self.consumer, if matches!(published, Err(PublishError::Stopped)) { Ok(()) } else { published })
    }

    /// Publishes replies and dead letters; hands on what is acknowledged, in order. A batch does not wait for the one
    /// before: a saga's next command is sent when the reply to this one has come, so no reply can overtake another.
    async fn publish_replies(
        &self,
        mut publications: mpsc::Receiver<Publication>,
        answered: mpsc::Sender<Publication>,
    ) -> Result<(), PublishError> {
        let mut sent = FuturesOrdered::new();
        let mut open = true;
        while open || !sent.is_empty() {
            tokio::select! {
                biased;
                Some(done) = sent.next() => {
                    if answered.send(done?).await.is_err() {
                        break;
                    }
                }
                publication = publications.recv(), if open && sent.len() < UNACKNOWLEDGED_BATCHES => {
                    match publication {
                        Some(publication) => sent.push_back(self.publish_replies_of(publication)),
                        None => open = false,
                    }
                }
            }
        }
        Ok(())
    }

    async fn publish_replies_of(&self, mut publication: Publication) -> Result<Publication, PublishError> {
        self.publish(std::mem::take(&mut publication.replies)).await?;
        Ok(publication)
    }

    /// Publishes the events of answered publications; commits the offsets of what is acknowledged.
    async fn publish_events(&self, mut answered: mpsc::Receiver<Publication>) -> Result<(), PublishError> {
        let mut published = Ok(());
        while let Some(mut publication) = answered.recv().await {
            let until = Instant::now() + GATHER;
            while publication.events.len() < GATHERED_RECORDS
                && let Ok(Some(more)) = timeout_at(until, answered.recv()).await
            {
                publication.extend(more);
            }
            published = self.publish(publication.events).await;
            if published.is_err() {
                break;
            }
            self.consumer.commit(&furthest(publication.offsets));
        }
        if matches!(published, Ok(()) | Err(PublishError::Stopped))
            && let Err(error) = self.consumer.flush_commits(LAST_COMMIT).await
        {
            tracing::info!(%error, "the last offsets were not committed; their commands will be answered again");
        }
        published
    }

    async fn publish(&self, mut outgoing: Vec<Outgoing>) -> Result<(), PublishError> {
        while !outgoing.is_empty() {
            let (index, why) = match self.producer.publish(&outgoing, &self.give_up).await {
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
