//! Actions over many letters or sagas as they are sent.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::letter_view::moment;
use crate::bulk::driver::dry::Found;
use crate::bulk::run::Progress;
use crate::store::bulk::{Action, Item};

/// What a dry run found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DryRun)]
pub(crate) struct DryRunView {
    /// How many match.
    matched: u32,
    /// How many of these were looked at so far.
    examined: u32,
    /// How many would be sent.
    would_send: u32,
    /// How many would not: their saga has ended (`saga_ended`), is at another step (`saga_moved_on`) or is no longer kept
    /// (`saga_gone`), the patched value is not what the schema takes (`does_not_fit`), they are `not_open`, `gone` or
    /// `refused` by now.
    would_not_send: BTreeMap<String, u32>,
    /// Of letters: how many have a value, as it would be sent, that passes the newest version of its schema.
    passes_schema: u32,
    /// Of letters: how many have not. Without a patch they would be sent all the same, as they are.
    fails_schema: u32,
}

/// An action over many letters or sagas.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BulkAction)]
pub(crate) struct ActionView {
    #[schema(format = Uuid)]
    id: String,
    /// `redrive`, or what is done to sagas.
    action: String,
    /// `running`, `completed`, `stopped` (by itself, see `stopReason`) or `cancelled`.
    status: String,
    dry_run: bool,
    reason: String,
    actor: String,
    #[schema(value_type = Object)]
    filter: Value,
    #[schema(required, value_type = Option<Object>)]
    patch: Option<Value>,
    rate_per_second: i32,
    /// How many are sent in each of the first steps; the rest follows when these went well.
    #[schema(value_type = Vec<u32>)]
    ramp: Value,
    /// How many were chosen when it was asked for.
    selected: u32,
    /// How many were sent.
    sent: u32,
    /// How many of these did what they were sent for: their saga moved on.
    succeeded: u32,
    /// How many of these failed again.
    failed_again: u32,
    /// How many of these have no outcome yet.
    waiting: u32,
    /// How many were not sent, by why, as in a dry run.
    passed_over: BTreeMap<String, u32>,
    /// How many nothing was done about, so far or for good.
    remaining: u32,
    /// The step of the ramp, from 1; the rest is the last one.
    step: u32,
    /// What it waits for now.
    #[schema(required)]
    waits_for: Option<String>,
    /// Why it stopped by itself.
    #[schema(required)]
    stop_reason: Option<String>,
    /// What a dry run found; null of others.
    #[schema(required)]
    found: Option<DryRunView>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// When nothing was left to send and everything sent had its outcome.
    #[schema(required, format = DateTime)]
    finished_at: Option<String>,
}

impl ActionView {
    /// Whether everything has its outcome.
    pub(crate) const fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }

    pub(crate) fn of(row: Action) -> Self {
        let selected = u32::try_from(row.selected).unwrap_or_default();
        let (progress, found) = if row.dry_run {
            (Progress::default(), serde_json::from_value::<Found>(row.progress.clone()).ok())
        } else {
            (serde_json::from_value::<Progress>(row.progress.clone()).unwrap_or_default(), None)
        };
        let attempted = found.as_ref().map_or(progress.attempted(), |found| found.examined);
        let waits_for = waits_for(&row, &progress, selected);
        Self {
            id: row.id.to_string(),
            action: row.verb,
            status: row.status,
            dry_run: row.dry_run,
            reason: row.reason,
            actor: row.actor,
            filter: row.filter,
            patch: row.patch,
            rate_per_second: row.rate,
            ramp: row.ramp,
            selected,
            sent: progress.sent,
            succeeded: progress.succeeded,
            failed_again: progress.failed_again,
            waiting: progress.waiting(),
            remaining: selected.saturating_sub(attempted),
            step: progress.step + 1,
            passed_over: progress.passed_over,
            waits_for,
            stop_reason: row.stop_reason,
            found: found.map(|found| DryRunView {
                matched: selected,
                examined: found.examined,
                would_send: found.would_send,
                would_not_send: found.would_not,
                passes_schema: found.passes_schema,
                fails_schema: found.fails_schema,
            }),
            created_at: moment(row.created_at),
            updated_at: moment(row.updated_at),
            finished_at: row.finished_at.map(moment),
        }
    }
}

fn waits_for(row: &Action, progress: &Progress, selected: u32) -> Option<String> {
    if row.finished_at.is_some() || row.dry_run {
        return None;
    }
    let waiting = progress.waiting();
    let outcomes =
        if waiting == 1 { "the outcome of 1".to_owned() } else { format!("the outcomes of {waiting}") };
    let left = selected.saturating_sub(progress.attempted());
    match (waiting, left) {
        (0, _) => None,
        (_, 0) => Some(outcomes),
        (_, _) if row.status != "running" => Some(outcomes),
        (_, left) => Some(format!("{outcomes} of step {}; {left} follow", progress.step + 1)),
    }
}

/// Some actions, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BulkActionPage)]
pub(crate) struct ActionPage {
    pub(crate) items: Vec<ActionView>,
    /// Ask again with it for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// What became of one of the selection.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BulkItem)]
pub(crate) struct ItemView {
    /// The letter, or the saga.
    #[schema(format = Uuid)]
    id: String,
    /// Its place in the selection, from 1.
    place: i32,
    /// `remaining`, `waiting` (sent, without an outcome yet), `succeeded`, `failed_again`, `passed_over`, or of a dry run
    /// `examined`.
    outcome: String,
    /// Why it was passed over, or what the dry run found: `send`, or why not. `not_back` of a letter that no saga waits for:
    /// it counts as succeeded, since it has not failed again.
    #[schema(required)]
    code: Option<String>,
    /// The same, for people.
    #[schema(required)]
    note: Option<String>,
    #[schema(required, format = DateTime)]
    updated_at: Option<String>,
}

/// Outcomes, and the states of the table that they are.
pub(crate) const OUTCOMES: [(&str, &str); 6] = [
    ("remaining", "chosen"),
    ("waiting", "sent"),
    ("succeeded", "succeeded"),
    ("failed_again", "failed_again"),
    ("passed_over", "passed_over"),
    ("examined", "examined"),
];

impl ItemView {
    pub(crate) fn of(item: Item) -> Self {
        let outcome = OUTCOMES.iter().find(|(_, state)| **state == item.state).map(|(outcome, _)| *outcome);
        Self {
            id: item.subject_id.to_string(),
            place: item.place,
            outcome: outcome.unwrap_or("remaining").to_owned(),
            code: item.code,
            note: item.note,
            updated_at: item.updated_at.map(moment),
        }
    }
}

/// Some of a selection, in order.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BulkItemPage)]
pub(crate) struct ItemPage {
    pub(crate) items: Vec<ItemView>,
    /// Ask again with it for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}
