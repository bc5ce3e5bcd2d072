use std::net::TcpListener;

use crate::support::{Folder, on, program, run};

#[test]
fn help_says_what_there_is() {
    let ended = run(program(&["--help"]));
    ended.check(&[]);
    insta::assert_snapshot!(ended.said, @r"
Runs the whole stack on this machine: Postgres, an embedded Kafka-protocol broker, the orchestrator
and both workers; shows one booking that completes and one that is undone, then serves until Ctrl-C

Usage: local [OPTIONS]

Options:
      --http <ADDR>        Where the API listens; port 0 is any free one [default: 127.0.0.1:8080]
      --bookings <N>       Start N bookings as well and sum up how they went: of ten, eight are
                           normal, one is declined, and for one the payment gateway is unavailable
                           at first
      --exit               Stop when all bookings have ended; the exit code is 1 if any did not end
                           as expected
      --kafka <HOST:PORT>  Use this Kafka instead of the embedded broker
      --definitions <DIR>  A folder of further definitions (*.toml)
      --schemas <DIR>      A folder of further Avro schemas (*.avsc)
      --data-dir <DIR>     Where data and logs are kept; the next start finds them there [default: a
                           folder of the user's, or below /var/lib for root]
  -h, --help               Print help
  -V, --version            Print version

Environment:
  DATABASE_URL          A Postgres of your own instead of one that is started here; the schemas
                        orchestrator, booking and payment are made in that database
  LOCAL_POSTGRES        Where the Postgres started here comes from: installed, or fetch
  KAFKA_PROPERTIES      With --kafka: a file of librdkafka properties, for TLS and SASL
  RUST_LOG, LOG_FORMAT  What the services log, and how: text or json
  NO_COLOR              Set to anything: no colours

Examples, each after `cargo run --release --`:
  --exit --bookings 1000                           A burst, its checks, and out
  --http 127.0.0.1:0 --data-dir /var/tmp/second    A second stack beside the first
");
}

/// Fails unless the program ends with that code and one line.
#[track_caller]
fn check(arguments: &[&str], code: i32, line: &str) {
    let folder = Folder::new();
    let ended = run(on(&folder, arguments));
    let path = folder.path().display().to_string();
    let complained = ended.complained.replace(&path, "FOLDER");
    assert_eq!((ended.code, complained.trim_end()), (Some(code), line), "{}", ended.said);
}

#[test]
fn what_is_wrong_is_one_line() {
    let definition = Folder::new();
    std::fs::write(definition.path().join("bad.toml"), "name = 'bad'").unwrap();
    let file = definition.path().join("bad.toml").display().to_string();
    let line = format!(
        "local: --definitions: {file}: the definition is refused: line 1, column 1: a definition needs `version`; \
         add e.g. `version = 1`; line 1, column 1: a definition needs `input`; add e.g. `input = \"booking.StartBooking\"`; \
         line 1, column 1: a definition needs `step`; add e.g. `[[step]]`"
    );
    check(&["--definitions", &definition.path().display().to_string()], 2, &line);
}

#[test]
fn a_taken_port_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let mut command = program(&["--http", &address, "--data-dir"]);
    command.arg(folder.path());
    let ended = run(command);
    let line = format!(
        "local: --http: {address} is taken by another program; choose another port, or 0 for any free one"
    );
    assert_eq!((ended.code, ended.complained.trim_end()), (Some(2), &*line));
    assert_eq!(ended.said, "");
}

#[test]
fn a_folder_with_other_things_is_left_alone() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/thesis.txt"), "all of it").unwrap();
    let ended = run(on(&folder, &[]));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.complained.contains("holds other things; choose an empty or a new folder"),
        "{}",
        ended.complained
    );
}
