//! Workers say how they are and what they have done.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use insta::assert_snapshot;
use messaging::{Headers, Record};
use tests::api::Api;
use tests::kafka::copy_of;
use tests::load::Load;
use tests::measured::Collector;
use tests::oracle::check;
use tests::process::{Program, Service};
use tests::scenario::{on_no_stack, on_own_stack};
use tests::stack::Options;
use tests::wait::{SOON, becomes, eventually};

const WORKERS: [Program; 2] = [Program::BookingWorker, Program::PaymentWorker];

/// The value of a series, 0 if it is not there yet.
fn value(scrape: &str, series: &str) -> Result<u64> {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(Ok(0), |value| value.parse().with_context(|| format!("{series} {value}")))
}

#[test]
fn what_workers_do_is_measured() {
    on_own_stack(Options::default(), async |stack| {
        let load = Load::of(8);
        let under_load = async {
            load.accepts(20, SOON).await?;
            let mut probes = Vec::new();
            for program in WORKERS {
                let api = stack.probes(program).await?;
                assert_eq!(api.get("/metrics").await?.status, 200);
                probes.push(api);
            }
            load.stop();
            anyhow::Ok(probes)
        };
        let ((), probes) = tokio::try_join!(load.run(stack), under_load)?;
        let accepted = load.accepted();
        check(stack, &accepted).await?;

        // A command that comes again, and a record that is none.
        let commands = stack.topic("booking.commands").await?;
        let again: Record = commands.first().map(copy_of).context("nothing was asked for")?;
        let none = Record::new("booking.commands", "nobody", b"no command".to_vec(), Headers::default());
        let [booking, payment] = &probes[..] else { anyhow::bail!("{} workers", probes.len()) };
        let duplicates = r#"participant_duplicates_total{command="booking.ReserveBooking"}"#;
        let before = value(&booking.get("/metrics").await?.text, duplicates)?;
        stack.publish(vec![again, none]).await?;
        becomes("the repeat and the dead letter are counted", (before + 1, 1), SOON, async || {
            let text = booking.get("/metrics").await?.text;
            let letters = r#"participant_dead_letters_total{reason="undecodable"}"#;
            Ok((value(&text, duplicates)?, value(&text, letters)?))
        })
        .await?;

        let scrape = booking.get("/metrics").await?.text;
        let reserved = r#"participant_commands_total{command="booking.ReserveBooking",outcome="succeeded"}"#;
        assert_eq!(value(&scrape, reserved)?, accepted.len() as u64, "each once, whatever was repeated");
        ensure!(value(&scrape, "participant_partitions")? > 0, "{scrape}");
        assert_eq!(value(&scrape, "participant_database_up")?, 1);
        for series in ["participant_batch_duration_seconds_count", "participant_command_delay_seconds_count"]
        {
            ensure!(value(&scrape, series)? > 0, "{series}: {scrape}");
        }
        keep(Program::BookingWorker, &scrape)?;

        let scrape = payment.get("/metrics").await?.text;
        let calls = |outcome: &str| {
            let labels = format!(r#"{{command="payment.ChargePayment",outcome="{outcome}"}}"#);
            value(&scrape, &format!("participant_calls_total{labels}"))
        };
        ensure!(calls("answered")? >= accepted.len() as u64, "{scrape}");
        ensure!(calls("not_made")? + calls("unknown")? > 0, "the gateway was unavailable at times: {scrape}");
        keep(Program::PaymentWorker, &scrape)
    });
}

/// For `promtool check metrics`, see `.ci/monitoring`.
fn keep(program: Program, scrape: &str) -> Result<()> {
    let file = format!("metrics-{}.txt", program.name());
    Ok(std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(file), scrape)?)
}

