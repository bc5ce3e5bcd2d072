//! `sagactl dead-letter show`.

use std::fmt::Write as _;

use clap::Args;
use saga_client::{DeadLetter, DeadLetterId, DeadLetterStatus};
use serde_json::Value;

use super::missing;
use crate::failure::{Exit, Failure};
use crate::output::{json, note};
use crate::session::Session;
use crate::style::{BAD, DIM, Mood, STRONG, painted};
use crate::words::{count, moment, plain, plain_lines};

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The dead letter's id
    letter: DeadLetterId,
}

impl Show {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let letter = match session.client.dead_letters().get(self.letter).await {
            Ok(letter) => letter,
            Err(error) => return Err(missing(session, error).await),
        };
        let output = session.output;
        output.result(&letter, [letter.item.id.to_string()], || told(&letter, output.is_wide()))?;
        if letter.item.status == DeadLetterStatus::Open && output.is_for_people() {
            let id = letter.item.id;
            let ways = format!("sagactl dead-letter redrive {id} --reason TEXT, or edit, or discard");
            note(&format!("{} {ways}", painted(DIM, "next:")));
        }
        Ok(Exit::Done)
    }
}

fn told(letter: &DeadLetter, wide: bool) -> String {
    let item = &letter.item;
    let status = painted(Mood::from(&item.status).style(), item.status.as_str());
    let mut text = format!("{}  {status}\n", painted(STRONG, &item.id.to_string()));
    let mut pair = |name: &str, value: &str| {
        let _ = writeln!(text, "  {}{value}", painted(DIM, &format!("{name:<14}")));
    };
    pair("cause", &format!("{}: {}", painted(BAD, &plain(&item.reason)), plain(&item.message)));
    pair("given up by", &format!("{}, after {}", plain(&item.source), tries(item.attempts)));
    pair("failed", &format!("{} to {}", moment(item.first_failed_at), moment(item.last_failed_at)));
    if let Some(saga) = item.saga_id {
        let step = item.step.as_ref().map(|step| format!(", step {}", plain(step))).unwrap_or_default();
        let direction = item.direction.as_ref().map(|way| format!(", {}", plain(way))).unwrap_or_default();
        pair("saga", &format!("{saga}{step}{direction}"));
    }
    pair("record", &place(letter));
    if let Some(key) = &letter.key_text {
        pair("key", &plain(key));
    }
    if wide {
        for header in &letter.headers {
            let value = header.text.as_ref().or(header.value.as_ref()).map_or("-", String::as_str);
            pair("header", &format!("{}: {}", plain(&header.name), plain(value)));
        }
    }
    let _ = write!(text, "\n{}", value(letter));
    let _ = writeln!(text, "\n{}", painted(STRONG, "what became of it"));
    for entry in &letter.lineage {
        let _ = writeln!(text, "  {}  {:<9}  {}", moment(entry.at), plain(&entry.what), plain(&entry.reason));
        for change in &entry.changes {
            let said =
                |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
            let (from, to) = (plain(&said(&change.from)), plain(&said(&change.to)));
            let _ = writeln!(text, "      {}: {from} -> {to}", plain(&change.field));
        }
    }
    text
}

fn tries(attempts: u32) -> String {
    if attempts == 1 { "1 try".to_owned() } else { format!("{attempts} tries") }
}

/// Where the record lay.
fn place(letter: &DeadLetter) -> String {
    let item = &letter.item;
    let partition = item.partition.map(|partition| format!(", partition {partition}")).unwrap_or_default();
    let offset = item.offset.map(|offset| format!(", offset {offset}")).unwrap_or_default();
    format!("{}{partition}{offset}", plain(&item.topic))
}

/// What the record says, or why that is not known.
fn value(letter: &DeadLetter) -> String {
    if let Some(decoded) = &letter.decoded {
        let fields = json(&decoded.value).unwrap_or_default();
        let version = match decoded.newest_version {
            newest if newest == decoded.version => String::new(),
            newest => format!(" version {}, of which the newest is {newest}", decoded.version),
        };
        let name = painted(STRONG, &plain(&decoded.message_type));
        return format!("{name}{version}\n{}\n", plain_lines(&fields));
    }
    let why = letter.decode_error.as_deref().unwrap_or("why is not known");
    // Four characters of base64 are three bytes.
    let bytes = letter.value.as_ref().map_or(0, |text| text.trim_end_matches('=').len() * 3 / 4);
    let size = count(u64::try_from(bytes).unwrap_or(u64::MAX), "byte");
    let mut text = format!("{} ({size}): {}\n", painted(BAD, "the value does not decode"), plain(why));
    for line in letter.hex.iter().flatten() {
        let _ = writeln!(text, "  {}", plain_lines(line));
    }
    text
}
