//! Server-sent events: every transition as it is committed, of one saga or of all. An event's id is a place to resume
//! from: a saga's revision, or how far each shard's journal has been told.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use saga_defs::ids::SagaId;
use saga_defs::saga::Status;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use utoipa::ToSchema;

use super::app::App;
use super::document::{NamedProblems, Problems};
use super::feed::{PAGE, Place, Telling, Told, advance, follows, is_after};
use super::line::{Ended, Line, Slot, last_event_id, nothing_comes};
use super::mount::Asked;
use super::problem::{Answer, Kind, Problem};
use super::sagas::{find, item};
use super::wire::StatusView;
use crate::store::tail::TailRow;

/// One transition of a saga, as it is told to those who listen.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SagaEvent {
    #[schema(format = Uuid)]
    saga_id: String,
    /// Its definition's name; null where the saga has left meanwhile.
    #[schema(required)]
    definition: Option<String>,
    #[schema(required)]
    version: Option<u32>,
    /// The saga's revision afterwards.
    revision: i32,
    #[schema(format = DateTime)]
    at: String,
    /// What happened: an object with a `type`.
    #[schema(value_type = Object)]
    event: Value,
    /// What was to be done about it: each an object with a `type`.
    #[schema(value_type = Vec<Object>)]
    effects: Value,
    /// The saga's status afterwards.
    #[schema(value_type = StatusView)]
    status: String,
}

/// Tells every transition of a saga, from the first on, until it has ended.
#[utoipa::path(
    get, path = "/api/sagas/{sagaId}/events", tag = "Sagas", operation_id = "watchSaga",
    params(
        ("sagaId" = String, Path, description = "The saga's id.", format = Uuid),
        ("Last-Event-ID" = Option<i32>, Header, description = "Only what comes after this revision; each event's id is its revision."),
    ),
    responses(
        (status = 200, description = "Events `transition`, each with a SagaEvent as its data. The stream ends with the saga.", body = SagaEvent, content_type = "text/event-stream"),
        (status = 204, description = "The saga has ended, and nothing comes after this revision."),
        (status = 410, description = "The journal no longer has what comes after this revision.", body = super::problem::ProblemView, content_type = "application/problem+json"),
        NamedProblems,
    ),
)]
pub(crate) async fn watch_saga(app: Arc<App>, asked: Asked) -> Answer {
    asked.no_query()?;
    let after = match last_event_id(&asked)? {
        Some(text) => text.parse::<u32>().ok().and_then(|revision| i32::try_from(revision).ok()),
        None => Some(0),
    };
    let stored = find(&app, &asked).await?;
    let (saga, now) = (stored.saga.id, i32::try_from(stored.saga.revision.0).unwrap_or(i32::MAX));
    let Some(after) = after.filter(|after| *after <= now) else {
        let text = format!("Last-Event-ID must be a revision that the saga has had: 0 to {now}");
        return Err(Problem::new(Kind::BadHeader, text).of(saga));
    };
    if stored.saga.status().is_final() && after == now {
        return Ok(nothing_comes());
    }
    let slot = Slot::take(&app, "saga")?;
    let (receiver, listens_from) = app.feed.saga(saga, now);
    let rows = if after < listens_from { app.api.reads.moved(&[(saga, after)]).await? } else { Vec::new() };
    if after < listens_from && rows.first().is_none_or(|row| row.revision != after + 1) {
        return Err(gone("revision").of(saga));
    }
    let (line, response) = Line::open(app, slot);
    let told = line.one(saga, after, rows, receiver, listens_from);
    tokio::spawn(told);
    Ok(response)
}

/// Tells every transition of every saga as it is committed, whichever process moves it.
#[utoipa::path(
    get, path = "/api/sagas/events", tag = "Sagas", operation_id = "watchSagas",
    params(
        ("definition" = Option<String>, Query, description = "Of sagas of this definition only."),
        ("status" = Option<StatusView>, Query, description = "Of sagas that come into this status only."),
        ("Last-Event-ID" = Option<String>, Header, description = "What has been committed since that event; without it, what is committed from now on."),
    ),
    responses(
        (status = 200, description = "Events `transition`, each with a SagaEvent as its data. A saga's are in order.", body = SagaEvent, content_type = "text/event-stream"),
        (status = 410, description = "The journal no longer has all that comes after this place.", body = super::problem::ProblemView, content_type = "application/problem+json"),
        Problems,
    ),
)]
pub(crate) async fn watch_sagas(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let filter = Filter { definition: query.text("definition"), status: query.status("status") };
    query.done()?;
    let asked_for = last_event_id(&asked)?.map(str::to_owned);
    let slot = Slot::take(&app, "sagas")?;
    let place = match &asked_for {
        Some(text) => Some(resumed(&app, text).await?),
        None => None,
    };
    let listens = app.feed.everything().await?;
    let (line, response) = Line::open(app, slot);
    tokio::spawn(line.all(place, listens, filter));
    Ok(response)
}

