//! One saga's story: the transcript of its journal, and what it left in its participants' tables.

use anyhow::{Context, Result};
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{CommandId, Direction, SagaId, StepIndex};
use saga_defs::render::{Columns, Entry, Line, describe};
use saga_defs::saga::{Effect, Event, Reason, Refusal, Status};
use sea_orm::QueryResult;
use serde_json::Value;

use crate::api::Api;
use crate::database::Database;
use crate::stack::Stack;

/// The transcript of a saga, then a line per kind of trace that it left at the shipped participants. Holds no ids and
/// no times.
///
/// # Errors
/// Something does not answer, or there is no such saga.
pub async fn story(stack: &Stack, saga: SagaId) -> Result<String> {
    let transcript = transcript(stack, &stack.api()?, saga).await?;
    Ok(format!("{transcript}\n{}", traces(stack, saga).await?))
}

/// A saga's history, a line per transition, as the API gives it.
///
/// # Errors
/// The API does not answer, or its history cannot be read back.
pub async fn transcript(stack: &Stack, api: &Api, saga: SagaId) -> Result<String> {
    let view = api.saga(saga).await?;
    let definition = definition_of(stack, &view)?;
    let reason = reason(definition, &view["reason"]);
    let history = api.get(&format!("/api/sagas/{saga}/history")).await?.expect(200)?;
    let items = history["items"].as_array().context("a history has items")?;
    let mut lines = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        anyhow::ensure!(item["revision"] == index + 1, "revision {} follows {index}", item["revision"]);
        lines.push(line(definition, saga, item, reason.as_ref()).with_context(|| item.to_string())?);
    }
    Ok(Columns::lines(&lines))
}

fn line(definition: &Definition, saga: SagaId, item: &Value, reason: Option<&Reason>) -> Result<Line> {
    let event: Event = serde_json::from_value(numbered(definition, &item["event"]))?;
    let effects = item["effects"].as_array().context("effects are an array")?;
    let effects: Vec<Effect> = effects
        .iter()
        .map(|effect| serde_json::from_value(numbered(definition, effect)))
        .collect::<Result<_, _>>()?;
    let status = item["status"].as_str().and_then(Status::parse).context("a status")?;
    Ok(describe(definition, &Entry { saga, event: &event, effects: &effects, status, reason }))
}

/// The API shows steps by name; the core knows them by number.
fn numbered(definition: &Definition, entry: &Value) -> Value {
    let mut entry = entry.clone();
    if let Some(step) = entry.get_mut("step")
        && let Some(index) = position(definition, step)
    {
        *step = index.0.into();
    }
    entry
}

fn position(definition: &Definition, step: &Value) -> Option<StepIndex> {
    let name = step.as_str()?;
    let at = definition.steps.iter().position(|step| &*step.name == name)?;
    u16::try_from(at).ok().map(StepIndex)
}

fn reason(definition: &Definition, view: &Value) -> Option<Reason> {
    let text = |name: &str| view[name].as_str().unwrap_or_default();
    (!view.is_null()).then(|| Reason {
        refusal: Refusal::new(text("code"), text("message")),
        step: position(definition, &view["step"]),
    })
}

fn definition_of<'a>(stack: &'a Stack, view: &Value) -> Result<&'a Definition> {
    let name = view["definition"].as_str().context("a saga has a definition")?;
    let version = view["version"].as_u64().and_then(|version| u32::try_from(version).ok());
    stack.definition(name, version.context("a saga has a version")?)
}

/// What a saga left in the tables of the booking and the payment worker.
///
/// # Errors
/// A database does not answer.
pub async fn traces(stack: &Stack, saga: SagaId) -> Result<String> {
    let id = || vec![saga.as_uuid().into()];
    let bookings = "SELECT status || ', units taken ' || taken AS text FROM bookings JOIN resources USING (resource_id) \
                    WHERE booking_id = $1";
    let payments = "SELECT status || ' ' || amount_minor || ' ' || currency || coalesce(' ' || nullif(failure_code, ''), '') \
                    AS text FROM payments WHERE saga_id = $1";
    let bookings = stack.bookings.texts(bookings, id()).await?;
    let payments = stack.payments.texts(payments, id()).await?;
    let gateway = gateway(stack, saga).await?;
    let view = stack.api()?.saga(saga).await?;
    let definition = definition_of(stack, &view)?;
    let mut recorded = recorded(&stack.bookings, definition, saga).await?;
    recorded.extend(self::recorded(&stack.payments, definition, saga).await?);
    recorded.sort();
    let recorded: Vec<String> = recorded.into_iter().map(|(_, text)| text).collect();
    let mut text = String::new();
    for (name, found) in
        [("booking", &bookings), ("payment", &payments), ("gateway", &gateway), ("inbox", &recorded)]
    {
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        text.push_str(&format!("{name}: {found}\n"));
    }
    Ok(text)
}

/// What the gateway's books say about a saga's payment.
async fn gateway(stack: &Stack, saga: SagaId) -> Result<Vec<String>> {
    let query = "SELECT kind || ' ' || gateway.amount_minor || ' ' || gateway.currency AS text \
                 FROM simulated_gateway AS gateway JOIN payments \
                   ON payments.payment_id IN (idempotency_key, charge_key) \
                 WHERE saga_id = $1 ORDER BY kind";
    stack.payments.texts(query, vec![saga.as_uuid().into()]).await
}

/// What a participant recorded about a saga's commands: the order of the command in the recipe, and words.
///
/// # Errors
/// The database does not answer, or a command is recorded that the recipe does not have.
pub async fn recorded(
    database: &Database,
    definition: &Definition,
    saga: SagaId,
) -> Result<Vec<(usize, String)>> {
    let query = "SELECT command_id, recorded FROM inbox WHERE saga_id = $1";
    let rows = database.rows(query, vec![saga.as_uuid().into()]).await?;
    rows.iter().map(|row| words(definition, saga, row)).collect()
}

fn words(definition: &Definition, saga: SagaId, row: &QueryResult) -> Result<(usize, String)> {
    let command = CommandId::from_uuid(row.try_get("", "command_id")?);
    let recorded: String = row.try_get("", "recorded")?;
    let steps = definition.steps.len();
    for (index, step) in definition.steps.iter().enumerate() {
        if CommandId::derive(saga, &step.name, Direction::Forward) == command {
            return Ok((index, format!("{} {recorded}", step.name)));
        }
        let undone = CommandId::derive(saga, &step.name, Direction::Compensation) == command;
        if undone && matches!(step.kind, StepKind::Compensatable { .. }) {
            return Ok((2 * steps - index, format!("undo {} {recorded}", step.name)));
        }
    }
    anyhow::bail!("{command} is recorded, and no command of saga {saga}")
}
