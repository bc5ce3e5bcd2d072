//! Running the program and reading what it says.

use std::borrow::Cow;
use std::process::{Command, Output};
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use saga_defs::ids::SagaId;
use serde_json::{Value, json};
use tests::process::services_program;
use tests::stack::Stack;
use tests::stand_in::Manner;

/// What the program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn of(output: Output) -> Result<Self> {
        let code = output.status.code().context("it ended by a signal")?;
        Ok(Self { code, out: String::from_utf8(output.stdout)?, err: String::from_utf8(output.stderr)? })
    }

    /// Everything in one text without ids and times: standard output, standard error, the exit code.
    pub(crate) fn told(&self) -> String {
        let err =
            if self.err.is_empty() { String::new() } else { format!("---- stderr\n{}", steady(&self.err)) };
        format!("{}{err}---- exit {}\n", steady(&self.out), self.code)
    }

    /// Standard output as JSON, if it ended well.
    pub(crate) fn json(&self) -> Result<Value> {
        ensure!(self.code == 0, "{self:?}");
        serde_json::from_str(&self.out).with_context(|| self.out.clone())
    }
}

/// The program with these arguments, at the stack's orchestrator.
pub(crate) fn program(stack: &Stack, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(services_program()?);
    command.arg("sagactl").args(arguments).env_clear().env("SAGACTL_URL", stack.api()?.base());
    Ok(command)
}

/// Runs it to its end.
pub(crate) async fn sagactl(stack: &Stack, arguments: &[&str]) -> Result<Ran> {
    run(program(stack, arguments)?).await
}

/// Runs a command to its end, with nobody to ask.
pub(crate) async fn run(command: Command) -> Result<Ran> {
    let mut command = tokio::process::Command::from(command);
    Ran::of(command.stdin(std::process::Stdio::null()).output().await?)
}

/// Without what is another each time: ids, moments, lengths of time, addresses, partitions, offsets; and without the padding that follows from
/// them.
fn steady(text: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
            (r"http://[0-9.]+:[0-9]+/?", "URL"),
            (r"/\S*/sagactl-\w+\.json", "FILE"),
            (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z", "WHEN"),
            (r"\b\d+(\.\d+)? (ms|s|min|h|d)\b", "TIME"),
            (r"\bback off [\dmsh ]*\d(ms|[smh])\b", "back off TIME"),
            (r"\bpartition \d+", "partition N"),
            (r"\.commands/\d+", ".commands/N"),
            (r"\boffset \d+", "offset N"),
            (r" {2,}", "  "),
        ]
        .into_iter()
        .filter_map(|(rule, with)| Some((Regex::new(rule).ok()?, with)))
        .collect()
    });
    let steady = RULES.iter().fold(Cow::Borrowed(text), |text, (rule, with)| {
        Cow::Owned(rule.replace_all(&text, *with).into_owned())
    });
    steady.into_owned()
}

/// Starts a trip; the agency treats the traveller so.
pub(crate) async fn travel(
    stack: &Stack,
    definition: &str,
    traveller: &str,
    manners: &[(&'static str, &[Manner])],
) -> Result<SagaId> {
    let agency = stack.stand_in("travel").await?;
    for (command, manner) in manners {
        agency.handle(traveller, command, manner);
    }
    stack.api()?.start_saga(definition, json!({"traveller": traveller})).await
}
