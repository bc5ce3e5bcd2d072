//! Random valid definitions, and random texts and values.

use std::fmt::Write as _;

use proptest::prelude::*;
use saga_defs::Data;
use saga_defs::definition::Definition;
use saga_defs::saga::Refusal;
use serde_json::Value;

/// Up to 3 compensatable steps, perhaps a pivot, up to 2 retriable ones; at least one; each with 1 to 3 attempts.
pub(crate) fn definitions() -> impl Strategy<Value = Definition> {
    let attempts = || (1_u32..=3, 1_u32..=3);
    let compensatable = prop::collection::vec(attempts(), 0..=3);
    let pivot = prop::option::of(attempts());
    let retriable = prop::collection::vec(attempts(), 0..=2);
    (compensatable, pivot, retriable, any::<bool>())
        .prop_filter("at least one step", |(first, pivot, last, _)| {
            !first.is_empty() || pivot.is_some() || !last.is_empty()
        })
        .prop_map(|(first, pivot, last, stands)| {
            let mut text = format!(
                "name = \"random\"\nversion = 1\ndeadline_stands_while_held = {stands}\ninput = \"t.Input\"\n"
            );
            let kinds = first.iter().map(|attempts| ("compensatable", attempts));
            let kinds = kinds.chain(pivot.iter().map(|attempts| ("pivot", attempts)));
            let kinds = kinds.chain(last.iter().map(|attempts| ("retriable", attempts)));
            for (i, (kind, attempts)) in kinds.enumerate() {
                write_step(&mut text, i, kind, *attempts);
            }
            Definition::parse(&text).expect("a valid definition")
        })
}

fn write_step(text: &mut String, i: usize, kind: &str, (forward, back): (u32, u32)) {
    let written = write!(
        text,
        "[[step]]\nname = \"step-{i}\"\nparticipant = \"p{i}\"\nkind = \"{kind}\"\ncommand = \"t.Do\"\n\
         reply = \"t.Done\"\nretry = {{ max_attempts = {forward} }}\n"
    );
    written.expect("a string takes everything");
    if kind == "compensatable" {
        let written =
            write!(text, "compensation = \"t.Undo\"\ncompensation_retry = {{ max_attempts = {back} }}\n");
        written.expect("a string takes everything");
    }
}

/// Anything that a text may hold.
pub(crate) fn texts() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just("sold_out".to_owned()), 1 => Just(String::new()), 1 => any::<String>()]
}

/// Refusals with any texts.
pub(crate) fn refusals() -> impl Strategy<Value = Refusal> {
    (texts(), texts()).prop_map(|(code, message)| Refusal::new(&code, message))
}

/// Fields of a message: any names, values of every kind that JSON has; most often few.
pub(crate) fn fields() -> impl Strategy<Value = Data> {
    let leaf = || {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 256.0)),
            texts().prop_map(Value::from),
        ]
    };
    let nested =
        prop::collection::vec((texts(), leaf()), 0..3).prop_map(|pairs| Value::from(Data::from_iter(pairs)));
    let value = prop_oneof![
        6 => leaf(),
        1 => nested,
        1 => prop::collection::vec(leaf(), 0..3).prop_map(Value::from),
    ];
    prop_oneof![
        2 => Just(Data::new()),
        1 => prop::collection::vec((texts(), value), 0..3).prop_map(Data::from_iter),
    ]
}
