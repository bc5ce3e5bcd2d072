//! The orchestrator's database in memory: [`rows`] keeps the tables and their rules, [`remote`] is a connection to them over
//! which answers get lost.

pub mod letters;
pub mod remote;
pub mod rows;
