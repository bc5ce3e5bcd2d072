//! Laws about the text of a definition: printing, places of problems, and any text at all. The last ones stand in for a
//! fuzzer: a fixed number of mutations of good definitions and of plain garbage, on every run.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use saga_defs::check::{Participants, check};
use saga_defs::definition::{
    Definition, DefinitionError, MAX_ATTEMPTS, MAX_DURATION, MAX_PROBLEMS, MAX_VERSION, Step, StepKind,
};
use saga_defs::ids::DefinitionRef;
use saga_defs::retry::RetryPolicy;
use saga_defs::shipped;

use crate::for_all;
use crate::typed::{Records, texts_with_messages};

/// Recipes with everything that a definition may say, sensible or not.
fn recipes() -> impl Strategy<Value = Definition> {
    let compensatable = prop::collection::vec(steps(true), 0..3);
    let others = (prop::option::of(steps(false)), prop::collection::vec(steps(false), 0..3));
    let deadlines = (durations(), any::<bool>());
    (names(), 1..=MAX_VERSION, deadlines, messages(), compensatable, others)
        .prop_filter("at least one step", |(.., first, (pivot, last))| {
            !first.is_empty() || pivot.is_some() || !last.is_empty()
        })
        .prop_map(|(name, version, (deadline, stands), input, first, (pivot, last))| {
            let pivot = pivot.map(|step| Step { kind: StepKind::Pivot, ..step });
            let mut steps: Vec<Step> = first.into_iter().chain(pivot).chain(last).collect();
            for (at, step) in steps.iter_mut().enumerate() {
                step.name = format!("{}{at}", step.name).into();
            }
            let id = DefinitionRef { name: name.into(), version };
            Definition {
                id,
                deadline,
                deadline_stands_while_held: stands,
                input: input.into(),
                steps,
                source: "".into(),
            }
        })
}

fn steps(compensatable: bool) -> impl Strategy<Value = Step> {
    let with = prop::collection::btree_map(any::<String>(), any::<String>(), 0..3);
    let texts = (names(), names(), messages(), messages(), messages());
    (texts, with, durations(), retries(), retries()).prop_map(
        move |((name, participant, command, reply, undo), with, timeout, retry, back)| {
            let kind = if compensatable {
                StepKind::Compensatable { compensation: undo.into() }
            } else {
                StepKind::Retriable
            };
            Step {
                name: name.into(),
                participant: participant.into(),
                kind,
                command: command.into(),
                with,
                reply: reply.into(),
                timeout,
                retry,
                compensation_retry: if compensatable { back } else { RetryPolicy::COMPENSATION },
            }
        },
    )
}

fn names() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}"
}

fn messages() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}\\.[A-Z][a-z]{1,8}",
        any::<String>().prop_filter("a name has characters", |name| !name.is_empty())
    ]
}

fn durations() -> impl Strategy<Value = Duration> {
    let longest = u64::try_from(MAX_DURATION.as_nanos()).expect("a year of nanoseconds");
    prop_oneof![
        (1..=longest).prop_map(Duration::from_nanos),
        (1..=86_400_u64).prop_map(Duration::from_secs),
        Just(MAX_DURATION)
    ]
}

fn retries() -> impl Strategy<Value = RetryPolicy> {
    (1..=MAX_ATTEMPTS, durations(), durations(), 1.0..=100.0_f64, 0.0..=1.0_f64).prop_map(
        |(max_attempts, one, other, multiplier, jitter)| RetryPolicy {
            max_attempts,
            initial: one.min(other),
            max: one.max(other),
            multiplier,
            jitter,
        },
    )
}

/// Printing and reading a recipe gives the same one, and the same text again.
fn survives_printing(recipe: &Definition) -> Result<(), TestCaseError> {
    let printed = recipe.to_toml();
    let read = Definition::parse(&printed);
    let read = read.map_err(|error| TestCaseError::fail(format!("{error}\n{printed}")))?;
    prop_assert!(read.same_recipe(recipe), "{printed}\n{read:#?}\n{recipe:#?}");
    prop_assert_eq!(read.to_toml(), printed);
    Ok(())
}

