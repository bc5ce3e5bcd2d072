//! `sagactl` as operators use it: the program, an orchestrator, and sagas that need somebody.
#![cfg(test)]

mod asking;
mod closed_pipe;
mod dead_letters;
mod definitions;
mod document;
mod many;
mod participants;
mod ran;
mod sagas;
mod verbs;
