//! The second half of the loop: replies, events and dead letters out, and only then the offsets.
//!
//! Sagas wait for replies; nobody waits for domain events. So replies leave as soon as they are committed, whatever is still
//! on its way, and the events of a batch follow those of the batch before. Events are not kept back to be gathered: one
//! whose reply is out and that is not, is lost when worker and broker are lost together.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::TryFutureExt as _;
use futures::stream::FuturesOrdered;
use messaging::{AckedProducer, Consumer, PublishError, Received, Record};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::crash::{self, Point};
use crate::dead_letter::{Letters, Reason};
use crate::traces;
use crate::vitals::Vitals;

/// How many batches may be on their way to the broker, and as many to be sent; the next one waits before it is handed
/// over.
pub(crate) const UNACKNOWLEDGED_BATCHES: usize = 4;
/// How long the last commit of offsets may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// A topic, a partition, and the offset to go on from.
pub(crate) type NextOffset = (Arc<str>, i32, i64);

/// What is to be sent for the records of a batch.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// Replies and dead letters.
    pub(crate) replies: Vec<Outgoing>,
    pub(crate) events: Vec<Outgoing>,
    /// The topics, partitions and next offsets that the batch completes.
    pub(crate) offsets: Vec<NextOffset>,
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
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) letters: Letters,
    pub(crate) vitals: Arc<Vitals>,
    /// Ends the waiting for acknowledgements; what is not acknowledged then is done again after the next start.
    pub(crate) give_up: CancellationToken,
    /// Held while events are on their way: those of the next batch wait, so that no failure changes their order.
    pub(crate) events: Mutex<()>,
}

impl Publisher {
    /// Works until the channel is closed and empty, commits the last offsets, and gives back the consumer.
    ///
    /// # Errors
    /// The producer failed for good.
    pub(crate) async fn run(
        self,
        publications: mpsc::Receiver<Publication>,
    ) -> (Arc<Consumer>, Result<(), PublishError>) {
        let published = self.publish_all(publications).await;
        if matches!(published, Ok(()) | Err(PublishError::Stopped))
            && let Err(error) = self.consumer.flush_commits(LAST_COMMIT).await
        {
            tracing::info!(%error, "the last offsets were not committed; their commands will be answered again");
        }
        (self.consumer, if matches!(published, Err(PublishError::Stopped)) { Ok(()) } else { published })
    }

    /// Publishes what comes, and commits the offsets of what is acknowledged, in order.
    async fn publish_all(&self, mut publications: mpsc::Receiver<Publication>) -> Result<(), PublishError> {
        let mut sent = FuturesOrdered::new();
        let mut open = true;
        while open || !sent.is_empty() {
            tokio::select! {
                // First, so that each publication begins before the next one comes.
                biased;
                Some(done) = sent.next() => {
                    let offsets: Vec<NextOffset> = done?;
                    self.consumer.commit(&offsets);
                }
                publication = publications.recv(), if open && sent.len() < UNACKNOWLEDGED_BATCHES => {
                    match publication {
                        Some(publication) => sent.push_back(self.publish_batch(publication)),
                        None => open = false,
                    }
                }
            }
        }
        Ok(())
    }

    /// Publishes replies and events; gives the offsets that are done then. A saga's next command is sent when the reply
    /// to this one has come, so the replies of two batches may be on their way together.
    async fn publish_batch(&self, publication: Publication) -> Result<Vec<NextOffset>, PublishError> {
        let Publication { replies, events, offsets } = publication;
        let events = async {
            if events.is_empty() {
                return Ok(());
            }
            let _turn = self.events.lock().await;
            self.publish(events).await
        };
        let replies = self.publish(replies).inspect_ok(|()| crash::pass(Point::RepliesPublished));
        tokio::try_join!(events, replies)?;
        crash::pass(Point::BatchPublished);
        Ok(offsets)
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
        let (saga, trace) = (traces::saga_of(&of), traces::id_of(&of));
        tracing::error!(
            topic = &*of.topic,
            partition = of.partition,
            offset = of.offset,
            saga,
            trace,
            "{why}"
        );
        if refused.is_letter {
            outgoing.remove(index);
        } else {
            self.vitals.dead_letter(Reason::Unpublishable);
            *refused = Outgoing {
                record: self.letters.of_record(&of, Reason::Unpublishable, why),
                of,
                is_letter: true,
            };
        }
    }
}
