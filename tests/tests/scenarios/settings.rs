//! Wrong settings: one line that names the setting, what was found and what is allowed, and exit code 2.

use anyhow::{Context, Result, ensure};
use insta::assert_snapshot;
use tests::process::{Environment, Program, Service};
use tests::scenario::{on_no_stack, on_own_stack};
use tests::stack::Options;
use tests::wait::SOON;
use uuid::Uuid;

/// Starts a program with one setting wrong and gives what it says.
async fn complaint(program: Program, name: &str, value: Option<&str>) -> Result<String> {
    let mut settings: Environment = [
        ("DATABASE_URL", "postgres://saga:hidden@127.0.0.1:1/saga"),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("HTTP_ADDR", "127.0.0.1:0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    match value {
        Some(value) => settings.insert(name.to_owned(), value.to_owned()),
        None => settings.remove(name),
    };
    let folder = tests::process::log_folder()?;
    let service = Service::start(program, &["serve"], &settings, &folder.join("program.log"))?;
    let status = service.ended(SOON).await.with_context(|| format!("{name}={value:?}"))?;
    let output = service.output()?;
    std::fs::remove_dir_all(folder)?;
    ensure!(status.code() == Some(2), "{name}={value:?}: {status}, {output}");
    ensure!(!output.contains("hidden"), "a secret is shown: {output}");
    ensure!(output.lines().count() == 1, "one line was expected: {output}");
    Ok(output.trim_end().to_owned())
}

async fn complaints(program: Program, wrong: &[(&str, Option<&str>)]) -> Result<String> {
    let mut lines = Vec::new();
    for (name, value) in wrong {
        lines.push(complaint(program, name, *value).await?);
    }
    Ok(lines.join("\n"))
}

const EVERYWHERE: [(&str, Option<&str>); 9] = [
    ("DATABASE_URL", None),
    ("DATABASE_URL", Some("mysql://root:hidden@localhost/saga")),
    ("KAFKA_BOOTSTRAP_SERVERS", Some("localhost")),
    ("KAFKA_PROPERTIES", Some("/no/such/file")),
    ("SCHEMAS_DIR", Some("/no/such/folder")),
    ("SCHEMA_REGISTRY_URL", Some("https://me:hidden@here")),
    ("SCHEMA_REGISTRY_MODE", Some("yes")),
    ("LOG_FORMAT", Some("xml")),
    ("TOPIC_PARTITIONS", Some("0")),
];

#[test]
fn that_every_program_has() {
    on_no_stack(async || {
        let said = complaints(Program::Orchestrator, &EVERYWHERE).await?;
        assert_snapshot!(said, @r#"
        DATABASE_URL: found nothing, allowed: postgres://USER:PASSWORD@HOST/DATABASE
        DATABASE_URL: found a text that is not shown here, allowed: postgres://USER:PASSWORD@HOST/DATABASE
        KAFKA_BOOTSTRAP_SERVERS: found "localhost", allowed: HOST:PORT, several with commas
        KAFKA_PROPERTIES: found "/no/such/file", allowed: a file of librdkafka properties (Kafka properties file /no/such/file: cannot be read)
        SCHEMAS_DIR: found "/no/such/folder", allowed: a folder of Avro schemas (schemas: cannot read /no/such/folder: No such file or directory (os error 2))
        SCHEMA_REGISTRY_URL: found "https://***@here", allowed: http://HOST:PORT or https://HOST:PORT, with a path if need be, and no user, who is SCHEMA_REGISTRY_USER
        SCHEMA_REGISTRY_MODE: found "yes", allowed: read, write or register
        LOG_FORMAT: found "xml", allowed: auto, text or json
        TOPIC_PARTITIONS: found "0", allowed: a number from 1 to 10000
        "#);
        for program in [Program::BookingWorker, Program::PaymentWorker] {
            assert_eq!(complaints(program, &EVERYWHERE).await?, said);
        }
        Ok(())
    });
}

#[test]
fn that_one_program_has() {
    on_no_stack(async || {
        let orchestrator = [
            ("HTTP_ADDR", Some("localhost")),
            ("ADVERTISE_URL", Some("ftp://here")),
            ("SHARDS", Some("none")),
            ("COMMAND_PARTITIONS", Some("-1")),
            ("SHIPPED_DEFINITIONS", Some("booking,tripp")),
            ("ALLOW_FORCED_OUTCOMES", Some("yes")),
        ];
        assert_snapshot!(complaints(Program::Orchestrator, &orchestrator).await?, @r#"
        HTTP_ADDR: found "localhost", allowed: ADDRESS:PORT, e.g. 127.0.0.1:8080
        ADVERTISE_URL: found "ftp://here", allowed: http://HOST:PORT or https://HOST:PORT
        SHARDS: found "none", allowed: a number from 1 to 10000
        COMMAND_PARTITIONS: found "-1", allowed: a number from 1 to 10000
        SHIPPED_DEFINITIONS: found "booking,tripp", allowed: all, none, or names with commas of booking, erasure, stock-transfer, trip
        ALLOW_FORCED_OUTCOMES: found "yes", allowed: true or false
        "#);
        let payment = [
            ("METRICS_ADDR", Some("9100")),
            ("PAYMENT_GATEWAY", Some("cash")),
            ("SIMULATED_LATENCY_MS", Some("soon")),
            ("ALLOW_FORCED_OUTCOMES", Some("perhaps")),
        ];
        assert_snapshot!(complaints(Program::PaymentWorker, &payment).await?, @r#"
        METRICS_ADDR: found "9100", allowed: none, or ADDRESS:PORT, e.g. 127.0.0.1:9100
        PAYMENT_GATEWAY: found "cash", allowed: simulated or http
        SIMULATED_LATENCY_MS: found "soon", allowed: a number from 0 to 60000
        ALLOW_FORCED_OUTCOMES: found "perhaps", allowed: true or false
        "#);
        Ok(())
    });
}

#[test]
fn that_do_not_fit_what_is_there() {
    let one = Options { workers: false, ..Options::default() };
    on_own_stack(one, async |stack| {
        let mut said = Vec::new();
        for (name, value) in
            [("SHARDS", "7"), ("COMMAND_PARTITIONS", "3"), ("DEFINITIONS_DIR", "/no/such/folder")]
        {
            let mut settings = stack.environment(Program::Orchestrator);
            settings.insert(name.to_owned(), value.to_owned());
            let log = stack.log(Program::Orchestrator);
            let service = Service::start(Program::Orchestrator, &["serve"], &settings, &log)?;
            let status = service.ended(SOON).await?;
            let output = service.output()?;
            ensure!(!status.success(), "{name}={value} was taken: {output}");
            said.push(output.lines().last().unwrap_or_default().to_owned());
        }
        assert_snapshot!(said.join("\n"), @r#"
        orchestrator: the database remembers 4 shards, but 7 are asked for: set SHARDS=4 and give saga.inbox 4 partitions, or use another database
        orchestrator: topic accounts.commands has 4 partitions, expected 3
        DEFINITIONS_DIR: found "/no/such/folder", allowed: a folder of definitions (*.toml)
        "#);
        Ok(())
    });
}

#[test]
fn only_the_chosen_shipped_definitions_are_published() {
    let none = Options { orchestrators: 0, workers: false, ..Options::default() };
    on_own_stack(none, async |stack| {
        let mut settings = stack.environment(Program::Orchestrator);
        settings.remove("DEFINITIONS_DIR");
        // A start that does not get the topics of all that ships leaves nothing behind.
        let mut all = settings.clone();
        all.insert("COMMAND_PARTITIONS".to_owned(), "3".to_owned());
        let log = stack.log(Program::Orchestrator);
        let refused = Service::start(Program::Orchestrator, &["serve"], &all, &log)?;
        ensure!(!refused.ended(SOON).await?.success(), "{}", refused.output()?);

        settings.insert("SHIPPED_DEFINITIONS".to_owned(), "booking".to_owned());
        let log = stack.log(Program::Orchestrator);
        let service = Service::start(Program::Orchestrator, &["serve"], &settings, &log)?;
        let api = stack.adopt(service).await?.api.clone();
        let listed = api.get("/api/definitions").await?.expect(200)?;
        let names: Vec<&str> =
            listed["items"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names, ["booking"], "{}", listed);
        Ok(())
    });
}

#[test]
fn every_problem_of_every_definition_is_shown() {
    let one = Options { workers: false, ..Options::default() };
    on_own_stack(one, async |stack| {
        let folder = std::env::temp_dir().join(format!("definitions-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder)?;
        let postpaid = "name = 'postpaid'\nversion = 1\ninput = 'booking.StartBooking'\n";
        std::fs::write(folder.join("a.toml"), format!("{postpaid}deadline = 'soon'\n"))?;
        let erasure = saga_defs::Shipped::named("erasure").context("it ships")?.text;
        std::fs::write(folder.join("b.toml"), erasure.replace("40", "41"))?;
        let mut settings = stack.environment(Program::Orchestrator);
        settings.insert("DEFINITIONS_DIR".to_owned(), folder.display().to_string());
        let log = stack.log(Program::Orchestrator);
        let service = Service::start(Program::Orchestrator, &["serve"], &settings, &log)?;
        let status = service.ended(SOON).await?;
        let output = service.output()?.replace(&folder.display().to_string(), "FOLDER");
        std::fs::remove_dir_all(&folder)?;
        let shown = output.find("error:").and_then(|at| output.get(at..)).unwrap_or(&output);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_snapshot!(format!("{}\n{status}", lines.join("\n")), @"
        error: a definition needs `step`
         --> FOLDER/a.toml:1:1
          |
        1 | name = 'postpaid'
          | ^
          |
          = help: add e.g. `[[step]]`

        error: `soon` is not a duration
         --> FOLDER/a.toml:4:12
          |
        4 | deadline = 'soon'
          |            ^^^^^^
          |
          = help: write e.g. 200ms, 5s, 15m, 2h

        error: erasure version 1 is published with other content, and a published version never changes
         --> FOLDER/b.toml:4:11
          |
        4 | version = 1
          |           ^
          |
          = help: give it version 2

        DEFINITIONS_DIR: found FOLDER (2 of 6 definitions wrong, see above), allowed: definitions that `orchestrator check` finds right; SHIPPED_DEFINITIONS leaves out some that ship
        exit status: 2
        ");
        Ok(())
    });
}
