use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rules::Real;
use crate::world::REDRIVES;

const TEXT: &str = "
    name = 'three'
    version = 1
    input = 't.Input'
    [[step]]
    name = 'one'
    participant = 'p'
    kind = 'compensatable'
    command = 't.Do'
    reply = 't.Done'
    compensation = 't.Undo'
    [[step]]
    name = 'two'
    participant = 'p'
    kind = 'pivot'
    command = 't.Do'
    reply = 't.Done'
    [[step]]
    name = 'three'
    participant = 'p'
    kind = 'retriable'
    command = 't.Do'
    reply = 't.Done'
";

fn happenings() -> impl Strategy<Value = Happening> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Compensation)];
    let sent =
        (0_u16..3, direction, 1..=ATTEMPTS, 0..=REDRIVES).prop_map(|(step, direction, attempt, redrive)| {
            Sent { step: StepIndex(step), direction, attempt: Attempt(attempt), redrive }
        });
    let answer = prop_oneof![Just(Answer::Succeeded), Just(Answer::Rejected), Just(Answer::Failed)];
    prop_oneof![
        20 => (sent, answer).prop_map(|(sent, answer)| Happening::Reply(sent, answer)),
        3 => Just(Happening::Timer),
        1 => Just(Happening::Unsendable),
        1 => Just(Happening::Withheld),
        1 => Just(Happening::Deadline),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::RetryNow),
        1 => Just(Happening::Redrive),
        1 => Just(Happening::Skip),
        1 => Just(Happening::Park),
    ]
}

/// The same with fields in a success, which a saga takes into its data.
fn with_fields(mut event: Event) -> Event {
    if let Event::Replied { outcome: Outcome::Succeeded { fields }, .. } = &mut event {
        fields.insert("n".to_owned(), 1.into());
    }
    event
}

proptest! {
    /// A saga with its times, data and texts, at other moments, moves exactly as the one without.
    #[test]
    fn what_is_left_out_decides_nothing(course in prop::collection::vec(happenings(), 0..60)) {
        let sagas = Sagas::new(Real, &Definition::parse(TEXT).expect("a valid definition"));
        let mut full = sagas.begin().saga;
        let mut short = sagas.first().to;
        for what in course {
            let at = full.updated_at.after(Duration::from_secs(7));
            let moved = sagas.event(&full, what).and_then(|event| {
                let moment = Moment { at, jitter: Jitter::of(full.id, full.revision) };
                match Real.transition(&sagas.definition, &full, &with_fields(event), moment) {
                    Transition::Moved(moved) => Some(moved),
                    Transition::Ignored(_) => None,
                }
            });
            let done = sagas.happen(short, what);
            prop_assert_eq!(done.map(|done| done.sends), moved.as_ref().map(|moved| sent(&moved.effects)));
            let (Some(done), Some(moved)) = (done, moved) else { continue };
            full = moved.saga;
            short = done.to;
            prop_assert_eq!(&*sagas.get(short), &Saga { started_at: BEGIN, ..bare(full.clone()) });
        }
    }
}
