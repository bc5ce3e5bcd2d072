//! `sagactl participant …`: who is asked at the moment, and who is not.

use clap::{Args, Subcommand};
use saga_client::{Act, Participant, ParticipantState};
use serde_json::json;

use crate::arguments::Because;
use crate::failure::{Exit, Failure};
use crate::output::{Output, note};
use crate::session::Session;
use crate::style::Mood;
use crate::table::{Table, cell, optional, status};
use crate::words::{age, moment};

/// What can be done with participants.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists them: which answer, which are held or paused, and how many sagas wait for them
    List,
    /// Asks it nothing more; its sagas wait
    Pause(Order),
    /// Asks it again, a little more each second
    Resume(Order),
}

#[derive(Args, Debug)]
pub(crate) struct Order {
    /// The participant's name
    participant: String,
    #[command(flatten)]
    because: Because,
}

impl Verb {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let participants = session.client.participants();
        let output = session.output;
        let order = match &self {
            Self::List => {
                let items = or_named(session, participants.list().await).await?;
                let names = items.iter().map(|one| one.name.clone());
                output.result(&json!({ "items": items }), names, || rows(output, &items))?;
                if items.is_empty() && output.is_for_people() {
                    note("no definition is published, so nobody takes part");
                }
                return Ok(Exit::Done);
            }
            Self::Pause(order) => participants.pause(&order.participant, &order.word()).await,
            Self::Resume(order) => participants.resume(&order.participant, &order.word()).await,
        };
        let one = or_named(session, order).await?;
        output.result(&one, [one.name.clone()], || rows(output, std::slice::from_ref(&one)))?;
        Ok(Exit::Done)
    }
}

/// What was answered; of a participant that is not known, where the names are.
async fn or_named<T>(session: &Session, answer: Result<T, saga_client::Error>) -> Result<T, Failure> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            let not_found = error.is_not_found();
            let failure = session.failed(error).await;
            Err(if not_found { failure.next("sagactl participant list") } else { failure })
        }
    }
}

impl Order {
    fn word(&self) -> Act {
        let word = Act::because(&*self.because.reason);
        match &self.because.idempotency_key {
            Some(key) => word.idempotency_key(key),
            None => word,
        }
    }
}

const fn mood(state: &ParticipantState) -> Mood {
    match state {
        ParticipantState::Answering => Mood::Good,
        _ => Mood::Bad,
    }
}

fn rows(output: Output, participants: &[Participant]) -> String {
    let mut columns = vec!["PARTICIPANT", "STATE", "CAUSE", "SINCE", "WAITING", "REASON"];
    if output.is_wide() {
        columns.extend(["OLDEST SAGA", "LAST ANSWER", "NEXT PROBE"]);
    }
    let mut table = Table::new(&columns, &["REASON"]);
    for one in participants {
        let reason = one.order.as_ref().filter(|order| order.paused).map(|order| &order.reason);
        let mut row = vec![
            cell(&one.name),
            status(one.state.as_str(), mood(&one.state)),
            optional(one.cause.as_ref()),
            optional(one.since.map(age)),
            cell(one.waiting.to_string()),
            optional(reason),
        ];
        if output.is_wide() {
            row.push(optional(one.oldest_saga_id));
            row.push(optional(one.last_answer_at.map(moment)));
            row.push(optional(one.next_probe_at.map(moment)));
        }
        table.row(row);
    }
    table.text(output)
}
