//! Random definitions with random messages: what `check` accepts can be built whenever it has to be sent.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use saga_defs::Data;
use saga_defs::check::{Field, Messages, Participants, Record, Type, check};
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{CommandId, Direction, SagaId};
use saga_defs::machine::{Moment, Transition, start, transition};
use saga_defs::saga::{Effect, Event, Outcome, Refusal, Saga, State, Try};
use serde_json::{Value, json};

use crate::course::BEGIN;
use crate::for_all;

/// The names that fields have; `nId` is the saga's id in a definition of the name `n`.
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "sagaId", "nId"];

/// A definition's text, its messages, and a value for each field of the input and of each reply.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) text: String,
    pub(crate) messages: Records,
    input: Data,
    replies: Vec<Data>,
}

/// Records by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records(BTreeMap<String, Record>);

impl Messages for Records {
    fn record(&self, full_name: &str) -> Option<Record> {
        self.0.get(full_name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn types() -> impl Strategy<Value = Type> {
    let leaf = || {
        select(vec![
            Type::Int,
            Type::Long,
            Type::Double,
            Type::String,
            Type::Uuid,
            Type::Time { unit: "date", is_int: true },
            Type::Enum(vec!["X".into()]),
            Type::Enum(vec!["X".into(), "Y".into()]),
        ])
    };
    prop_oneof![
        6 => leaf(),
        2 => leaf().prop_map(|ty| Type::Union(vec![Type::Null, ty])),
        1 => leaf().prop_map(|ty| Type::Array(Arc::new(ty))),
    ]
}

/// A value of that type, picked by a number.
fn value(ty: &Type, pick: u32) -> Value {
    let odd = pick % 2 == 1;
    match ty {
        Type::Null => Value::Null,
        Type::Int | Type::Time { .. } => json!(pick as i32),
        Type::Long => json!(i64::from(pick) << 20),
        Type::Double => json!(f64::from(pick) + 0.5),
        Type::Uuid => json!(SagaId::new(BEGIN, [pick as u8; 10]).to_string()),
        Type::Enum(symbols) => json!(*symbols[pick as usize % symbols.len()]),
        Type::Array(items) => (0..pick % 3).map(|at| value(items, pick + at)).collect(),
        Type::Union(branches) => value(&branches[usize::from(odd)], pick / 2),
        _ => json!(format!("text {pick}")),
    }
}

/// Whether a field of that type can be written with that value: what the encoder does, said in another way than
/// [`Type::accepts`] does.
fn can_write(ty: &Type, value: &Value) -> bool {
    match (ty, value) {
        (Type::Null, Value::Null) => true,
        (Type::Int | Type::Time { .. }, Value::Number(number)) => {
            number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
        }
        (Type::Long, Value::Number(number)) => number.is_i64(),
        (Type::Double, Value::Number(_)) | (Type::String, Value::String(_)) => true,
        (Type::Uuid, Value::String(text)) => text.len() == 36 && text.parse::<SagaId>().is_ok(),
        (Type::Enum(symbols), Value::String(text)) => symbols.iter().any(|symbol| **symbol == **text),
        (Type::Array(items), Value::Array(values)) => values.iter().all(|value| can_write(items, value)),
        (Type::Union(branches), _) => branches.iter().any(|branch| can_write(branch, value)),
        _ => false,
    }
}

/// Fields of random names; most often each name has one and the same type wherever it occurs.
fn fields(usual: Vec<Type>, count: RangeInclusive<usize>) -> impl Strategy<Value = Vec<Field>> {
    let one = (0..NAMES.len(), prop::option::weighted(0.1, types()), prop::bool::weighted(0.4));
    prop::collection::vec(one, count).prop_map(move |drawn| {
        let mut fields: Vec<Field> = Vec::new();
        for (name, other, has_default) in drawn {
            if fields.iter().all(|field| *field.name != *NAMES[name]) {
                let ty = other.unwrap_or_else(|| usual[name].clone());
                fields.push(Field { name: NAMES[name].into(), ty, has_default });
            }
        }
        fields
    })
}

/// Which kinds there are, each step's mapping, a number for its values.
fn worlds() -> impl Strategy<Value = World> {
    let usual = prop::collection::vec(types(), NAMES.len());
    let shape =
        (0_usize..=3, any::<bool>(), 0_usize..=1).prop_filter("a step", |(a, b, c)| *a + *c > 0 || *b);
    (usual, shape).prop_flat_map(|(mut usual, (compensatable, pivot, retriable))| {
        usual[5] = Type::Uuid;
        usual[6] = Type::Uuid;
        let kinds: Vec<&'static str> = std::iter::repeat_n("compensatable", compensatable)
            .chain(pivot.then_some("pivot"))
            .chain(std::iter::repeat_n("retriable", retriable))
            .collect();
        let messages = prop::collection::vec(fields(usual.clone(), 0..=2), kinds.len() * 3);
        let mapping = prop::option::weighted(0.4, (any::<Index>(), select(&NAMES[..])));
        let mappings = prop::collection::vec(mapping, kinds.len());
        (Just(kinds), fields(usual, 4..=8), messages, mappings, any::<u16>()).prop_map(
            |(kinds, input, messages, mappings, pick)| world(&kinds, input, messages, &mappings, pick),
        )
    })
}

fn world(
    kinds: &[&str],
    input: Vec<Field>,
    messages: Vec<Vec<Field>>,
    mappings: &[Option<(Index, &str)>],
    pick: u16,
) -> World {
    let mut records = Records::default();
    let mut add = |name: String, fields: Vec<Field>| {
        let values = fields.iter().enumerate().map(|(at, field)| {
            (field.name.to_string(), value(&field.ty, u32::from(pick).wrapping_add(at as u32 * 7)))
        });
        let values = values.collect::<Data>();
        records.0.insert(name.clone(), Record { full_name: name.into(), fields });
        values
    };
    let mut text = "name = \"n\"\nversion = 1\ninput = \"t.Input\"\n".to_owned();
    let input = input.into_iter().filter(|field| *field.name != *"sagaId").collect();
    let input = add("t.Input".to_owned(), input);
    let mut replies = Vec::new();
    let mut messages = messages.into_iter();
    for (at, kind) in kinds.iter().enumerate() {
        let mut next = || messages.next().expect("three for each step");
        let (command, reply, compensation) = (next(), next(), next());
        let mapped: Vec<String> =
            command.iter().chain(&compensation).map(|field| field.name.to_string()).collect();
        add(format!("t.Do{at}"), command);
        replies.push(add(format!("t.Done{at}"), reply));
        add(format!("t.Undo{at}"), compensation);
        write!(
            text,
            "[[step]]\nname = \"step-{at}\"\nparticipant = \"p\"\nkind = \"{kind}\"\ncommand = \"t.Do{at}\"\n\
             reply = \"t.Done{at}\"\nretry = {{ max_attempts = 2 }}\n"
        )
        .expect("a string takes everything");
        if *kind == "compensatable" {
            writeln!(text, "compensation = \"t.Undo{at}\"").expect("a string takes everything");
        }
        if let Some((field, from)) = mappings[at].filter(|_| !mapped.is_empty()) {
            writeln!(text, "with = {{ {} = \"{from}\" }}", field.get(&mapped))
                .expect("a string takes everything");
        }
    }
    World { text, messages: records, input, replies }
}

/// What may happen but for an operator's skipping and correcting.
#[derive(Clone, Debug)]
enum Move {
    Succeed,
    Reject,
    Fail,
    Timer,
    Cancel,
    Redrive,
    /// A success of any step, late or early.
    Late(Index),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => Just(Move::Succeed),
        2 => Just(Move::Reject),
        1 => Just(Move::Fail),
        4 => Just(Move::Timer),
        2 => Just(Move::Cancel),
        1 => Just(Move::Redrive),
        1 => any::<Index>().prop_map(Move::Late),
    ];
    prop::collection::vec(one, 0..14)
}

fn event(world: &World, definition: &Definition, saga: &Saga, next: &Move) -> Option<Event> {
    let refusal = || Refusal::new("refused", "refused");
    let reply = |step: usize, direction, outcome| Event::Replied {
        command_id: CommandId::derive(saga.id, &definition.steps[step].name, direction),
        echo: None,
        outcome,
    };
    let success = |at: usize, direction| {
        let fields = match direction {
            Direction::Forward => world.replies[at].clone(),
            Direction::Compensation => Data::new(),
        };
        reply(at, direction, Outcome::Succeeded { fields })
    };
    let current = |make: &dyn Fn(usize, Direction) -> Event| {
        saga.current().map(|at| make(usize::from(at.step.0), at.direction))
    };
    match next {
        Move::Succeed => current(&success),
        Move::Reject => {
            current(&|at, direction| reply(at, direction, Outcome::Rejected { refusal: refusal() }))
        }
        Move::Fail => current(&|at, direction| reply(at, direction, Outcome::Failed { refusal: refusal() })),
        Move::Late(which) => Some(success(which.index(definition.steps.len()), Direction::Forward)),
        Move::Timer => match saga.state {
            State::Awaiting(at) => Some(Event::TimedOut(at)),
            State::Backoff { next, .. } => Some(Event::RetryDue(next)),
            State::Stuck { .. } | State::Completed | State::Compensated => None,
        },
        Move::Cancel => Some(Event::Cancel { reason: "enough".into() }),
        Move::Redrive => Some(Event::Redrive { reason: "again".into(), input: None }),
    }
}

/// Fails if the attempt's command cannot be written from the saga's data, as the orchestrator writes it.
fn can_build(world: &World, definition: &Definition, saga: &Saga, at: Try) -> Result<(), TestCaseError> {
    let step = definition.step(at.step).expect("a step of the saga");
    let name = match (&step.kind, at.direction) {
        (StepKind::Compensatable { compensation }, Direction::Compensation) => compensation,
        _ => &step.command,
    };
    let mut data = (*saga.data).clone();
    for (field, from) in &step.with {
        if let Some(value) = saga.data.get(from) {
            data.insert(field.clone(), value.clone());
        }
    }
    for field in world.messages.record(name).expect("a record").fields {
        let fine = match data.get(&*field.name) {
            Some(value) => can_write(&field.ty, value),
            None => field.has_default,
        };
        prop_assert!(
            fine,
            "{name}.{} ({}) of {:?} in\n{}\n{:#?}",
            field.name,
            field.ty,
            data,
            world.text,
            world.messages
        );
    }
    Ok(())
}

/// Lets a saga of the world go its way, and sees to it that each of its commands can be built. How many compensations
/// were asked for.
fn walk(world: &World, definition: &Definition, moves: &[Move]) -> Result<u32, TestCaseError> {
    let mut undone = 0;
    let mut moved = start(definition, SagaId::new(BEGIN, [3; 10]), &world.input, None, None, BEGIN);
    let mut moves = moves.iter();
    loop {
        for effect in moved.effects.drain(..) {
            if let Effect::Send(at) = effect {
                undone += u32::from(at.direction == Direction::Compensation);
                can_build(world, definition, &moved.saga, at)?;
            }
        }
        let Some(next) = moves.next() else { return Ok(undone) };
        let Some(event) = event(world, definition, &moved.saga, next) else { continue };
        let moment = Moment::of(&moved.saga, moved.saga.updated_at);
        if let Transition::Moved(next) = transition(definition, &moved.saga, &event, moment) {
            moved = next;
        }
    }
}

#[test]
fn what_is_accepted_can_be_built_whenever_it_is_sent() {
    let (accepted, undone) = (Cell::new(0), Cell::new(0));
    for_all(5_000, &(worlds(), prop::collection::vec(moves(), 10)), |(world, walks)| {
        let Ok(definition) = check(&world.text, &world.messages, &Participants::default()) else {
            return Ok(());
        };
        accepted.set(accepted.get() + 1);
        for moves in walks {
            undone.set(undone.get() + walk(&world, &definition, &moves)?);
        }
        Ok(())
    });
    // Else the law would say nothing.
    assert!(accepted.get() > 500, "{} accepted", accepted.get());
    assert!(undone.get() > 500, "{} compensations", undone.get());
}

/// Texts of random definitions with messages of their own, accepted or not.
pub(crate) fn texts_with_messages() -> impl Strategy<Value = (String, Records)> {
    worlds().prop_map(|world| (world.text, world.messages))
}
