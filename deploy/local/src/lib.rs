//! The local stack: Postgres, an embedded broker, the orchestrator and both workers in one process group.
