//! The real lane with its bus in a test's hands: what a schedule comes upon by chance, in one order and step by step.
#![cfg(test)]

mod claims;
mod harness;
mod order;
mod refusals;
mod stall;
mod vanished;
