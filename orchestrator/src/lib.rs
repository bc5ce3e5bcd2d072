//! The orchestrator service: engine, store, HTTP API.
