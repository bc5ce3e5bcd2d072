//! The worker's program, as a process.

use std::process::{Command, Output};

use crate::bench::BookingBench;

fn worker(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_booking-worker"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

#[test]
fn a_wrong_setting_is_one_line_that_names_it() {
    let url = ("DATABASE_URL", "postgres://u:secret@localhost/d");
    for (arguments, environment, expected) in [
        (
            vec!["serve"],
            vec![],
            "DATABASE_URL: found nothing, allowed: postgres://USER:PASSWORD@HOST/DATABASE",
        ),
        (
            vec!["migrate"],
            vec![("DATABASE_URL", "mysql://u:secret@h/d")],
            "DATABASE_URL: found a text that is not shown here, allowed: postgres://USER:PASSWORD@HOST/DATABASE",
        ),
        (
            vec!["serve"],
            vec![url, ("LOG_FORMAT", "xml")],
            r#"LOG_FORMAT: found "xml", allowed: auto, text or json"#,
        ),
        // A flag comes before the environment.
        (
            vec!["serve", "--kafka-bootstrap-servers", "nowhere"],
            vec![url, ("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")],
            r#"KAFKA_BOOTSTRAP_SERVERS: found "nowhere", allowed: HOST:PORT, several with commas"#,
        ),
        (
            vec!["serve", "--topic-partitions", "0"],
            vec![url],
            r#"TOPIC_PARTITIONS: found "0", allowed: a number from 1 to 10000"#,
        ),
    ] {
        let output = worker(&arguments, &environment);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), expected));
    }
    let output = worker(&["serve"], &[url, ("SCHEMAS_DIR", "/nowhere")]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text.starts_with(r#"SCHEMAS_DIR: found "/nowhere", allowed: a folder of Avro schemas"#),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let bench = BookingBench::start().await;
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_booking-worker"));
    command.env_clear().arg("migrate").envs([("DATABASE_URL", &*bench.database_url), ("RUST_LOG", "debug")]);
    assert_eq!(command.stderr(full).status().unwrap().code(), Some(0));
}

#[tokio::test]
async fn capacities_are_set_from_the_command_line() {
    let bench = BookingBench::start().await;
    let set = |capacity: &str| {
        let resource = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
        worker(
            &["resource", "set", resource, "--capacity", capacity],
            &[("DATABASE_URL", &bench.database_url)],
        )
    };
    assert_eq!(set("3").status.code(), Some(0));
    assert_eq!(bench.count("SELECT capacity FROM resources").await, 3);
    assert_eq!(set("many").status.code(), Some(2));
    let migrate = worker(&["migrate"], &[("DATABASE_URL", &bench.database_url)]);
    assert_eq!(migrate.status.code(), Some(0), "{}", stderr(&migrate));
}
