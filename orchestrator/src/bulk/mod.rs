//! One word of an operator for many letters or sagas: chosen once, then done one by one, at a pace, with an eye on the
//! outcome.
//!
//! What is chosen is frozen in Postgres when the action is made. [`run`] decides how it goes on, [`judge`] what becomes of
//! a letter or saga before anything is sent; both are pure. [`driver`] does it: one process at a time drives an action,
//! under a lease whose token every write of it checks. Sending one letter is the engine's, as for a single one, with an
//! idempotency key that follows from the action and the letter: whoever drives on after a crash finds the key taken and
//! knows that the letter was sent.

pub mod driver;
pub mod hands;
pub mod judge;
pub mod run;
