//! What is said with a verb.

use serde::Serialize;
use serde_json::{Map, Value};

/// An operator's word: why, and what the verb needs besides.
///
/// ```
/// use saga_client::Act;
/// use serde_json::json;
///
/// let plain = Act::because("the customer called");
/// let other_input = Act::because("the card was renewed").input(json!({"amountMinor": 4100}));
/// # let _ = (plain, other_input);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Act {
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Map<String, Value>>,
    #[serde(skip)]
    pub(crate) key: Option<String>,
    #[serde(skip)]
    pub(crate) revision: Option<u32>,
}

impl Act {
    /// For this reason, which is kept in the audit; 1 to 1000 characters.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    /// For the redrive of a saga: values for fields of the command, in place of those from the saga's data.
    #[must_use]
    pub fn input(mut self, input: impl Into<Value>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// For the redrive of a dead letter: the message's fields in place of the original ones, all of them.
    #[must_use]
    pub fn value(mut self, value: Map<String, Value>) -> Self {
        self.value = Some(value);
        self
    }

    /// For a saga: acts only if this is still its revision; else [`crate::ProblemKind::MovedOn`].
    #[must_use]
    pub const fn if_revision(mut self, revision: u32) -> Self {
        self.revision = Some(revision);
        self
    }

    /// The same key acts once. Without one the client draws its own.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}
