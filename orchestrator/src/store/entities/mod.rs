//! The tables as the API reads them. Only columns that are read stand here; the engine writes by statements of its own.

pub mod audit;
pub mod dead_letter;
pub mod journal;
pub mod request_key;
pub mod saga;
