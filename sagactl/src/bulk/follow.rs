//! How far an act on many is, again and again.

use std::time::Duration;

use saga_client::{BulkAction, BulkActionId, Error, Events};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Kind;
use crate::failure::Failure;
use crate::output::note;
use crate::session::Session;
use crate::words::plain;

/// Between two looks, where there is nothing to listen to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An act on many as it goes on, until everything has its outcome.
pub(super) struct Follow<'a> {
    session: &'a Session,
    kind: Kind,
    id: BulkActionId,
    source: Source,
    ended: bool,
}

/// Where the news come from.
enum Source {
    /// The service tells.
    Told(Box<Events<BulkAction>>),
    /// It is asked: nobody tells.
    Asked(Interval),
}

impl<'a> Follow<'a> {
    pub(super) fn new(session: &'a Session, kind: Kind, id: BulkActionId) -> Self {
        Self { session, kind, id, source: Source::Told(Box::new(kind.watch(session, id))), ended: false }
    }

    /// As it is next; `None` after its end.
    pub(super) async fn next(&mut self) -> Result<Option<BulkAction>, Failure> {
        if self.ended {
            return Ok(None);
        }
        if let Source::Told(events) = &mut self.source {
            match events.next().await {
                Err(error) if !matches!(error, Error::Unreachable { .. }) => {
                    self.source = Source::Asked(asking(&error));
                }
                told => {
                    let told = self.kind.or_missing(self.session, told).await?;
                    self.ended = told.is_none();
                    return Ok(told);
                }
            }
        }
        if let Source::Asked(turns) = &mut self.source {
            turns.tick().await;
        }
        let found = self.kind.get(self.session, self.id).await;
        let found = self.kind.or_missing(self.session, found).await?;
        self.ended = found.finished_at.is_some();
        Ok(Some(found))
    }
}

/// How often it is asked now, after saying why.
fn asking(why: &Error) -> Interval {
    let mut turns = interval(LOOK_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Where it is not there at all, the first look says so.
    if !why.is_not_found() {
        let (seconds, why) = (LOOK_EVERY.as_secs(), plain(&why.to_string()));
        note(&format!("asking every {seconds} s, for there are no events to listen to: {why}"));
    }
    turns
}
