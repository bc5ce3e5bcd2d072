//! What the program tells without an orchestrator: its help, completions, manual pages, and what is wrong with a command.
#![cfg(test)]
use std::fs;
use std::process::{Command, Output, Stdio};

use insta::assert_snapshot;

fn sagactl(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sagactl"));
    command.args(arguments).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn told(arguments: &[&str]) -> String {
    let output = sagactl(arguments);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    format!("{out}{err}---- exit {}", output.status.code().unwrap())
}

/// A help without the part that all of them have.
fn own_part(arguments: &[&str]) -> String {
    let told = told(arguments);
    let (own, everywhere) = told.split_once("\nEverywhere:\n").expect("options that go everywhere");
    let (main, _) = everywhere.split_once("\n---- exit").unwrap();
    let whole = self::told(&["-h"]);
    assert!(whole.contains(&format!("\nEverywhere:\n{main}")), "{arguments:?} has others: {main}");
    own.to_owned()
}

#[test]
fn help_is_short() {
    assert_snapshot!(told(&["-h"]), @r"
    Looks at sagas, dead letters and definitions, and acts on them

    Usage: sagactl [OPTIONS] <COMMAND>

    Commands:
      saga         Sagas: start, look, watch, act
      dead-letter  Records that nobody could handle
      redrive      Many dead letters sent again, at a pace
      saga-action  One verb on many sagas, at a pace
      definition   What sagas are started by
      why          What everything open waits for, counted by cause
      participant  Who is asked at the moment, and who is not
      audit        What operators did
      completions  Prints a script that completes commands in your shell
      man          Prints the manual page, or writes one for each command

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Everywhere:
          --url <URL>          The orchestrator's address [env: SAGACTL_URL=] [default:
                               http://127.0.0.1:8080]
          --token-file <FILE>  A file with the token that is sent; SAGACTL_TOKEN may have the token
                               itself [env: SAGACTL_TOKEN_FILE=]
          --as <NAME>          Who acts, for the audit: sent as X-Saga-Actor, which counts where the
                               orchestrator is told to believe it [env: SAGACTL_ACTOR=]
      -o, --output <FORMAT>    How it is printed [default: table] [possible values: table, wide, json,
                               yaml, id]
          --json               The same as -o json
          --color <WHEN>       Colours; auto is on a terminal where NO_COLOR is not set [default: auto]
                               [possible values: auto, always, never]

    Exit codes: 0 ok, 1 error, 2 wrong usage, 3 a saga that was waited for is compensated, 4 it did not
    end in time, 5 not found, 6 moved on since --if-revision.

    Environment: SAGACTL_URL, SAGACTL_TOKEN or SAGACTL_TOKEN_FILE, SAGACTL_ACTOR, EDITOR, NO_COLOR,
    COLUMNS.
    ---- exit 0
    ");
    assert_snapshot!(own_part(&["saga", "-h"]), @r"
    Sagas: start, look, watch, act

    Usage: sagactl saga [OPTIONS] <COMMAND>

    Commands:
      start      Starts a saga
      list       Lists sagas, newest first
      show       Shows a saga: its steps as a timeline, its reason, its times
      history    Shows every transition of a saga
      why        Shows what a saga waits for, since when, what comes next, and what can be done
      watch      Shows the transitions as they happen: of a saga until it has ended or is stuck, or of
                 all
      diagram    Prints a saga's way as a Mermaid flowchart or a picture, with its place in it
      cancel     Stops going forward and compensates
      redrive    Lets stuck sagas try their command again, attempts from 1
      skip       Takes the stuck step or compensation as done
      retry-now  Does not wait for the back-off

    Options:
      -h, --help  Print help (see more with '--help')
    ");
}

#[test]
fn help_of_a_verb() {
    assert_snapshot!(own_part(&["saga", "redrive", "-h"]), @r"
    Lets stuck sagas try their command again, attempts from 1

    Usage: sagactl saga redrive [OPTIONS] --reason <TEXT> <SAGA>...

    Arguments:
      <SAGA>...  The saga's id, or several

    Options:
          --reason <TEXT>          Why; it is kept in the audit
          --idempotency-key <KEY>  The same key acts once; drawn if it is left out
          --if-revision <N>        Acts only if this is still the saga's revision
          --yes                    Does not ask before it acts on several
          --wait                   Waits until it has ended or is stuck
          --watch                  Shows every transition until it has ended or is stuck
          --timeout <TIME>         Waits so long at most [default: 30s]
          --input <JSON>           Values for fields of the command, in place of those from the saga's
                                   data: a JSON object, @FILE, or -
      -h, --help                   Print help (see more with '--help')
    ");
}

#[test]
fn what_is_no_command_is_told_so() {
    assert_eq!(told(&[]), told(&["-h"]).replace("exit 0", "exit 2"));
    assert_snapshot!(told(&["saga", "lsit"]), @r"
    error: unrecognized subcommand 'lsit'

      tip: a similar subcommand exists: 'list'

    Usage: sagactl saga [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ---- exit 2
    ");
    assert_snapshot!(told(&["saga", "show", "me"]), @r"
    error: invalid value 'me' for '<SAGA>': invalid character: found `m` at 0

    For more information, try '--help'.
    ---- exit 2
    ");
    assert_snapshot!(told(&["saga", "cancel", "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b"]), @r"
    error: the following required arguments were not provided:
      --reason <TEXT>

    Usage: sagactl saga cancel --reason <TEXT> <SAGA>...

    For more information, try '--help'.
    ---- exit 2
    ");
    assert_snapshot!(told(&["saga", "list", "--url", "ftp://example.org"]), @r"
    error: the address `ftp://example.org` must begin with http:// or https://
    ---- exit 2
    ");
}

#[test]
fn completions_know_every_noun_in_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = sagactl(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["saga", "dead-letter", "definition", "retry-now", "business-key"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    // A shell that reads it has nothing to complain about.
    let script = String::from_utf8(sagactl(&["completions", "bash"]).stdout).unwrap();
    let checked = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let page = sagactl(&["man"]);
    assert!(page.status.success());
    assert!(String::from_utf8(page.stdout).unwrap().contains(".TH sagactl 1"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    assert!(sagactl(&["man", "--dir", path.to_str().unwrap()]).status.success());
    let mut pages: Vec<String> =
        fs::read_dir(path).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    assert_snapshot!(pages.join("\n"), @r"
    sagactl-audit-list.1
    sagactl-audit.1
    sagactl-completions.1
    sagactl-dead-letter-discard.1
    sagactl-dead-letter-edit.1
    sagactl-dead-letter-groups.1
    sagactl-dead-letter-list.1
    sagactl-dead-letter-redrive.1
    sagactl-dead-letter-show.1
    sagactl-dead-letter.1
    sagactl-definition-check.1
    sagactl-definition-list.1
    sagactl-definition-plan.1
    sagactl-definition-register.1
    sagactl-definition-show.1
    sagactl-definition.1
    sagactl-man.1
    sagactl-participant-list.1
    sagactl-participant-pause.1
    sagactl-participant-resume.1
    sagactl-participant.1
    sagactl-redrive-cancel.1
    sagactl-redrive-items.1
    sagactl-redrive-list.1
    sagactl-redrive-show.1
    sagactl-redrive-start.1
    sagactl-redrive-watch.1
    sagactl-redrive.1
    sagactl-saga-action-cancel.1
    sagactl-saga-action-items.1
    sagactl-saga-action-list.1
    sagactl-saga-action-show.1
    sagactl-saga-action-start.1
    sagactl-saga-action-watch.1
    sagactl-saga-action.1
    sagactl-saga-cancel.1
    sagactl-saga-diagram.1
    sagactl-saga-history.1
    sagactl-saga-list.1
    sagactl-saga-redrive.1
    sagactl-saga-retry-now.1
    sagactl-saga-show.1
    sagactl-saga-skip.1
    sagactl-saga-start.1
    sagactl-saga-watch.1
    sagactl-saga-why.1
    sagactl-saga.1
    sagactl-why.1
    sagactl.1
    ");
}