#[test]
fn a_recipe_survives_printing_and_reading() {
    for_all(500, &recipes(), |recipe| survives_printing(&recipe));
}

/// What is wrong is told in order, at places that are in the text, and says what to do.
fn is_well_told(text: &str, error: &DefinitionError) -> Result<(), TestCaseError> {
    prop_assert!(!error.problems.is_empty(), "refused without a reason:\n{text}");
    prop_assert!(error.problems.len() <= MAX_PROBLEMS);
    prop_assert!(error.problems.windows(2).all(|pair| pair[0].span.start <= pair[1].span.start));
    for problem in &error.problems {
        prop_assert!(text.get(problem.span.clone()).is_some(), "{problem:?} in\n{text}");
        let line = text.split('\n').nth(problem.line - 1);
        let line = line.ok_or_else(|| TestCaseError::fail(format!("{problem:?} in\n{text}")))?;
        prop_assert!(problem.column <= line.chars().count() + 1, "{problem:?} in\n{text}");
        let before: usize = text.split('\n').take(problem.line - 1).map(|line| line.len() + 1).sum();
        let column: usize = line.chars().take(problem.column - 1).map(char::len_utf8).sum();
        prop_assert_eq!(before + column, problem.span.start, "{:?} in\n{}", problem, text);
        prop_assert!(problem.help.as_deref().is_some_and(|help| !help.is_empty()), "{problem:?}");
        prop_assert!(!problem.message.contains('\n') && problem.message.len() < 2_000, "{problem:?}");
    }
    if let Some(misordered) = &error.misordered {
        prop_assert!(misordered.steps.len() > 1);
        let again = Definition::parse(&misordered.to_toml()).expect_err("its order is wrong still");
        prop_assert_eq!(again.problems.len(), error.problems.len());
    }
    Ok(())
}

/// Reads a text, with these messages; whether it is taken.
fn takes_or_refuses(text: &str, messages: &Records) -> Result<bool, TestCaseError> {
    if let Err(error) = Definition::parse(text) {
        is_well_told(text, &error)?;
    }
    match check(text, messages, &KNOWN) {
        Ok(taken) => survives_printing(&taken).map(|()| true),
        Err(error) => is_well_told(text, &error).map(|()| false),
    }
}

/// The participants of the shipped definitions.
static KNOWN: LazyLock<Participants> = LazyLock::new(|| {
    let shipped: Vec<Definition> = shipped().iter().map(saga_defs::Shipped::definition).collect();
    Participants::of(&shipped)
});

/// What may be put into a text: what definitions are made of, and what they had better not have.
const PIECES: &[&str] = &[
    "\n",
    "[[step]]",
    "[step]",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "=",
    ",",
    ".",
    "#",
    "\\",
    "\\u0000",
    "\0",
    "\u{feff}",
    "ü",
    "\r",
    "0",
    "-1",
    "1e400",
    "nan",
    "true",
    "0xff",
    "1979-05-27",
    "name",
    "version",
    "deadline",
    "deadline_stands_while_held",
    "input",
    "step",
    "participant",
    "kind",
    "command",
    "with",
    "reply",
    "compensation",
    "timeout",
    "retry",
    "compensation_retry",
    "max_attempts",
    "initial",
    "max",
    "multiplier",
    "jitter",
    "\"compensatable\"",
    "\"pivot\"",
    "\"retriable\"",
    "\"5s\"",
    "99999999999999999999",
    "name = \"x\"\n",
    "with = { a = \"sagaId\" }\n",
    "version.x = 1\n",
];

