//! What a program was told and can do with that: `config print`, `config check`; and secrets, which nothing ever shows.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use insta::assert_snapshot;
use tests::process::{Environment, Program, Service};
use tests::scenario::{on_no_stack, on_own_stack};
use tests::stack::Options;
use tests::wait::SOON;

/// What must never be shown.
const SECRET: &str = "hunter2";

fn environment(settings: &[(&str, &str)]) -> Environment {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What a program prints until it ends, and with which code.
async fn output(
    program: Program,
    arguments: &[&str],
    told: &Environment,
    folder: &Path,
) -> Result<(i32, String)> {
    let service = Service::start(program, arguments, told, &folder.join("program.log"))?;
    let status = service.ended(SOON).await.with_context(|| format!("{arguments:?}"))?;
    let text = service.output()?;
    ensure!(!text.contains(SECRET), "{} {arguments:?} shows a secret: {text}", program.name());
    Ok((status.code().context("ended by a signal")?, text.trim_end().to_owned()))
}

#[test]
fn what_a_program_was_told_is_printed_with_where_that_comes_from() {
    on_no_stack(async || {
        let folder = tests::process::log_folder()?;
        let (held, file) = (folder.join("url"), folder.join("worker.toml"));
        std::fs::write(&held, format!("postgres://saga:{SECRET}@db:5433/payment?sslmode=require\n"))?;
        std::fs::write(&file, "payment_gateway = 'http'\nlog_format = 'json'\n")?;
        let told = environment(&[
            ("DATABASE_URL_FILE", held.to_str().context("a path")?),
            ("PAYMENT_GATEWAY_URL", &format!("https://me:{SECRET}@bank:8443/{SECRET}?key={SECRET}")),
            ("SCHEMA_REGISTRY_PASSWORD", SECRET),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://me:{SECRET}@collector:4317")),
            ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization=Bearer {SECRET}")),
        ]);
        let config = file.to_str().context("a path")?;
        let print = ["--config", config, "config", "print", "--topic-partitions", "12"];
        let (code, text) = output(Program::PaymentWorker, &print, &told, &folder).await?;
        let shown = text.replace(folder.to_str().context("a path")?, "FOLDER");
        let words = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_snapshot!(words.collect::<Vec<_>>().join("\n"), @"
        DATABASE_URL postgres://saga:***@db:5433/payment (sslmode Require) environment, in FOLDER/url
        KAFKA_BOOTSTRAP_SERVERS 127.0.0.1:9092 default
        KAFKA_PROPERTIES -
        BROKER_INCARNATION -
        SCHEMAS_DIR -
        SCHEMA_REGISTRY_URL -
        SCHEMA_REGISTRY_USER -
        SCHEMA_REGISTRY_PASSWORD (secret) environment
        SCHEMA_REGISTRY_CA -
        SCHEMA_REGISTRY_MODE write default
        LOG_FORMAT json file FOLDER/worker.toml
        TOPIC_PARTITIONS 12 flag
        TOPIC_REPLICATION -1 default
        METRICS_ADDR 127.0.0.1:0 default
        PAYMENT_GATEWAY http file FOLDER/worker.toml
        PAYMENT_GATEWAY_URL https://bank:8443/… environment
        SIMULATED_LATENCY_MS 0 default
        ALLOW_FORCED_OUTCOMES false default
        OTEL_EXPORTER_OTLP_ENDPOINT http://***@collector:4317 environment
        OTEL_EXPORTER_OTLP_HEADERS (secret) environment
        ");
        assert_eq!(code, 0);
        let as_json = [&print[..], &["--format", "json"]].concat();
        let (code, text) = output(Program::PaymentWorker, &as_json, &told, &folder).await?;
        let all: serde_json::Value = serde_json::from_str(&text)?;
        assert_eq!((code, all["settings"].as_array().map(Vec::len)), (0, Some(shown.lines().count())));
        Ok(std::fs::remove_dir_all(folder)?)
    });
}

#[test]
fn a_check_says_everything_that_is_wrong_and_what_to_do() {
    on_no_stack(async || {
        let folder = tests::process::log_folder()?;
        let url = format!("postgres://saga:{SECRET}@127.0.0.1:1/saga");
        let wrong = environment(&[
            ("DATABASE_URL", &url),
            ("SHARDS", "none"),
            ("HTTP_ADDR", "here"),
            ("LOG_FORMAT", "xml"),
        ]);
        let (code, text) = output(Program::Orchestrator, &["config", "check"], &wrong, &folder).await?;
        assert_snapshot!(text, @r#"
        settings  wrong  LOG_FORMAT: found "xml", allowed: auto, text or json
        settings  wrong  SHARDS: found "none", allowed: a number from 1 to 10000
        settings  wrong  HTTP_ADDR: found "here", allowed: ADDRESS:PORT, e.g. 127.0.0.1:8080
        next: set that right and check again, there may be more; `orchestrator --help` says what each is
        "#);
        assert_eq!(code, 2);

        // Nobody is there.
        let properties = folder.join("kafka.properties");
        let lines = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=me\nsasl.password={SECRET}\n"
        );
        std::fs::write(&properties, lines)?;
        let nobody = environment(&[
            ("DATABASE_URL", &url),
            ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
            ("KAFKA_PROPERTIES", properties.to_str().context("a path")?),
        ]);
        for program in [Program::Orchestrator, Program::BookingWorker, Program::PaymentWorker] {
            let (code, text) = output(program, &["config", "check"], &nobody, &folder).await?;
            let starts: Vec<String> = text
                .lines()
                .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
                .collect();
            assert_eq!(
                (code, starts.join(", ").as_str()),
                (1, "settings ok, database wrong, kafka wrong"),
                "{text}"
            );
            ensure!(text.matches("; next: ").count() == 2 && text.contains("refused"), "{text}");
        }
        Ok(std::fs::remove_dir_all(folder)?)
    });
}

#[test]
fn a_check_finds_what_is_there() {
    let none = Options { orchestrators: 0, workers: false, ..Options::default() };
    on_own_stack(none, async |stack| {
        let folder = tests::process::log_folder()?;
        for program in [Program::Orchestrator, Program::BookingWorker, Program::PaymentWorker] {
            let told = stack.environment(program);
            let (code, text) = output(program, &["config", "check"], &told, &folder).await?;
            let starts: Vec<String> = text
                .lines()
                .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
                .collect();
            let next = format!("next: `{}", program.name());
            assert_eq!(
                (code, starts.join(", ")),
                (0, format!("settings ok, database ok, kafka ok, {next}")),
                "{text}"
            );
        }
        // A database of another name.
        let mut told = stack.environment(Program::BookingWorker);
        let url = told.get("DATABASE_URL").cloned().unwrap_or_default();
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        let server = path.rsplit_once('/').context("a path")?.0;
        told.insert("DATABASE_URL".to_owned(), format!("{server}/nowhere?{query}"));
        let (code, text) = output(Program::BookingWorker, &["config", "check"], &told, &folder).await?;
        ensure!(code == 1 && text.contains("next: create the database"), "{text}");
        Ok(std::fs::remove_dir_all(folder)?)
    });
}

/// Whatever is wrong with where it is: no log and no error has the password.
#[test]
fn no_log_and_no_error_has_a_password() {
    on_own_stack(Options { orchestrators: 0, workers: false, ..Options::default() }, async |stack| {
        let folder = tests::process::log_folder()?;
        let properties = folder.join("kafka.properties");
        let lines = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=me\nsasl.password={SECRET}\n"
        );
        std::fs::write(&properties, lines)?;
        // Nobody is there for what these are sent to either.
        let everywhere = environment(&[
            ("RUST_LOG", "debug"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://me:{SECRET}@127.0.0.1:1")),
            ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization=Bearer {SECRET}")),
            ("SCHEMA_REGISTRY_USER", "me"),
            ("SCHEMA_REGISTRY_PASSWORD", SECRET),
        ]);
        let programs = [Program::Orchestrator, Program::BookingWorker, Program::PaymentWorker];
        for (number, program) in programs.into_iter().enumerate() {
            let nobody = format!("postgres://saga:{SECRET}@127.0.0.1:1/saga");
            let mut no_database = stack.environment(program);
            no_database.insert("DATABASE_URL".to_owned(), nobody);
            let mut no_broker = stack.environment(program);
            no_broker.insert("KAFKA_PROPERTIES".to_owned(), properties.display().to_string());
            let mut no_registry = stack.environment(program);
            no_registry.insert("SCHEMA_REGISTRY_URL".to_owned(), "http://127.0.0.1:1".to_owned());
            for (mut told, waits) in [
                (no_database, "DATABASE_URL"),
                (no_broker, "KAFKA_BOOTSTRAP_SERVERS"),
                (no_registry, "SCHEMA_REGISTRY_URL"),
            ] {
                told.extend(everywhere.clone());
                let log = folder.join(format!("{number}-{waits}.log"));
                let service = Service::start(program, &["serve"], &told, &log)?;
                tests::wait::eventually("it waits", SOON, async || {
                    let text = service.output()?;
                    Ok((text.contains("waiting") && text.contains(waits)).then_some(()))
                })
                .await?;
                service.kill()?;
                ensure!(!service.output()?.contains(SECRET), "{}", service.output()?);
            }
        }
        Ok(std::fs::remove_dir_all(folder)?)
    });
}
