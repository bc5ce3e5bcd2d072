//! Transcripts and diagrams of sagas and definitions, as text.
