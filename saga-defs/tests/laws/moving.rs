//! Laws about moving as such: no panic, no change without a move, repetition, replay, JSON.

use std::collections::HashSet;

use proptest::prelude::*;
use saga_defs::ids::Revision;
use saga_defs::machine::{Moment, Transition, replay, transition};
use saga_defs::render::{Columns, Entry, describe, mermaid, transcript_line};
use saga_defs::saga::{Effect, Event, Outcome, Saga, State, StepRecord, StepStatus, Try};

use crate::course::{Course, courses, events, wild_tries};
use crate::recipe::refusals;
use crate::{for_all, for_all_courses};

/// States that no course leads to, too.
fn wild_states() -> impl Strategy<Value = State> {
    prop_oneof![
        3 => wild_tries().prop_map(State::Awaiting),
        2 => (wild_tries(), any::<i64>()).prop_map(|(next, until)| {
            State::Backoff { next, until: saga_defs::time::Timestamp::from_unix_millis(until) }
        }),
        3 => (wild_tries(), refusals()).prop_map(|(at, cause)| State::Stuck { at, cause }),
        1 => Just(State::Completed),
        1 => Just(State::Compensated),
    ]
}

fn wild_records() -> impl Strategy<Value = Vec<StepRecord>> {
    let status = prop::sample::select(vec![
        StepStatus::Pending,
        StepStatus::Running,
        StepStatus::Succeeded,
        StepStatus::Rejected,
        StepStatus::InDoubt,
        StepStatus::Compensating,
        StepStatus::Compensated,
        StepStatus::Stuck,
    ]);
    prop::collection::vec(status.prop_map(|status| StepRecord { status, ..StepRecord::default() }), 0..8)
}

#[test]
fn no_event_in_any_state_panics() {
    let values = (courses(), wild_states(), wild_records(), prop::collection::vec(events(), 8));
    for_all(100, &values, |(course, state, steps, events)| {
        let mut saga = Saga { state, steps, ..course.saga().clone() };
        saga.revision = Revision(u32::MAX);
        for event in events {
            let done = transition(&course.definition, &saga, &event, Moment::of(&saga, saga.updated_at));
            let line = transcript_line(&course.definition, Some(&saga), &event, &done);
            prop_assert!(!Columns::of([&line]).line(&line).contains(char::is_control));
            mermaid(&course.definition, Some(&saga));
            if let Transition::Moved(moved) = done {
                saga = moved.saga;
            }
        }
        Ok(())
    });
}

#[test]
fn every_event_does_the_same_to_the_same_saga() {
    for_all_courses(|course| {
        for step in &course.steps[1..] {
            let before = step.before.as_ref().expect("not the start");
            let moment = Moment::of(before, step.at);
            let once = transition(&course.definition, before, &step.event, moment);
            prop_assert_eq!(&once, &transition(&course.definition, before, &step.event, moment));
        }
        Ok(())
    });
}

/// A reply or a timer that comes twice in a row, or a verb that is submitted twice, acts once. Two events are about the
/// outside and not about the saga's place, and may be meant twice: a letter is sent again as often as its operator says,
/// and a saga is parked as often as the database refuses it.
#[test]
fn an_event_repeated_changes_nothing() {
    for_all_courses(|course| {
        for step in &course.steps[1..] {
            if matches!(step.event, Event::LetterRedriven { .. } | Event::Quarantined { .. }) {
                continue;
            }
            let again =
                transition(&course.definition, &step.after, &step.event, Moment::of(&step.after, step.at));
            prop_assert!(matches!(again, Transition::Ignored(_)), "{:?}: {again:?}", step.event);
        }
        Ok(())
    });
}

/// Not only at once: a success that was applied is never applied again, and a timer neither, unless an operator sent the
/// same command on its way anew, or it was withheld. (A failure may count again: replies do not name their attempt.)
#[test]
fn what_was_applied_is_never_applied_again() {
    for_all_courses(|course| {
        let mut successes = HashSet::new();
        let mut timeouts: Vec<Try> = Vec::new();
        let mut retries: Vec<Try> = Vec::new();
        for step in &course.steps {
            match &step.event {
                Event::Replied { command_id, outcome: Outcome::Succeeded { .. }, .. } => {
                    prop_assert!(successes.insert(*command_id), "{command_id} succeeded twice");
                }
                Event::TimedOut(at) => {
                    prop_assert!(!timeouts.contains(at), "{at:?} timed out twice");
                    timeouts.push(*at);
                }
                Event::RetryDue(at) => {
                    prop_assert!(!retries.contains(at), "{at:?} was due twice");
                    retries.push(*at);
                }
                // It is due again when its participant is asked again.
                Event::Withheld(at) => retries.retain(|due| due != at),
                Event::Redrive { .. } => {
                    timeouts.clear();
                    retries.clear();
                }
                _ => {}
            }
        }
        Ok(())
    });
}

#[test]
fn replaying_the_journal_gives_the_saga() {
    for_all_courses(|course| {
        for length in [1, course.steps.len().div_ceil(2), course.steps.len()] {
            let journal = course.steps[..length].iter().map(|step| (step.at, &step.event));
            let saga = replay(&course.definition, course.saga().id, journal);
            prop_assert_eq!(saga.as_ref(), Some(&course.steps[length - 1].after));
        }
        Ok(())
    });
}

