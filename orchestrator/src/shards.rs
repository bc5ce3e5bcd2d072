//! `orchestrator shards`: what each shard reads, and how one that stands still goes on.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::{Context, Result, bail, ensure};
use clap::{Arg, ArgMatches, Command, value_parser};
use messaging::KafkaSettings;
use messaging::fetch::{Watermarks, watermarks};
use participant::service::WorkerSettings;
use saga_defs::ids::Shard;

use crate::engine::{INBOX, clock};
use crate::store::Store;
use crate::store::audit::AuditRow;
use crate::store::shards::ShardLine;

/// The sub-command's name.
pub const NAME: &str = "shards";
const LIST: &str = "list";
const RESUME: &str = "resume";
const SHARD: &str = "shard";
const FROM: &str = "from";
const REASON: &str = "reason";
const ACTOR: &str = "actor";
/// What the audit calls it.
const VERB: &str = "resume-shard";

/// As the command line knows it.
pub fn command() -> Command {
    let needed = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).required(true).help(help)
    };
    Command::new(NAME)
        .about("Shows what each shard reads, and lets one that stands still go on")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new(LIST).about("One line per shard; reads only"))
        .subcommand(
            Command::new(RESUME)
                .about(
                    "Goes on reading a shard's replies from another place. What lies between is skipped, or read \
                     once more; every command that a saga of the shard waits for is published again, so that its \
                     participant answers again",
                )
                .arg(needed(SHARD, "N", "Which shard").value_parser(value_parser!(u16)))
                .arg(needed(FROM, "PLACE", "earliest, latest or an offset").value_parser(place))
                .arg(needed(REASON, "TEXT", "Why, for the audit"))
                .arg(
                    Arg::new(ACTOR)
                        .long(ACTOR)
                        .value_name("NAME")
                        .help("Who, for the audit [default: the system's user]"),
                ),
        )
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Earliest,
    Latest,
    Offset(i64),
}

fn place(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Start::Offset(offset)),
            _ => Err("allowed: earliest, latest, or an offset (0 or more)".to_owned()),
        },
    }
}

/// Runs `shards list` or `shards resume`.
///
/// # Errors
/// The database or the broker does not answer, there is no such shard, or no such place in its partition.
pub async fn run(settings: &WorkerSettings, arguments: &ArgMatches) -> Result<()> {
    let store = Store::connect(&settings.database_url).await.context("DATABASE_URL: the database")?;
    let kafka = settings.kafka.clone();
    let asked = tokio::task::spawn_blocking(move || anyhow::Ok((incarnation(&kafka)?, inbox(&kafka)?)));
    let (incarnation, marks) = asked.await??;
    let lines = store.shard_lines().await.map_err(|error| anyhow::anyhow!("the shards: {error}"))?;
    match arguments.subcommand() {
        Some((RESUME, arguments)) => resume(&store, &incarnation, &marks, &lines, arguments).await,
        _ => print(&listing(&incarnation, &marks, &lines)),
    }
}

fn incarnation(kafka: &KafkaSettings) -> Result<String> {
    kafka.incarnation().context("KAFKA_BOOTSTRAP_SERVERS: the broker")
}

fn inbox(kafka: &KafkaSettings) -> Result<Vec<Watermarks>> {
    watermarks(kafka, INBOX).with_context(|| format!("the partitions of {INBOX}"))
}

async fn resume(
    store: &Store,
    incarnation: &str,
    marks: &[Watermarks],
    lines: &[ShardLine],
    arguments: &ArgMatches,
) -> Result<()> {
    let shard = Shard(arguments.get_one(SHARD).copied().context("--shard")?);
    let from: Start = arguments.get_one(FROM).copied().context("--from")?;
    let reason: &String = arguments.get_one(REASON).context("--reason")?;
    let user = || std::env::var("USER").unwrap_or_else(|_| "command line".to_owned());
    let actor = arguments.get_one::<String>(ACTOR).cloned().unwrap_or_else(user);
    let line = lines.iter().find(|line| line.shard == shard);
    let line = line.with_context(|| format!("--shard {shard}: there are {} shards", lines.len()))?;
    let marks = marks.iter().find(|marks| marks.partition == i32::from(shard.0));
    let marks = marks.with_context(|| format!("{INBOX} has no partition {shard}"))?;
    ensure!(
        line.incarnation == incarnation,
        "shard {shard} reads another broker ({}); this one is {incarnation}: who claims it here begins anew by itself",
        line.incarnation
    );
    let offset = match from {
        Start::Earliest => marks.low,
        Start::Latest => marks.high,
        Start::Offset(offset) if (marks.low..=marks.high).contains(&offset) => offset,
        Start::Offset(offset) => {
            bail!("--from {offset}: partition {shard} of {INBOX} goes from {} to {}", marks.low, marks.high)
        }
    };
    let told = format!("{reason} (shard {shard} from offset {} to {offset})", line.inbox_offset);
    let audit = AuditRow::new(clock::now(), &actor, VERB, &told);
    let resumed = store.resume_shard(shard, offset, &audit).await;
    ensure!(
        resumed.map_err(|error| anyhow::anyhow!("shard {shard}: {error}"))?,
        "shard {shard} is gone meanwhile"
    );
    print(&format!(
        "shard {shard} goes on at offset {offset}; it stood at {}. Its owner{} reads on within seconds.\n",
        line.inbox_offset,
        if line.owner.is_empty() { String::new() } else { format!(" {}", line.owner) }
    ))
}

