//! Dashboards and alerting rules ask only for what is measured.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use messaging::Record;
use regex::Regex;
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
        ensure!(asked.iter().filter(|one| one.label.is_some()).count() > 10, "{asked:?}");
        becomes("asked for and not measured", BTreeSet::new(), SOON, async || {
            let mut missing = asked.clone();
            for api in stack.apis() {
                let text = api.get("/metrics").await?.text;
                missing.retain(|asked| !text.lines().any(|series| asked.is(series)));
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

/// A series that dashboards or rules name; with one of its labels, where they choose by that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    name: String,
    /// The label and, where it is a fixed one, its value: `state="stopped"` or `outcome="`.
    label: Option<String>,
}

impl Asked {
    /// Whether this line of a scrape is that series.
    fn is(&self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix(&self.name) else { return false };
        match &self.label {
            None => rest.starts_with(['{', ' ']),
            Some(label) => rest.starts_with('{') && rest.contains(label.as_str()),
        }
    }
}

/// What dashboards and rules ask for.
fn asked_for() -> Result<BTreeSet<Asked>> {
    // In a dashboard, which is JSON, quotes have a backslash.
    let choice = Regex::new(r#"((?:saga_|http_server_)\w+)\{([^}]*)\}"#)?;
    let matcher = Regex::new(r#"(\w+)(=|!=|=~|!~)\\?"([^"\\]*)\\?""#)?;
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut asked = BTreeSet::new();
    for (folder, extension) in [("grafana", "json"), ("alerts", "yaml")] {
        let folder = deploy.join(folder);
        let files: Vec<PathBuf> =
            folder.read_dir()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        for file in files.iter().filter(|file| file.extension().is_some_and(|found| found == extension)) {
            let text = std::fs::read_to_string(file)?;
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let ours = words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)));
            asked.extend(ours.map(|name| Asked { name: name.to_owned(), label: None }));
            for (_, [name, labels]) in choice.captures_iter(&text).map(|found| found.extract()) {
                for (_, [label, operator, value]) in
                    matcher.captures_iter(labels).map(|found| found.extract())
                {
                    // Prometheus adds that one when it scrapes.
                    if label != "job" {
                        let fixed = operator == "=" && !value.starts_with('$');
                        let label =
                            if fixed { format!("{label}=\"{value}\"") } else { format!("{label}=\"") };
                        asked.insert(Asked { name: name.to_owned(), label: Some(label) });
                    }
                }
            }
        }
    }
    Ok(asked)
}

/// The value of a series without labels.
fn value(scrape: &str, name: &str) -> Option<u64> {
    scrape.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
