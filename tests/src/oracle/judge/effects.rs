//! I3, I4: each effect happened once, or not at all, as the saga's end demands.

use super::{Violation, World, ended, status, violation};
use crate::oracle::evidence::Trace;

pub(super) fn judge(world: &World<'_>, found: &mut Vec<Violation>) {
    for (id, trace) in &world.evidence.traces {
        if !world.sagas.contains_key(id) {
            found.push(violation(8, "effect of no saga", format!("a participant knows {id}: {trace:?}")));
        }
    }
    let none = Trace::default();
    for (id, row) in world.sagas.iter().filter(|(_, row)| row.definition.ends_with("booking") && ended(row)) {
        let trace = world.evidence.traces.get(id).unwrap_or(&none);
        let complaint = match status(row) {
            "completed" => of_completed(trace),
            _ => of_compensated(trace),
        };
        if let Some((invariant, name)) = complaint {
            found.push(violation(invariant, name, format!("{id} is {} with {trace:?}", status(row))));
        }
    }
    for units in world.evidence.units.iter().filter(|units| units.taken != units.bookings) {
        found.push(violation(3, "units and bookings differ", format!("{units:?}")));
    }
}

fn of_completed(trace: &Trace) -> Option<(u8, &'static str)> {
    if trace.charges > 1 || trace.payments.len() > 1 {
        return Some((3, "doubled charge"));
    }
    if trace.booking.as_deref() != Some("confirmed") || trace.charges == 0 || trace.payments != ["completed"]
    {
        return Some((4, "effect missing"));
    }
    (trace.refunds > 0).then_some((4, "completed and undone"))
}

fn of_compensated(trace: &Trace) -> Option<(u8, &'static str)> {
    if trace.charges > 1 || trace.payments.len() > 1 {
        return Some((3, "doubled charge"));
    }
    let paid = trace.payments.iter().any(|status| status == "completed");
    if !matches!(trace.booking.as_deref(), None | Some("cancelled")) || paid || trace.refunds < trace.charges
    {
        return Some((4, "compensation missing"));
    }
    if trace.refunds > trace.charges {
        return Some((3, "doubled compensation"));
    }
    let in_order = match (trace.refunded_at, trace.cancelled_at) {
        (Some(refunded), Some(cancelled)) => refunded <= cancelled,
        _ => true,
    };
    (!in_order).then_some((4, "wrong order of compensation"))
}
