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

#[test]
fn a_wrong_definition_is_shown_before_anything_starts() {
    let (definitions, data) = (Folder::new(), Folder::new());
    std::fs::write(definitions.path().join("bad.toml"), "name = 'bad'\nversion = 1\ninput = 'a.B'").unwrap();
    let folder = definitions.path().display().to_string();
    let ended = run(on(&data, &["--definitions", &folder]));
    assert_eq!((ended.code, &*ended.said), (Some(2), ""));
    insta::assert_snapshot!(ended.complained.replace(&folder, "FOLDER"), @r"
    error: a definition needs `step`
     --> FOLDER/bad.toml:1:1
      |
    1 | name = 'bad'
      | ^
      |
      = help: add e.g. `[[step]]`

    error: no schema is named `a.B`
     --> FOLDER/bad.toml:3:9
      |
    3 | input = 'a.B'
      |         ^^^^^
      |
      = help: add its schema to those that come with the definition, or to SCHEMAS_DIR

    local: --definitions: 1 of 5 definitions wrong, see above
    ");
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
