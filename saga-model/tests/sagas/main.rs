//! The model check of definitions, and that it bites.
#![cfg(test)]

mod holds;
mod misordered;
mod shape;
mod wrong_rules;