#[test]
fn replaying_the_journal_as_it_is_stored_gives_the_saga() {
    for_all_courses(|course| {
        let stored: Vec<Event> = course.steps.iter().map(|step| through_json(&step.event)).collect();
        let journal = course.steps.iter().map(|step| step.at).zip(&stored);
        let saga = replay(&course.definition, course.saga().id, journal);
        prop_assert_eq!(saga.as_ref(), Some(course.saga()));
        Ok(())
    });
}

#[test]
fn a_journal_with_an_event_that_does_nothing_is_not_replayed() {
    for_all_courses(|course| {
        let journal: Vec<_> = course.steps.iter().map(|step| (step.at, &step.event)).collect();
        prop_assert_eq!(replay(&course.definition, course.saga().id, journal[1..].iter().copied()), None);
        for (saga, event, _) in &course.ignored {
            if saga.revision == course.saga().revision {
                let wrong = journal.iter().copied().chain([(saga.updated_at, event)]);
                prop_assert_eq!(replay(&course.definition, saga.id, wrong), None);
            }
        }
        Ok(())
    });
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("it can be written");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn events_effects_and_states_survive_json() {
    for_all_courses(|course| {
        for step in &course.steps {
            prop_assert_eq!(&through_json(&step.event), &step.event);
            prop_assert_eq!(&through_json(&step.effects), &step.effects);
            prop_assert_eq!(&through_json(&step.after.state), &step.after.state);
            prop_assert_eq!(&through_json(&step.after.steps), &step.after.steps);
            prop_assert_eq!(&through_json(&step.after.reason), &step.after.reason);
            prop_assert_eq!(&through_json(&step.after.redriven), &step.after.redriven);
            prop_assert_eq!(through_json(&step.after.status()), step.after.status());
        }
        for (_, event, _) in &course.ignored {
            prop_assert_eq!(&through_json(event), event);
        }
        Ok(())
    });
}

#[test]
fn every_move_is_one_revision() {
    for_all_courses(|course| {
        for (n, step) in course.steps.iter().enumerate() {
            prop_assert_eq!(step.after.revision, Revision(n as u32 + 1));
            prop_assert_eq!(step.after.updated_at, step.at);
            if let Some(before) = &step.before {
                prop_assert_eq!(&step.after.id, &before.id);
                prop_assert_eq!(&step.after.definition, &before.definition);
                prop_assert_eq!(&step.after.business_key, &before.business_key);
                prop_assert_eq!(step.after.started_at, before.started_at);
                prop_assert_eq!(step.after.steps.len(), before.steps.len());
            }
        }
        Ok(())
    });
}

#[test]
fn nothing_moves_a_saga_that_has_ended() {
    for_all(150, &(courses(), prop::collection::vec(events(), 10)), |(course, more)| {
        let saga = course.saga();
        if saga.status().is_final() {
            let before = course.steps.iter().map(|step| step.event.clone());
            for event in more.into_iter().chain(before) {
                let done = transition(&course.definition, saga, &event, Moment::of(saga, saga.updated_at));
                prop_assert!(matches!(done, Transition::Ignored(_)), "{event:?}");
            }
        }
        Ok(())
    });
}

/// What the journal keeps of a move is enough to say what the move was.
#[test]
fn the_journal_tells_the_same_as_the_move() {
    for_all_courses(|course: &Course| {
        for step in &course.steps {
            let (reason, status) = (course.saga().reason.as_ref(), step.after.status());
            let entry =
                Entry { saga: course.saga().id, event: &step.event, effects: &step.effects, status, reason };
            let line = describe(&course.definition, &entry);
            let sent = step.effects.iter().any(|effect| matches!(effect, Effect::Send(_)));
            prop_assert!(!sent || line.then.contains('#'), "{line:?}");
            prop_assert!(!line.what.is_empty() && !line.then.is_empty(), "{line:?}");
            let waits = matches!(step.after.state, State::Backoff { .. });
            let other = matches!(
                step.event,
                Event::LetterRedriven { .. }
                    | Event::Withheld(_)
                    | Event::DeadlineStopped
                    | Event::DeadlineResumed
            );
            prop_assert_eq!(line.then == "back off", waits && !other);
        }
        Ok(())
    });
}

/// However an event was written, and whatever is not one: the fast reading is serde's.
#[test]
fn an_event_is_read_as_serde_reads_it() {
    for_all(2_000, &(events(), any::<prop::sample::Index>(), any::<u8>()), |(event, at, byte)| {
        let json = serde_json::to_vec(&event).expect("an event has a JSON form");
        prop_assert_eq!(Event::from_json(&json).expect("what was written can be read"), event);
        let mut torn = json.clone();
        torn[at.index(json.len())] = byte;
        for text in [torn.as_slice(), &json[..at.index(json.len())]] {
            let (fast, serde) = (Event::from_json(text), serde_json::from_slice::<Event>(text));
            prop_assert_eq!(fast.map_err(|e| e.to_string()), serde.map_err(|e| e.to_string()));
        }
        Ok(())
    });
}
