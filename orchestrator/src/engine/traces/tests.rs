//! What is told of a saga that waited for an operator and went on: a line for each span.

use std::fmt::Write as _;
use std::sync::Arc;

use saga_defs::Shipped;
use saga_defs::ids::{Direction, SagaId};
use saga_defs::machine::{self, Moment, Transition};
use saga_defs::saga::{Event, Outcome};
use serde_json::json;

use super::*;

const BEGIN: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

/// A booking that is stuck after a second at its first step, is redriven a minute later, and then goes on to its end.
fn told(traceparent: &str) -> String {
    let definition = Shipped::named("booking").unwrap().definition();
    let at = |second: u64| BEGIN.after(Duration::from_secs(second));
    let input = json!({"userId": "u", "resourceId": "r", "amountMinor": 5, "currency": "EUR"});
    let (input, id) = (input.as_object().unwrap().clone(), SagaId::new(BEGIN, [7; 10]));
    let mut saga = machine::start(&definition, id, &input, None, Some(traceparent.into()), BEGIN).saga;
    let cause = Refusal::new("unavailable", "try again later");
    let reason: Arc<str> = "it is back".into();
    let mut events = vec![(1, Event::Quarantined { cause }), (61, Event::Redrive { reason, input: None })];
    for (second, step) in (62..).zip(&definition.steps) {
        let command_id = CommandId::derive(id, &step.name, Direction::Forward);
        let outcome = Outcome::Succeeded { fields: saga_defs::Data::new() };
        events.push((second, Event::Replied { command_id, echo: None, outcome }));
    }
    let mut lines = String::new();
    for (second, event) in events {
        let now = at(second);
        let Transition::Moved(moved) =
            machine::transition(&definition, &saga, &event, Moment::of(&saga, now))
        else {
            panic!("{event:?} is ignored")
        };
        let mut spans = Spans::default();
        of_transition(&definition, Some(&saga), &moved.saga, None, now, &mut spans);
        for span in spans.over {
            let second = |at: SystemTime| at.duration_since(system_time(BEGIN)).unwrap().as_secs();
            let below = if span.parent == Some(of_saga(&saga).span_id) { "  " } else { "" };
            let error = span.error.map(|error| format!(" ERROR {error}")).unwrap_or_default();
            writeln!(lines, "{below}{} {}..{}{error}", span.name, second(span.start), second(span.end))
                .unwrap();
        }
        saga = moved.saga;
    }
    lines
}

#[test]
fn how_long_it_was_stuck_is_in_its_trace() {
    insta::assert_snapshot!(told("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), @"
      stuck at reserve-booking 1..61 ERROR unavailable: try again later
    saga booking 0..64
    ");
}

#[test]
fn what_nobody_wanted_recorded_is_told_when_it_is_stuck() {
    insta::assert_snapshot!(told("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), @"
      reserve-booking 0..1 ERROR unavailable: try again later
    saga booking 0..1 ERROR unavailable: try again later
      stuck at reserve-booking 1..61 ERROR unavailable: try again later
    ");
}
