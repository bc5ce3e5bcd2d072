//! How far an act on many is, as server-sent events: the whole of it at first and after each change, until everything has
//! its outcome. Each event says all there is to say, so nothing is lost by a client that comes back later.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::app::App;
use super::bulk::{find, id};
use super::bulk_view::ActionView;
use super::document::NamedProblems;
use super::line::{Ended, Line, Slot, last_event_id, nothing_comes};
use super::mount::Asked;
use super::problem::Answer;
use crate::store::bulk::Subject;

/// How often the row is looked at while somebody listens: a client sees a change so much later at most. Another process
/// may drive the action, so the table is what both know.
const LOOK: Duration = Duration::from_millis(250);

/// Tells how far a redrive is, until everything has its outcome.
#[utoipa::path(
    get, path = "/api/redrives/{id}/events", tag = "Redrives", operation_id = "watchRedrive",
    params(
        ("id" = String, Path, description = "The redrive's id.", format = Uuid),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the event that was heard last: it is not told again."),
    ),
    responses(
        (status = 200, description = "Events `progress`, each with a BulkAction as its data. The stream ends with the redrive.", body = ActionView, content_type = "text/event-stream"),
        (status = 204, description = "Everything has its outcome, and that was heard."),
        NamedProblems,
    ),
)]
pub(crate) async fn watch_redrive(app: Arc<App>, asked: Asked) -> Answer {
    watch(app, &asked, Subject::Letter).await
}

/// Tells how far an action is, until everything has its outcome.
#[utoipa::path(
    get, path = "/api/saga-actions/{id}/events", tag = "Saga actions", operation_id = "watchSagaAction",
    params(
        ("id" = String, Path, description = "The action's id.", format = Uuid),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the event that was heard last: it is not told again."),
    ),
    responses(
        (status = 200, description = "Events `progress`, each with a BulkAction as its data. The stream ends with the action.", body = ActionView, content_type = "text/event-stream"),
        (status = 204, description = "Everything has its outcome, and that was heard."),
        NamedProblems,
    ),
)]
pub(crate) async fn watch_saga_action(app: Arc<App>, asked: Asked) -> Answer {
    watch(app, &asked, Subject::Saga).await
}

async fn watch(app: Arc<App>, asked: &Asked, subject: Subject) -> Answer {
    asked.no_query()?;
    let (action, heard) = (id(asked)?, last_event_id(asked)?.unwrap_or_default().to_owned());
    let first = Told::of(&find(&app, subject, action).await?);
    if first.is_last && first.id == heard {
        return Ok(nothing_comes());
    }
    let slot = Slot::take(&app, "action")?;
    let (line, response) = Line::open(app, slot);
    tokio::spawn(async move { progress(line, subject, action, first, heard).await });
    Ok(response)
}

/// An action as it is told.
struct Told {
    text: Vec<u8>,
    /// Follows from what is told: the same again has the same.
    id: String,
    is_last: bool,
}

impl Told {
    fn of(view: &ActionView) -> Self {
        let text = serde_json::to_vec(view).unwrap_or_default();
        let id = Sha256::digest(&text)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, id, is_last: view.is_finished() }
    }
}

async fn progress(
    line: Line,
    subject: Subject,
    action: uuid::Uuid,
    first: Told,
    heard: String,
) -> Result<(), Ended> {
    line.opening(&heard).await?;
    let (mut told, mut heard, mut spoke, mut state) = (first, heard, Instant::now(), None);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if told.id != heard {
            line.event("progress", &told.id, &told.text).await?;
            (heard, spoke) = (told.id.clone(), Instant::now());
        } else if spoke.elapsed() >= line.app.heartbeat {
            line.beat(":\n\n".to_owned());
            spoke = Instant::now();
        }
        if told.is_last {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = line.app.stop.cancelled() => return Err(Ended),
            () = line.closed() => return Err(Ended),
            _ = looks.tick() => {}
        }
        // Before the row is read: what comes between is looked at once more. Most looks find nothing new.
        let now = line.app.api.reads.action_state(action).await?;
        if now == state && now.is_some() {
            continue;
        }
        state = now;
        // It has left, or the database is away: the client comes back and is told so.
        told = Told::of(&find(&line.app, subject, action).await.map_err(|_| Ended)?);
    }
}
