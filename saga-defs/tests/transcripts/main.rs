//! Behaviours as sentences and pictures: a script of what happens to a saga, and the transcript that comes of it.
//! The language of the scripts is in [`script`].
#![cfg(test)]

use std::sync::LazyLock;

use saga_defs::definition::Definition;

mod compensations;
mod definitions;
mod diagrams;
mod forward;
mod operators;
mod replies;
mod script;
mod timers;

static BOOKING: LazyLock<Definition> =
    LazyLock::new(|| Definition::parse(include_str!("../../definitions/booking.toml")).expect("shipped"));

/// The transcript of a booking saga.
fn booking(script: &str) -> String {
    script::play(&BOOKING, script)
}
