//! Dead letters that come over the topic: what workers could not decode or handle is stored like our own.

pub mod ingest;