/// One change of a text, at places given as shares of it.
#[derive(Clone, Debug)]
enum Change {
    Insert(Index, &'static str),
    Replace(Index, u8, &'static str),
    Delete(Index, u8),
    DeleteLine(Index),
    RepeatLine(Index),
    SwapLines(Index, Index),
    /// Up to 255 characters at once.
    Cut(Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<Index>;
    let change = prop_oneof![
        3 => (index(), select(PIECES)).prop_map(|(at, piece)| Change::Insert(at, piece)),
        3 => (index(), 0_u8..12, select(PIECES)).prop_map(|(at, length, piece)| Change::Replace(at, length, piece)),
        2 => (index(), 1_u8..12).prop_map(|(at, length)| Change::Delete(at, length)),
        2 => index().prop_map(Change::DeleteLine),
        2 => index().prop_map(Change::RepeatLine),
        3 => (index(), index()).prop_map(|(one, other)| Change::SwapLines(one, other)),
        1 => index().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 0..5)
}

fn changed(text: &str, changes: &[Change]) -> String {
    changes.iter().fold(text.to_owned(), |text, change| match change {
        Change::Insert(at, piece) => spliced(&text, *at, 0, piece),
        Change::Replace(at, length, piece) => spliced(&text, *at, *length, piece),
        Change::Delete(at, length) => spliced(&text, *at, *length, ""),
        Change::Cut(at) => spliced(&text, *at, u8::MAX, ""),
        Change::DeleteLine(_) | Change::RepeatLine(_) | Change::SwapLines(..) => with_lines(&text, change),
    })
}

/// The text with so many characters taken out, and others put in their place.
fn spliced(text: &str, at: Index, length: u8, piece: &str) -> String {
    let mut text: Vec<char> = text.chars().collect();
    let from = at.index(text.len() + 1);
    let to = (from + usize::from(length)).min(text.len());
    text.splice(from..to, piece.chars());
    text.into_iter().collect()
}

fn with_lines(text: &str, change: &Change) -> String {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let count = lines.len();
    match change {
        Change::DeleteLine(at) => drop(lines.remove(at.index(count))),
        Change::RepeatLine(at) => lines.insert(at.index(count), lines[at.index(count)]),
        Change::SwapLines(one, other) => lines.swap(one.index(count), other.index(count)),
        Change::Insert(..) | Change::Replace(..) | Change::Delete(..) | Change::Cut(_) => {}
    }
    lines.join("\n")
}

#[test]
fn a_mutation_of_a_shipped_definition_is_parsed_or_refused() {
    let texts: Vec<&'static str> = shipped().iter().map(|shipped| shipped.text).collect();
    let outcomes = Cell::new((0, 0));
    for_all(1_500, &(select(texts), changes()), |(text, changes)| {
        let text = changed(text, &changes);
        takes_or_refuses(&text, &Records::default())?;
        let (taken, refused) = outcomes.get();
        outcomes.set(match Definition::parse(&text) {
            Ok(parsed) => survives_printing(&parsed).map(|()| (taken + 1, refused))?,
            Err(_) => (taken, refused + 1),
        });
        Ok(())
    });
    let (taken, refused) = outcomes.get();
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}

#[test]
fn a_mutation_of_a_definition_with_messages_is_taken_or_refused() {
    let outcomes: Cell<BTreeMap<bool, u32>> = Cell::default();
    for_all(1_500, &(texts_with_messages(), changes()), |((text, messages), changes)| {
        let taken = takes_or_refuses(&changed(&text, &changes), &messages)?;
        let mut all = outcomes.take();
        *all.entry(taken).or_default() += 1;
        outcomes.set(all);
        Ok(())
    });
    let outcomes = outcomes.take();
    assert!(outcomes.len() == 2 && outcomes.values().all(|count| *count > 30), "{outcomes:?}");
}

#[test]
fn any_text_is_refused_in_good_order() {
    let soup = prop::collection::vec(select(PIECES), 0..40).prop_map(|pieces| pieces.concat());
    let bytes = prop::collection::vec(any::<u8>(), 0..200)
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let texts = prop_oneof![any::<String>(), soup, bytes];
    for_all(2_000, &texts, |text| takes_or_refuses(&text, &Records::default()).map(drop));
}
