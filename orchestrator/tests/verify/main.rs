//! `orchestrator verify` against a real Postgres that real batches were committed to.
#![cfg(test)]

mod alterations;
mod chain;
mod cut;
mod retention;
mod throughput;
mod world;
