//! The database schemas of the orchestrator and of the shipped workers.
//!
//! Each service owns a database (or schema) of its own and a migrator of its own, which writes its history into a table
//! of its own. Changes only expand; what is no longer used is removed a release later.

pub mod apply;
pub mod booking;
pub mod orchestrator;
pub mod participant;
pub mod payment;
