//! A Postgres server for the local stack and for tests: found, or fetched, then started and stopped.
