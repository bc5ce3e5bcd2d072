//! Transcripts and diagrams of sagas and definitions, as text for people.
//!
//! - [`describe`] says one transition in one [`Line`], from what the journal keeps of it; [`transcript_line`] says a
//!   little more, from the saga before and what the event did. [`Columns`] aligns lines.
//! - [`flow`] draws a definition for a terminal.
//! - [`mermaid`] and [`svg`] draw a definition, and where a saga of it is.
//!
//! Names, codes and messages come from strangers. No function here lets them out of their place: control characters
//! and line breaks never reach a transcript, nor quotes, brackets and the like a diagram.

mod flow;
mod mermaid;
mod nodes;
mod svg;
mod text;
mod transcript;

pub use flow::flow;
pub use mermaid::mermaid;
pub use svg::svg;
pub use transcript::{Columns, Entry, Line, describe, transcript_line};
