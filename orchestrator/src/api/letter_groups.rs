//! Dead letters in groups: what is wrong, and how much of it.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::dead_letters::STATUSES;
use super::document::Problems;
use super::letter_view::moment;
use super::mount::Asked;
use super::problem::{Answer, json};
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, after_place};
use crate::store::letter_groups::{Group, GroupFilter};

/// How many letters are in each status.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterCounts)]
pub(crate) struct CountsView {
    open: i64,
    redriven: i64,
    resolved: i64,
    discarded: i64,
}

/// Dead letters of the same reason, message type and step.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterGroup)]
pub(crate) struct GroupItem {
    /// The group, as the list of dead letters and a redrive's filter take it.
    #[schema(format = Uuid)]
    group: String,
    reason: String,
    #[schema(required)]
    message_type: Option<String>,
    #[schema(required)]
    step: Option<String>,
    /// How many letters there are.
    count: i64,
    by_status: CountsView,
    /// The first failure of any of them.
    #[schema(format = DateTime)]
    first_seen_at: String,
    /// The last failure of any of them.
    #[schema(format = DateTime)]
    last_seen_at: String,
}

impl GroupItem {
    fn of(group: Group) -> Self {
        let Group { open, redriven, resolved, discarded, .. } = group;
        Self {
            group: group.group_id.to_string(),
            reason: group.reason,
            message_type: group.message_type,
            step: group.step,
            count: group.letters,
            by_status: CountsView { open, redriven, resolved, discarded },
            first_seen_at: moment(group.first_seen),
            last_seen_at: moment(group.last_seen),
        }
    }
}

/// Some groups, those that failed last first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetterGroupPage)]
pub(crate) struct GroupPage {
    items: Vec<GroupItem>,
    /// Ask again with it for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Groups of dead letters with the same cause, those that failed last first.
#[utoipa::path(
    get, path = "/api/dead-letters/groups", tag = "Dead letters", operation_id = "listDeadLetterGroups",
    params(
        ("status" = Option<String>, Query, description = "With letters that are open, redriven, resolved or discarded."),
        ("reason" = Option<String>, Query, description = "Of this reason."),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 500, description = "Entries of a page; 50 if it is left out."),
        ("cursor" = Option<String>, Query, description = "The nextCursor of the page before."),
    ),
    responses((status = 200, description = "A page.", body = GroupPage), Problems),
)]
pub(crate) async fn list_groups(app: Arc<App>, asked: Asked) -> Answer {
    let mut query = asked.query()?;
    let filter = GroupFilter { status: query.word("status", &STATUSES), reason: query.text("reason") };
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let after = query.place_cursor();
    query.done()?;
    let mut found = app.api.reads.letter_groups(&filter, after, limit + 1).await?;
    let more = found.len() as u64 > limit;
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = found.last().map(|group| after_place(group.last_seen, group.group_id));
    let items = found.into_iter().map(GroupItem::of).collect();
    Ok(json(StatusCode::OK, &GroupPage { items, next_cursor: last.filter(|_| more) }))
}