#[test]
fn a_worker_is_ready_while_it_can_serve() {
    on_own_stack(Options::default(), async |stack| {
        let [booking, payment] = [stack.probes(WORKERS[0]).await?, stack.probes(WORKERS[1]).await?];
        for api in [&booking, &payment] {
            becomes("ready", 200, SOON, async || Ok(api.get("/readyz").await?.status)).await?;
        }
        let verbose = booking.get("/readyz?verbose").await?.expect(200)?;
        let names: Vec<&str> = verbose["checks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str())
            .collect();
        assert_eq!(names, ["database", "group", "partitions", "consumer", "stopping"], "{verbose}");
        assert_snapshot!(booking.get("/readyz").await?.text, @r#"{"status":"ready"}"#);
        assert_snapshot!(booking.get("/livez").await?.text, @r#"{"status":"ok"}"#);
        assert_snapshot!(booking.get("/healthz").await?.text, @r#"{"status":"ok"}"#);

        stack.bookings.go_away().await?;
        let away = eventually("it says that its database is away", SOON, async || {
            let answer = booking.get("/readyz").await?;
            Ok((answer.status == 503).then_some(answer))
        })
        .await?;
        assert_snapshot!(away.problem()?, @"503 not-ready [database]");
        assert_eq!(away.header("retry-after"), "1");
        assert_eq!(booking.get("/livez").await?.status, 200, "a new process would not help");
        assert_eq!(payment.get("/readyz").await?.status, 200, "the other one has its own");
        let up = value(&booking.get("/metrics").await?.text, "participant_database_up")?;
        assert_eq!(up, 0);
        stack.bookings.come_back().await?;
        becomes("ready again", 200, SOON, async || Ok(booking.get("/readyz").await?.status)).await?;

        assert_snapshot!(booking.get("/bookings").await?.problem()?, @"404 not-found");
        let refused = booking.post("/readyz", &serde_json::json!({})).await?;
        assert_snapshot!(refused.problem()?, @"405 method-not-allowed");
        assert_eq!(refused.header("allow"), "GET, HEAD");
        Ok(())
    });
}

#[test]
fn a_worker_that_waits_says_for_what() {
    on_no_stack(async || {
        let settings = [
            ("DATABASE_URL", "postgres://saga:hidden@127.0.0.1:1/saga"),
            ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let folder = tests::process::log_folder()?;
        let service = Service::start(
            Program::BookingWorker,
            &["serve"],
            &settings,
            &folder.join("booking-worker.log"),
        )?;
        let api = Api::new(tests::stack::listening(&service).await?);
        assert_snapshot!(api.get("/livez").await?.text, @r#"{"status":"ok"}"#);
        let waits = api.get("/readyz").await?;
        assert_snapshot!(waits.problem()?, @"503 not-ready [database, group]");
        ensure!(!service.output()?.contains("hidden"), "{}", service.output()?);
        service.kill()
    });
}

#[test]
fn what_is_measured_is_pushed_where_that_is_asked_for() {
    on_own_stack(Options { orchestrators: 0, workers: false, ..Options::default() }, async |stack| {
        let collector = Collector::start().await?;
        stack.tell("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector.endpoint());
        stack.tell("OTEL_METRIC_EXPORT_INTERVAL", "200");
        stack.start_services_again().await?;
        let api = stack.api()?;
        let saga = api.start_booking(&tests::api::BookingRequest::default()).await?;
        api.saga_is(saga, "completed").await?;
        let wanted = [
            ("orchestrator", "saga.started"),
            ("orchestrator", "saga.duration"),
            // What alerts ask for. Nobody reads it here.
            ("orchestrator", "saga.poll.age"),
            ("orchestrator", "saga.dependency.up"),
            ("booking-worker", "participant.database.up"),
            ("booking-worker", "participant.poll.age"),
            ("payment-worker", "participant.partitions"),
            ("booking-worker", "participant.commands"),
            ("payment-worker", "participant.calls"),
        ];
        becomes("pushed", Vec::new(), SOON, async || {
            let seen = collector.seen()?;
            let missing = wanted
                .iter()
                .filter(|(service, name)| !seen.contains(&((*service).to_owned(), (*name).to_owned())));
            Ok(missing.collect::<Vec<_>>())
        })
        .await
    });
}
