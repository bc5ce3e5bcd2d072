//! Dashboards and alerting rules ask only for what is measured.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use messaging::Record;
use serde_json::json;
use tests::api::BookingRequest;
use tests::kafka::copy_of;
use tests::process::Program;
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};
use tests::stand_in::Manner::{Fail, Reject};
use tests::wait::{SOON, becomes};

/// What the names of our metrics begin with. Nothing else in those files does.
const PREFIXES: [&str; 2] = ["saga_", "http_server_"];

#[test]
fn what_dashboards_and_alerts_ask_for_is_measured() {
    on_own_stack(Options::default(), async |stack| {
        // Ages and removals are measured where something is removed.
        let removing = stack.run(Program::Orchestrator, &["serve", "--retention-days", "30"])?;
        stack.adopt(removing).await?;
        something_of_everything(stack).await?;

        let asked = asked_for()?;
        ensure!(asked.len() > 20, "{asked:?}");
        becomes("asked for and not measured", BTreeSet::new(), SOON, async || {
            let mut missing = asked.clone();
            for api in stack.apis() {
                for name in measured(&api.get("/metrics").await?.text) {
                    missing.remove(name);
                }
            }
            Ok(missing)
        })
        .await?;
        // Every process counts what waits for an operator, whoever owns the saga.
        for api in stack.apis() {
            becomes("counted by every process", [1, 1].map(Some), SOON, async || {
                let text = api.get("/metrics").await?.text;
                Ok(["saga_stuck_open", "saga_dead_letters_open"].map(|name| value(&text, name)))
            })
            .await?;
        }
        // `.ci/run` has promtool look at it.
        let text = stack.api()?.get("/metrics").await?.text;
        Ok(std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.txt"), text)?)
    });
}

/// A saga that completes, one that is undone, one whose compensation fails until it is stuck, and a reply that comes again.
async fn something_of_everything(stack: &Stack) -> Result<()> {
    let api = stack.api()?;
    let completed = api.start_booking(&BookingRequest::forced("unavailable")).await?;
    api.saga_is(completed, "completed").await?;
    let undone = api.start_booking(&BookingRequest::forced("declined")).await?;
    api.saga_is(undone, "compensated").await?;
    let agency = stack.stand_in("travel").await?;
    agency.handle("Grace", "BookHotel", &[Reject]);
    agency.handle("Grace", "CancelTrain", &[Fail]);
    let stuck = api.start_saga("quick-trip", json!({"traveller": "Grace"})).await?;
    api.saga_is(stuck, "stuck").await?;
    let reply = stack.topic("saga.inbox").await?;
    let again: Record = reply.first().map(copy_of).context("nobody has replied")?;
    stack.publish(vec![again]).await
}

/// The names of series that dashboards and rules name.
fn asked_for() -> Result<BTreeSet<String>> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut names = BTreeSet::new();
    for (folder, extension) in [("grafana", "json"), ("alerts", "yaml")] {
        let folder = deploy.join(folder);
        let files: Vec<PathBuf> =
            folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        for file in files.iter().filter(|file| file.extension().is_some_and(|found| found == extension)) {
            let text = std::fs::read_to_string(file)?;
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours = words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)));
            names.extend(ours.map(str::to_owned));
        }
    }
    Ok(names)
}

/// The names of the series in a scrape.
fn measured(scrape: &str) -> BTreeSet<&str> {
    let series = scrape.lines().filter(|line| !line.starts_with('#'));
    series.filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// The value of a series without labels.
fn value(scrape: &str, name: &str) -> Option<u64> {
    scrape.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
