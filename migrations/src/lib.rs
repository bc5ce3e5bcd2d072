//! The database schemas of the orchestrator and the shipped workers.
