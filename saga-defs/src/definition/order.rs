//! The order of kinds: compensatable\* pivot? retriable\*.

use super::keys::shown;
use super::outline::{Kind, StepOutline};
use super::problem::Problems;

/// Reports each step that stands after one that it must stand before.
pub(super) fn check(steps: &[StepOutline], problems: &mut Problems<'_>) {
    let mut furthest: Option<(Kind, String)> = None;
    for step in steps {
        let Some(kind) = &step.kind else { continue };
        let name = step.name.as_ref().map_or("?".to_owned(), |name| shown(name.get_ref()));
        let now = *kind.get_ref();
        match &furthest {
            Some((before, other)) if now < *before || (now, *before) == (Kind::Pivot, Kind::Pivot) => {
                let message = format!(
                    "step `{name}` ({}) cannot come after `{other}` ({}): the order is compensatable steps, at most one pivot, retriable steps",
                    now.as_str(),
                    before.as_str()
                );
                problems.report_order(kind.span(), message, advice(now, *before, other));
            }
            _ => furthest = Some((now, name)),
        }
    }
}

fn advice(now: Kind, before: Kind, other: &str) -> String {
    match (now, before) {
        (Kind::Pivot, Kind::Pivot) => {
            format!("make it retriable, or make `{other}` compensatable")
        }
        (Kind::Pivot, _) => format!("move it before `{other}`, or make it retriable"),
        _ => format!("move it before `{other}`, or make it retriable if it may be tried until it succeeds"),
    }
}
