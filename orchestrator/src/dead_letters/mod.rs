//! Dead letters that come over the topic: what workers could not decode or handle is stored like our own. And what is done
//! with letters besides sending them, which is the engine's.

pub mod edit;
pub mod ingest;
pub mod tally;
