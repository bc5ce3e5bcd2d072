//! `orchestrator check`: what it prints and its exit code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![expect(clippy::too_many_lines, reason = "tables and their snapshots")]

mod against;

use std::path::PathBuf;
use std::process::Command;

use uuid::Uuid;

/// A folder of files that goes away.
struct Files(PathBuf);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("check-{}", Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, content) in files {
            std::fs::write(dir.join(name), content).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the program in a folder of these files; standard output, then the exit code. How many states there are is for
/// the tests of saga-model.
fn run(files: &[(&str, &str)], args: &[&str]) -> String {
    let dir = Files::new(files);
    let mut program = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    program.current_dir(&dir.0).args(args).env_clear();
    let ended = program.output().unwrap();
    let mut text = String::from_utf8(ended.stdout).unwrap();
    text.push_str(&String::from_utf8(ended.stderr).unwrap());
    let lines: Vec<String> = text.lines().map(|line| without_states(line.trim_end())).collect();
    format!("{}\nexit code {}", lines.join("\n"), ended.status.code().unwrap())
}

fn without_states(line: &str) -> String {
    let number = |word: &str| word.trim_end_matches(',').parse::<u64>().is_ok();
    if !line.contains("states") {
        return line.to_owned();
    }
    let word = |word: &str| match (number(word), word.ends_with(',')) {
        (true, true) => "N,".to_owned(),
        (true, false) => "N".to_owned(),
        (false, _) => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn shipped(name: &str) -> &'static str {
    saga_defs::Shipped::named(name).unwrap().text
}

/// Confirms what can no longer be undone before it charges.
const HASTY: &str = r#"name = "hasty"
version = 1
input = "booking.StartBooking"

[[step]]
name = "confirm"
participant = "booking"
kind = "retriable"
command = "booking.ConfirmBooking"
with = { bookingId = "sagaId" }
reply = "booking.BookingConfirmed"

[[step]]
name = "charge"
participant = "payment"
kind = "pivot"
command = "payment.ChargePayment"
with = { bookingId = "sagaId", reference = "sagaId" }
reply = "payment.PaymentCompleted"
"#;

/// The shipped booking definition with one text replaced by another.
fn booking(from: &str, to: &str) -> String {
    assert!(shipped("booking").contains(from), "{from}");
    shipped("booking").replacen(from, to, 1)
}

#[test]
fn a_right_definition_is_shown_with_its_baseline_runs() {
    let printed = run(&[("erasure.toml", shipped("erasure"))], &["check", "erasure.toml"]);
    insta::assert_snapshot!(printed, @"
    erasure.toml: erasure version 1 is right

      input accounts.RequestErasure, deadline 15m

      step           kind       participant  command                compensation  timeout  attempts
      erase-account  retriable  accounts     accounts.EraseAccount  -             1m       40

      start
        |
        v
      erase-account  tried until it succeeds; no way back from here on
        |
        v
      completed

      Every run ends as it should: N states of saga and world were looked at.

      How its runs go

      every step succeeds
          start                   -> erase-account #1
          erase-account succeeded -> completed
          = completed

      erase-account rejected
          start                  -> erase-account #1
          erase-account rejected -> stuck at erase-account  refused
          = stuck

      erase-account timed out for good
          start                       -> erase-account #1
          erase-account #1 timed out  -> back off 1s
          ... 38 more attempts alike
          erase-account #40 due       -> erase-account #40
          erase-account #40 timed out -> stuck at erase-account  in doubt
          = stuck

      erase-account failed for good
          start                 -> erase-account #1
          erase-account failed  -> back off 1s             unavailable
          ... 38 more attempts alike
          erase-account #40 due -> erase-account #40
          erase-account failed  -> stuck at erase-account  unavailable
          = stuck

      erase-account stuck, then redriven
          start                       -> erase-account #1
          erase-account #1 timed out  -> back off 1s
          ... 38 more attempts alike
          erase-account #40 due       -> erase-account #40
          erase-account #40 timed out -> stuck at erase-account  in doubt
          redrive                     -> erase-account #1        repaired
          erase-account succeeded     -> completed               letter resolved
          = completed

    1 file is right
    exit code 0
    ");
}

#[test]
fn steps_in_the_wrong_order_are_shown_with_the_run_that_goes_wrong() {
    let printed = run(&[("hasty.toml", HASTY)], &["check", "hasty.toml"]);
    insta::assert_snapshot!(printed, @r#"
    error: step `charge` (pivot) cannot come after `confirm` (retriable): the order is compensatable steps, at most one pivot, retriable steps
      --> hasty.toml:16:8
       |
    16 | kind = "pivot"
       |        ^^^^^^^
       |
       = help: move it before `confirm`, or make it retriable

    hasty.toml: a run of it that ends wrong:
      start                 -> confirm #1
        booking: confirm #1 -> done
      confirm succeeded     -> charge #1
        payment: charge #1  -> refused
      charge rejected       -> undo confirm #1  refused
      = compensating: compensating, rejected
      = really done: confirm (nothing undoes it)

    1 of 1 files wrong
    exit code 1
    "#);
}

#[test]
fn a_published_version_stays_as_it_is() {
    let changed = shipped("erasure").replacen("version = 1", "version = 1\ndeadline = \"3d\"", 1);
    let printed = run(&[("erasure.toml", &changed)], &["check", "erasure.toml"]);
    insta::assert_snapshot!(printed, @"
    error: erasure version 1 is published with other content, and a published version never changes
     --> erasure.toml:4:11
      |
    4 | version = 1
      |           ^
      |
      = help: give it version 2

    1 of 1 files wrong
    exit code 1
    ");
}

#[test]
fn every_problem_of_every_file_is_shown_in_its_place() {
    let soon = booking("\"15m\"", "\"soon\"").replacen("\"pivot\"", "\"pivoting\"", 1);
    let unknown = booking("payment.RefundPayment", "payment.RefundPaiment");
    let files = [("soon.toml", &*soon), ("unknown.toml", &*unknown)];
    let printed = run(&files, &["check", "soon.toml", "unknown.toml", "missing.toml"]);
    insta::assert_snapshot!(printed, @r#"
    error: `soon` is not a duration
     --> soon.toml:4:12
      |
    4 | deadline = "soon"                          # the whole saga; then it is cancelled
      |            ^^^^^^
      |
      = help: write e.g. 200ms, 5s, 15m, 2h

    error: there is no kind `pivoting`
      --> soon.toml:30:8
       |
    30 | kind = "pivoting"                            # the last step that business rules may refuse; never compensated
       |        ^^^^^^^^^^
       |
       = help: make it compensatable, pivot or retriable

    error: no schema is named `payment.RefundPaiment`
      --> unknown.toml:25:16
       |
    25 | compensation = "payment.RefundPaiment"
       |                ^^^^^^^^^^^^^^^^^^^^^^^
       |
       = help: did you mean `payment.RefundPayment`?

    error: missing.toml: cannot be read: No such file or directory (os error 2)

    3 of 3 files wrong
    exit code 1
    "#);
}

#[test]
fn colours_are_given_where_they_are_asked_for() {
    let soon = booking("\"15m\"", "\"soon\"");
    let printed = run(&[("soon.toml", &soon)], &["check", "--color", "always", "soon.toml"]);
    insta::assert_snapshot!(printed.replace('\u{1b}', "␛"), @r#"
    ␛[1m␛[91merror␛[0m␛[1m: `soon` is not a duration␛[0m
     ␛[1m␛[94m--> ␛[0msoon.toml:4:12
      ␛[1m␛[94m|␛[0m
    ␛[1m␛[94m4␛[0m ␛[1m␛[94m|␛[0m deadline = "soon"                          # the whole saga; then it is cancelled
      ␛[1m␛[94m|␛[0m            ␛[1m␛[91m^^^^^^␛[0m
      ␛[1m␛[94m|␛[0m
      ␛[1m␛[94m= ␛[0m␛[1mhelp␛[0m: write e.g. 200ms, 5s, 15m, 2h

    1 of 1 files wrong
    exit code 1
    "#);
}

#[test]
fn programs_get_json() {
    let soon = booking("\"15m\"", "\"soon\"");
    let files = [("soon.toml", &*soon), ("erasure.toml", shipped("erasure"))];
    let printed = run(&files, &["check", "--format", "json", "soon.toml", "erasure.toml"]);
    insta::assert_snapshot!(printed, @r#"
    [
      {
        "file": "soon.toml",
        "ok": false,
        "problems": [
          {
            "line": 4,
            "column": 12,
            "message": "`soon` is not a duration",
            "help": "write e.g. 200ms, 5s, 15m, 2h"
          }
        ]
      },
      {
        "file": "erasure.toml",
        "ok": true,
        "definition": {
          "name": "erasure",
          "version": 1
        },
        "problems": [],
        "modelCheck": {
          "states": N,
          "complete": true
        },
        "rehearsals": [
          {
            "title": "every step succeeds",
            "transcript": [
              "start                   -> erase-account #1",
              "erase-account succeeded -> completed"
            ],
            "ended": "completed"
          },
          {
            "title": "erase-account rejected",
            "transcript": [
              "start                  -> erase-account #1",
              "erase-account rejected -> stuck at erase-account  refused"
            ],
            "ended": "stuck"
          },
          {
            "title": "erase-account timed out for good",
            "transcript": [
              "start                       -> erase-account #1",
              "erase-account #1 timed out  -> back off 1s",
              "... 38 more attempts alike",
              "erase-account #40 due       -> erase-account #40",
              "erase-account #40 timed out -> stuck at erase-account  in doubt"
            ],
            "ended": "stuck"
          },
          {
            "title": "erase-account failed for good",
            "transcript": [
              "start                 -> erase-account #1",
              "erase-account failed  -> back off 1s             unavailable",
              "... 38 more attempts alike",
              "erase-account #40 due -> erase-account #40",
              "erase-account failed  -> stuck at erase-account  unavailable"
            ],
            "ended": "stuck"
          },
          {
            "title": "erase-account stuck, then redriven",
            "transcript": [
              "start                       -> erase-account #1",
              "erase-account #1 timed out  -> back off 1s",
              "... 38 more attempts alike",
              "erase-account #40 due       -> erase-account #40",
              "erase-account #40 timed out -> stuck at erase-account  in doubt",
              "redrive                     -> erase-account #1        repaired",
              "erase-account succeeded     -> completed               letter resolved"
            ],
            "ended": "completed"
          }
        ]
      }
    ]
    exit code 1
    "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one text")]
fn help_speaks_of_the_orchestrator_and_not_of_workers() {
    insta::assert_snapshot!(run(&[], &["--help"]), @"
    Runs sagas: HTTP in, Postgres, Kafka out

    Usage: orchestrator [OPTIONS] <COMMAND>

    Commands:
      serve     Runs sagas until SIGTERM or Ctrl-C
      migrate   Brings the database up to date, then ends
      config    Shows what the program is told, and whether it can work with that
      check     Checks definitions; the exit code is 1 if any is wrong
      asyncapi  Prints the AsyncAPI document of the definitions that ship and those of a folder
      verify    Replays the journal and names each difference; the exit code is 1 if any is found
      shards    Shows what each shard reads, and lets one that stands still go on
      schemas   Holds the schemas that ship and those of SCHEMAS_DIR against the registry of
                SCHEMA_REGISTRY_URL
      help      Print this message or the help of the given subcommand(s)

    Options:
          --config <FILE>
              A TOML file of settings; the environment and flags come before it
          --database-url <VALUE>
              The orchestrator's own Postgres database, postgres://USER:PASSWORD@HOST/DATABASE [env:
              DATABASE_URL]
          --kafka-bootstrap-servers <VALUE>
              Kafka, HOST:PORT, several with commas [default: 127.0.0.1:9092] [env:
              KAFKA_BOOTSTRAP_SERVERS]
          --kafka-properties <VALUE>
              A file of librdkafka properties, for TLS and SASL [env: KAFKA_PROPERTIES]
          --broker-incarnation <VALUE>
              Set by the local stack: Kafka is its embedded broker, and this its start [env:
              BROKER_INCARNATION]
          --schemas-dir <VALUE>
              A folder of further Avro schemas (*.avsc) [env: SCHEMAS_DIR]
          --schema-registry-url <VALUE>
              A Confluent schema registry, http(s)://HOST:PORT: messages are written with its ids
              [default: none] [env: SCHEMA_REGISTRY_URL]
          --schema-registry-user <VALUE>
              Who asks the registry, with basic authentication [env: SCHEMA_REGISTRY_USER]
          --schema-registry-password <VALUE>
              The password of SCHEMA_REGISTRY_USER [env: SCHEMA_REGISTRY_PASSWORD]
          --schema-registry-ca <VALUE>
              A file of PEM certificates to trust for the registry, beside the system's [env:
              SCHEMA_REGISTRY_CA]
          --schema-registry-mode <VALUE>
              read: messages are written without ids, for a change-over; write: with ids that somebody
              has registered; register: what the registry lacks is registered at the start [default:
              write] [env: SCHEMA_REGISTRY_MODE]
          --log-format <VALUE>
              auto (text on a terminal, else json), text or json [default: auto] [env: LOG_FORMAT]
          --topic-partitions <VALUE>
              The partitions of saga.events and saga.dead-letters where they are created [default: 8]
              [env: TOPIC_PARTITIONS]
          --topic-replication <VALUE>
              The copies of every topic that is created; -1 is the broker's default [default: -1] [env:
              TOPIC_REPLICATION]
          --http-addr <VALUE>
              Where the API listens, ADDRESS:PORT; port 0 is any free one [default: 127.0.0.1:8080]
              [env: HTTP_ADDR]
          --advertise-url <VALUE>
              The base URL under which other orchestrators reach this one [default: http:// and the
              address it listens on] [env: ADVERTISE_URL]
          --shards <VALUE>
              The partitions of saga.inbox; never changes once there is a database [default: 8] [env:
              SHARDS]
          --command-partitions <VALUE>
              The partitions of each command topic [default: 8] [env: COMMAND_PARTITIONS]
          --shipped-definitions <VALUE>
              The definitions that ship and are published: all, none, or names with commas, e.g. booking
              [default: all] [env: SHIPPED_DEFINITIONS]
          --definitions-dir <VALUE>
              A folder of further definitions (*.toml) [env: DEFINITIONS_DIR]
          --retention-days <VALUE>
              After so many days from its end a saga leaves, with its journal and keys; 0: nothing
              leaves [default: 0] [env: RETENTION_DAYS]
          --hold-sagas <VALUE>
              A participant is asked nothing more after so many sagas in a row had no answer or a
              failure; 0: never by itself [default: 10] [env: HOLD_SAGAS]
          --hold-silence <VALUE>
              But not before it has been without a good answer for so long [default: 2s] [env:
              HOLD_SILENCE]
          --hold-probe-max <VALUE>
              Then it is asked one thing after 1 s, and again after twice as long, up to this [default:
              10s] [env: HOLD_PROBE_MAX]
          --allow-forced-outcomes <VALUE>
              true: bookings may force their payment's outcome, for demos and tests [default: false]
              [env: ALLOW_FORCED_OUTCOMES]
          --actor-header <VALUE>
              The request header that says who acts, for the audit: a proxy that asks for names has to
              set it [default: nobody is believed, the audit says anonymous] [env: ACTOR_HEADER]
          --database-url-file <FILE>
              A file that holds DATABASE_URL instead [env: DATABASE_URL_FILE]
          --schema-registry-password-file <FILE>
              A file that holds SCHEMA_REGISTRY_PASSWORD instead [env: SCHEMA_REGISTRY_PASSWORD_FILE]
      -h, --help
              Print help
      -V, --version
              Print version
    exit code 0
    ");
    insta::assert_snapshot!(run(&[], &["check", "--help"]), @"
    Checks definitions; the exit code is 1 if any is wrong

    Usage: orchestrator check [OPTIONS] <FILE>...

    Arguments:
      <FILE>...  A definition (TOML)

    Options:
          --against <OLD>    Compare each FILE with this older version: what changes, and which baseline
                             runs go another way
          --config <FILE>    A TOML file of settings; the environment and flags come before it
          --schemas <DIR>    A folder of Avro schemas (*.avsc) beside those that ship; may be given
                             several times
          --format <FORMAT>  What is printed: a text for people, or JSON for programs [default: human]
                             [possible values: human, json]
          --color <WHEN>     Colours; auto is on a terminal where NO_COLOR is not set [default: auto]
                             [possible values: auto, always, never]
      -h, --help             Print help
    exit code 0
    ");
}

#[test]
fn a_wrong_command_line_is_another_exit_code() {
    insta::assert_snapshot!(run(&[], &["check"]), @"
        error: the following required arguments were not provided:
          <FILE>...

        Usage: orchestrator check <FILE>...

        For more information, try '--help'.
        exit code 2
    ");
}