fn gone(what: &str) -> Problem {
    let text = format!(
        "the journal no longer has all that comes after this {what}; read what is there now, then listen without \
         Last-Event-ID"
    );
    Problem::new(Kind::Gone, text)
}

/// The place that a client wants to go on from, if the journal still has what comes after it.
async fn resumed(app: &App, text: &str) -> Result<Place, Problem> {
    let ends = app.api.reads.ends().await?;
    let possible =
        |place: &Place| place.len() == ends.len() && place.iter().zip(&ends).all(|(seq, end)| seq <= end);
    let place = place_from(text).filter(possible).ok_or_else(|| {
        Problem::new(Kind::BadHeader, "Last-Event-ID is not the id of an event that came from here")
    })?;
    let beginnings = app.api.reads.beginnings().await?;
    let lost =
        place.iter().zip(beginnings).zip(&ends).any(|((seq, first), end)| seq < end && seq + 1 < first);
    if lost { Err(gone("place")) } else { Ok(place) }
}

/// A place as an event's id: a number of variable length per shard, in base64.
fn id_of(place: &Place) -> String {
    let mut bytes = Vec::with_capacity(place.len() * 4);
    for seq in place {
        let mut left = u64::try_from(*seq).unwrap_or(0);
        while left >= 0x80 {
            bytes.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

fn place_from(text: &str) -> Option<Place> {
    let (mut place, mut seq, mut shift) = (Vec::new(), 0_u64, 0_u32);
    for byte in URL_SAFE_NO_PAD.decode(text).ok()? {
        if shift > 56 {
            return None;
        }
        seq |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            place.push(i64::try_from(seq).ok()?);
            (seq, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(place)
}

/// Which transitions a client wants.
struct Filter {
    definition: Option<String>,
    status: Option<Status>,
}

impl Filter {
    fn wants(&self, row: &TailRow) -> bool {
        let definition = row.definition.as_ref().map(|definition| &*definition.name);
        row.saga.is_some()
            && self.definition.as_deref().is_none_or(|wanted| definition == Some(wanted))
            && self.status.is_none_or(|wanted| row.status == wanted.as_str())
    }
}

impl Line {
    /// One saga, from a revision on: the rows that are there, then what is received.
    async fn one(
        self,
        saga: SagaId,
        after: i32,
        rows: Vec<TailRow>,
        receiver: Receiver<Told>,
        until: i32,
    ) -> Result<(), Ended> {
        self.opening(&after.to_string()).await?;
        let (mut at, mut rows, mut receiver) = (after, rows, receiver);
        let mut ended = false;
        while at < until {
            if rows.is_empty() {
                return Err(Ended);
            }
            for row in std::mem::take(&mut rows) {
                (at, ended) = (row.revision, is_last(&row));
                self.tell(&Telling::new(row), &at.to_string()).await?;
            }
            if at < until {
                rows = self.app.api.reads.moved(&[(saga, at)]).await?;
            }
        }
        let mut quiet = self.quiet();
        while !ended {
            let Some(told) = self.next(&mut receiver, &mut quiet).await? else {
                self.beat(":\n\n".to_owned());
                continue;
            };
            // Else it was told already while this one caught up.
            if told.row.revision > at {
                (at, ended) = (told.row.revision, is_last(&told.row));
                self.tell(&told, &at.to_string()).await?;
                quiet.reset();
            }
        }
        Ok(())
    }

    /// All sagas, from a place on.
    async fn all(
        self,
        place: Option<Place>,
        listens: (Receiver<Told>, Place),
        filter: Filter,
    ) -> Result<(), Ended> {
        let (mut receiver, joined) = listens;
        let mut at = place.unwrap_or_else(|| joined.clone());
        self.opening(&id_of(&at)).await?;
        let mut until = joined;
        loop {
            let behind: i64 = at.iter().zip(&until).map(|(at, until)| (until - at).max(0)).sum();
            let far = behind > i64::try_from(PAGE).unwrap_or(i64::MAX);
            self.catch_up(&mut at, &until, &filter).await?;
            if !far {
                break;
            }
            // Meanwhile more was told than is kept for one who does not listen.
            (receiver, until) = self.app.feed.everything().await?;
        }
        let mut quiet = self.quiet();
        loop {
            let Some(told) = self.next(&mut receiver, &mut quiet).await? else {
                // With the place, so that one who resumes need not pass over again what was of no interest.
                self.beat(format!(":\nid:{}\n\n", id_of(&at)));
                continue;
            };
            if is_after(&at, &told.row) {
                advance(&mut at, &told.row);
                if filter.wants(&told.row) {
                    self.tell(&told, &id_of(&at)).await?;
                    quiet.reset();
                }
            }
        }
    }

    /// Tells what the journal has between two places, page by page, as fast as the client reads.
    async fn catch_up(&self, at: &mut Place, until: &Place, filter: &Filter) -> Result<(), Ended> {
        while at.iter().zip(until).any(|(at, until)| at < until) {
            let rows = self.app.feed.page(at, until).await?;
            if rows.is_empty() || !follows(at, &rows) {
                return Err(Ended);
            }
            for row in rows {
                advance(at, &row);
                if filter.wants(&row) {
                    self.tell(&Telling::new(row), &id_of(at)).await?;
                }
            }
        }
        Ok(())
    }

    /// When to send a sign of life next; to be reset whenever something is sent.
    fn quiet(&self) -> Interval {
        let beat = self.app.heartbeat;
        let mut quiet = interval_at(Instant::now() + beat, beat);
        quiet.set_missed_tick_behavior(MissedTickBehavior::Delay);
        quiet
    }

    /// The next transition; `None`: it is time for a sign of life.
    async fn next(&self, receiver: &mut Receiver<Told>, quiet: &mut Interval) -> Result<Option<Told>, Ended> {
        tokio::select! {
            biased;
            () = self.app.stop.cancelled() => Err(Ended),
            () = self.closed() => Err(Ended),
            // Before what is received: there may always be something, and nothing of it wanted here.
            _ = quiet.tick() => Ok(None),
            told = receiver.recv() => match told {
                Ok(told) => Ok(Some(told)),
                // The client is too far behind.
                Err(RecvError::Lagged(_)) => {
                    self.cut();
                    Err(Ended)
                }
                Err(RecvError::Closed) => Err(Ended),
            },
        }
    }

    async fn tell(&self, told: &Telling, id: &str) -> Result<(), Ended> {
        let text = told.text.get_or_init(|| text(&self.app, &told.row)).await;
        self.event("transition", id, text).await
    }
}

/// Whether the saga has ended with this transition.
fn is_last(row: &TailRow) -> bool {
    Status::parse(&row.status).is_some_and(Status::is_final)
}

/// A transition as JSON, in one line.
async fn text(app: &App, row: &TailRow) -> Bytes {
    // Without it the steps have numbers instead of names.
    let definition = match &row.definition {
        Some(id) => app.definition(id).await.ok().flatten(),
        None => None,
    };
    let saga = row.saga.unwrap_or_else(|| SagaId::from_uuid(uuid::Uuid::nil()));
    let told = item(saga, definition.as_deref(), row.revision, row.at, &row.event, &row.effects);
    let view = SagaEvent {
        saga_id: saga.to_string(),
        definition: row.definition.as_ref().map(|id| id.name.to_string()),
        version: row.definition.as_ref().map(|id| id.version),
        revision: row.revision,
        at: told.at,
        event: told.event,
        effects: told.effects,
        status: row.status.clone(),
    };
    serde_json::to_vec(&view).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_after_its_way_through_an_id() {
        for place in [vec![], vec![0], vec![0, 127, 128, 16_383, 16_384, i64::MAX], vec![3; 64]] {
            assert_eq!(place_from(&id_of(&place)), Some(place));
        }
        assert!(id_of(&vec![1_000_000; 64]).len() <= 256, "short enough for a header");
    }

    #[test]
    fn what_is_no_place_is_none() {
        for wrong in ["!", "gA", "____________________", "AAA="] {
            assert_eq!(place_from(wrong), None, "{wrong}");
        }
    }
}
