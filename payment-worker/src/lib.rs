//! The participant that owns payments.
