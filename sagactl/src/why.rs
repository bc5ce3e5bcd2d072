//! `sagactl saga why`: what a saga waits for; `sagactl why`: what everything open waits for.

use std::fmt::Write as _;

use clap::Args;
use saga_client::{AwaitedCommand, Causes, SagaId, Why as Answer};

use crate::failure::{Exit, Failure};
use crate::output::{Output, note};
use crate::saga::look::missing;
use crate::session::Session;
use crate::style::{BAD, DIM, GOOD, Mood, STRONG, painted};
use crate::table::{Table, cell, optional, status};
use crate::words::{age, between, count, length, plain};

#[derive(Args, Debug)]
pub(crate) struct Why {
    /// The saga's id
    saga: SagaId,
}

impl Why {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        match session.client.sagas().why(self.saga).await {
            Ok(why) => session.output.result(&why, [self.saga.to_string()], || told(&why))?,
            Err(error) => return Err(missing(session, error).await),
        }
        Ok(Exit::Done)
    }
}

fn told(why: &Answer) -> String {
    let status = painted(Mood::from(&why.status).style(), why.status.as_str());
    let mut text = format!(
        "{}  {} v{}  {status}\n{}\n\n",
        painted(STRONG, &why.saga_id.to_string()),
        plain(&why.definition),
        why.version,
        plain(&why.summary)
    );
    let mut pair = |name: &str, value: &str| {
        let _ = writeln!(text, "  {}{value}", painted(DIM, &format!("{name:<14}")));
    };
    pair("waits for", &format!("{}, for {}", why.waits_for, length(between(why.since, why.as_of))));
    if let Some(held) = &why.held {
        let state = painted(BAD, held.state.as_str());
        pair(
            "participant",
            &format!("{} is {state}, {} wait", plain(&held.participant), count(held.waiting, "saga")),
        );
    }
    if let Some(command) = &why.command {
        of_command(command, &mut pair);
    }
    for next in &why.upcoming {
        let left = length(between(why.as_of, next.at));
        pair(next.what.as_str(), &format!("in {left}: {}", plain(&next.then)));
    }
    if let Some(error) = &why.last_error {
        let said = format!("{}: {}", plain(&error.code), plain(&error.message));
        pair("last error", &format!("{} at {}", painted(BAD, &said), plain(&error.step)));
    }
    let remaining: Vec<String> = why
        .remaining
        .iter()
        .map(|step| {
            format!("{}{}", if step.direction == "compensation" { "undo " } else { "" }, plain(&step.step))
        })
        .collect();
    if !remaining.is_empty() {
        pair("remaining", &remaining.join(", "));
    }
    for verb in &why.verbs {
        let name = painted(if verb.possible { GOOD } else { DIM }, &verb.verb);
        let how = if verb.possible { "" } else { "not possible: " };
        pair("verb", &format!("{name}: {how}{}", plain(&verb.then)));
    }
    text
}

fn of_command(command: &AwaitedCommand, pair: &mut impl FnMut(&str, &str)) {
    let undo = if command.direction == "compensation" { "undo " } else { "" };
    let doubt = if command.in_doubt { ", in doubt" } else { "" };
    pair(
        "command",
        &format!(
            "{undo}{} by {}, attempt {} of {}{doubt}",
            plain(&command.step),
            plain(&command.participant),
            command.attempt,
            command.max_attempts
        ),
    );
    pair("message", &plain(&command.message_type));
    pair("command id", &command.command_id.to_string());
    if let Some(place) = &command.place {
        let offset = place.offset.map(|offset| format!(", offset {offset}")).unwrap_or_default();
        let because = place.because.as_ref().map(|why| format!(" ({})", plain(why))).unwrap_or_default();
        pair("lies in", &format!("{}, partition {}{offset}{because}", plain(&place.topic), place.partition));
    }
    if let Some(group) = &command.group {
        let passed = match (group.passed, group.ahead) {
            (Some(true), _) => "has passed it".to_owned(),
            (Some(false), Some(ahead)) => {
                format!("has not passed it, {} before it", count(u64::try_from(ahead).unwrap_or(0), "record"))
            }
            (Some(false), None) => "has not passed it".to_owned(),
            (None, _) => "may have passed it".to_owned(),
        };
        let because = group.because.as_ref().map(|why| format!(" ({})", plain(why))).unwrap_or_default();
        pair("group", &format!("{} {passed}{because}", plain(&group.group)));
    }
    if let Some(letter) = command.dead_letter_id {
        pair("dead letter", &letter.to_string());
    }
}

/// Says what everything open waits for, most sagas first.
pub(crate) async fn causes(session: &Session) -> Result<Exit, Failure> {
    let causes = match session.client.sagas().causes().await {
        Ok(causes) => causes,
        Err(error) => return Err(session.failed(error).await),
    };
    let output = session.output;
    let ids = causes.causes.iter().map(|cause| cause.oldest_saga_id.to_string());
    output.result(&causes, ids, || rows(output, &causes))?;
    if output.is_for_people() {
        note(&format!("{} counted", count(causes.counted, "open saga")));
        if let Some(not_counted) = &causes.not_counted {
            note(&format!("not counted: {}", plain(not_counted)));
        }
    }
    Ok(Exit::Done)
}

fn rows(output: Output, causes: &Causes) -> String {
    let columns = [
        "SAGAS",
        "STATUS",
        "DEFINITION",
        "STEP",
        "WAITS FOR",
        "ERROR",
        "OLDEST",
        "OLDEST SAGA",
        "PARTICIPANT",
    ];
    let mut table = Table::new(&columns, &[]);
    for cause in &causes.causes {
        let undo = if cause.direction == "compensation" { "undo " } else { "" };
        table.row([
            cell(cause.sagas.to_string()),
            status(cause.status.as_str(), Mood::from(&cause.status)),
            cell(&cause.definition),
            cell(format!("{undo}{}", cause.step)),
            cell(cause.waits_for.as_str()),
            optional(cause.error.as_ref()),
            cell(age(cause.oldest)),
            cell(cause.oldest_saga_id.to_string()),
            cell(&cause.participant),
        ]);
    }
    table.text(output)
}
