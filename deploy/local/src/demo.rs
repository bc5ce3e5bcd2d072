//! Two bookings, and what happens to them as it happens.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use saga_defs::definition::Definition;
use saga_defs::ids::SagaId;
use saga_defs::render::{Columns, Entry, describe};
use saga_defs::saga::{Effect, Event, Outcome, Reason, Refusal, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::client::Client;
use crate::terminal::{Style, Terminal, short};

/// How often the history is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// A booking of the demo has ended by then, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// One booking to be shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    pub(crate) title: &'static str,
    pub(crate) forced: Option<&'static str>,
    pub(crate) expected: Status,
}

/// The two bookings that every start shows.
pub(crate) const SHOWS: [Show; 2] = [
    Show { title: "A booking that completes", forced: None, expected: Status::Completed },
    Show {
        title: "A booking whose payment is declined, so that its reservation is undone",
        forced: Some("declined"),
        expected: Status::Compensated,
    },
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Booking {
    booking_id: SagaId,
    status: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct History {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    at: String,
    event: Value,
    effects: Vec<Value>,
    status: Status,
}

#[derive(Deserialize)]
struct SagaSeen {
    status: Status,
    reason: Option<ReasonSeen>,
}

#[derive(Deserialize)]
struct ReasonSeen {
    code: String,
    message: String,
}

/// Starts the booking, prints each of its transitions, and says how it ended: whether as expected, and under which id.
pub(crate) async fn run(
    client: &mut Client,
    definition: &Definition,
    show: Show,
    terminal: Terminal,
) -> Result<(SagaId, bool)> {
    terminal.head(show.title);
    let body = json!({"userId": Uuid::new_v4(), "resourceId": Uuid::new_v4(), "amountMinor": 4_200});
    let headers: Vec<_> = show.forced.iter().map(|forced| ("x-forced-payment-outcome", *forced)).collect();
    let booking: Booking = client.post("/api/bookings", &headers, body.to_string()).await?.json()?;
    let id = booking.booking_id;
    let forced = show.forced.map(|forced| format!(", x-forced-payment-outcome: {forced}"));
    let dim = |text: &str| terminal.paint(Style::Dim, text);
    terminal.say(&format!("  {}", dim(&format!("POST /api/bookings{}: {id}", forced.unwrap_or_default()))));
    let status = follow(client, definition, id, terminal).await?;
    let booking: Booking = client.get(&format!("/api/bookings/{id}")).await?.json()?;
    let reason = booking.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let fine = status == show.expected;
    let style = if fine { Style::Green } else { Style::Red };
    let said = terminal.paint(style, &format!("{}{reason}", booking.status));
    terminal.say(&format!("  GET /api/bookings/{id}: {said}"));
    if !fine {
        let (expected, status) = (show.expected.as_str(), status.as_str());
        terminal
            .say(&terminal.paint(Style::Red, &format!("  it should have ended {expected}, not {status}")));
    }
    Ok((id, fine))
}

async fn follow(
    client: &mut Client,
    definition: &Definition,
    id: SagaId,
    terminal: Terminal,
) -> Result<Status> {
    let columns = Columns::for_definition(definition);
    let (begun, mut first, mut shown) = (Instant::now(), None, 0);
    loop {
        let History { items } = client.get(&format!("/api/sagas/{id}/history")).await?.json()?;
        let saga: SagaSeen = client.get(&format!("/api/sagas/{id}")).await?.json()?;
        let reason = saga
            .reason
            .map(|reason| Reason { refusal: Refusal::new(&reason.code, reason.message), step: None });
        for item in &items[shown.min(items.len())..] {
            let event: Event = read(definition, &item.event)?;
            let effects = item.effects.iter().map(|effect| read(definition, effect));
            let effects = effects.collect::<Result<Vec<Effect>>>()?;
            let entry = Entry {
                saga: id,
                event: &event,
                effects: &effects,
                status: item.status,
                reason: reason.as_ref(),
            };
            let line = columns.line(&describe(definition, &entry));
            let at = OffsetDateTime::parse(&item.at, &Rfc3339)?;
            let after = short(Duration::try_from(at - *first.get_or_insert(at)).unwrap_or_default());
            let after = terminal.paint(Style::Dim, &format!("{after:>9}"));
            terminal.say(&format!("  {after}  {}", terminal.paint(style(&event, &effects), &line)));
        }
        shown = shown.max(items.len());
        if let Some(last) = items.last().map(|item| item.status)
            && (last.is_final() || last == Status::Stuck)
        {
            return Ok(last);
        }
        if begun.elapsed() > PATIENCE {
            bail!("saga {id} is still {} after {} s", saga.status.as_str(), PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The API names steps; the core numbers them.
fn read<T: serde::de::DeserializeOwned>(definition: &Definition, entry: &Value) -> Result<T> {
    let mut entry = entry.clone();
    if let Some(step) = entry.get_mut("step")
        && let Some(position) =
            step.as_str().and_then(|name| definition.steps.iter().position(|known| *known.name == *name))
    {
        *step = position.into();
    }
    serde_json::from_value(entry).context("the history holds something unknown")
}

fn style(event: &Event, effects: &[Effect]) -> Style {
    for effect in effects {
        match effect {
            Effect::AnnounceEnd { status: Status::Completed } => return Style::Green,
            Effect::AnnounceEnd { .. } => return Style::Blue,
            Effect::DeadLetter { .. } => return Style::Red,
            _ => {}
        }
    }
    match event {
        Event::Replied { outcome: Outcome::Rejected { .. }, .. } => Style::Red,
        Event::Replied { outcome: Outcome::Failed { .. }, .. } | Event::TimedOut(_) => Style::Yellow,
        _ => Style::Plain,
    }
}