/// One line per shard.
fn listing(incarnation: &str, marks: &[Watermarks], lines: &[ShardLine]) -> String {
    let width = lines.iter().map(|line| line.owner.len()).max().unwrap_or(0).max("owner".len());
    let mut text = format!(
        "{:>5}  {:width$}  {:>6}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  state\n",
        "shard", "owner", "epoch", "journal", "published", "next", "oldest", "end"
    );
    for line in lines {
        let marks = marks.iter().find(|marks| marks.partition == i32::from(line.shard.0));
        let (low, high) =
            marks.map_or(("-".to_owned(), "-".to_owned()), |m| (m.low.to_string(), m.high.to_string()));
        let (shard, owner, epoch) = (line.shard, &line.owner, line.epoch);
        let (journal, published, next) = (line.next_seq - 1, line.published_seq, line.inbox_offset);
        let state = state(line, incarnation, marks);
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "{:>5}  {owner:width$}  {epoch:>6}  {journal:>9}  {published:>9}  {next:>9}  {low:>9}  {high:>9}  {state}",
            shard.0
        );
    }
    text
}

/// What can be said of a shard from outside; a damaged record shows only when somebody reads it.
fn state(line: &ShardLine, incarnation: &str, marks: Option<&Watermarks>) -> String {
    let Some(marks) = marks else { return format!("stands still: {INBOX} has no such partition") };
    if line.incarnation != incarnation {
        return "has not been read from this broker yet".to_owned();
    }
    if line.inbox_offset < marks.low {
        return format!("stands still: {} replies are gone unread", marks.low - line.inbox_offset);
    }
    if line.inbox_offset > marks.high {
        return "stands still: it has read further than the topic goes, which was made anew or cut"
            .to_owned();
    }
    match marks.high - line.inbox_offset {
        0 => "has read everything".to_owned(),
        left => format!("{left} to be read"),
    }
}

fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // Nobody reads any more: that is no reason for another error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn the_list_says_which_shard_stands_still_and_why() {
        let line = |shard: u16, inbox_offset: i64| ShardLine {
            shard: Shard(shard),
            owner: if shard == 3 { String::new() } else { "http://10.0.0.7:8080".to_owned() },
            epoch: 4,
            next_seq: 1_201,
            published_seq: 1_200,
            inbox_offset,
            incarnation: if shard == 3 { String::new() } else { "here".to_owned() },
        };
        let marks = [(0, 0, 400), (1, 300, 900), (2, 0, 5), (3, 0, 0), (4, 0, 450)];
        let marks = marks.map(|(partition, low, high)| Watermarks { partition, low, high });
        let lines = [line(0, 400), line(1, 120), line(2, 77), line(3, 0), line(4, 400), line(5, 0)];
        assert_snapshot!(listing("here", &marks, &lines), @r"
        shard  owner                  epoch    journal  published       next     oldest        end  state
            0  http://10.0.0.7:8080       4       1200       1200        400          0        400  has read everything
            1  http://10.0.0.7:8080       4       1200       1200        120        300        900  stands still: 180 replies are gone unread
            2  http://10.0.0.7:8080       4       1200       1200         77          0          5  stands still: it has read further than the topic goes, which was made anew or cut
            3                             4       1200       1200          0          0          0  has not been read from this broker yet
            4  http://10.0.0.7:8080       4       1200       1200        400          0        450  50 to be read
            5  http://10.0.0.7:8080       4       1200       1200          0          -          -  stands still: saga.inbox has no such partition
        ");
    }

    #[test]
    fn a_place_is_a_word_or_an_offset() {
        assert_eq!(place("earliest"), Ok(Start::Earliest));
        assert_eq!(place("latest"), Ok(Start::Latest));
        assert_eq!(place("17"), Ok(Start::Offset(17)));
        for wrong in ["-1", "Latest", "", "1e3"] {
            assert_eq!(place(wrong).unwrap_err(), "allowed: earliest, latest, or an offset (0 or more)");
        }
    }
}
