//! The W3C `traceparent`: which trace a message belongs to.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A `traceparent` of version 00: `00-<32 hex: trace id>-<16 hex: span id>-<2 hex: flags>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceParent {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The span that caused this; never zero.
    pub span_id: u64,
    /// Bit 0: the trace is recorded.
    pub flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: expected 00-, 32 lower-case hex digits, -, 16, -, 2, and no id of zeros only")]
pub struct NotATraceParent;

impl TraceParent {
    /// The flag of a trace that is recorded.
    pub const SAMPLED: u8 = 1;

    /// A new trace that is recorded.
    pub fn root() -> Self {
        Self { trace_id: non_zero_trace(), span_id: non_zero_span(), flags: Self::SAMPLED }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: non_zero_span(), ..*self }
    }

    /// The span that follows from this one under a name: the same whoever asks, and whenever.
    #[must_use]
    pub fn derived(&self, name: &str) -> Self {
        let mixed = name.bytes().fold(self.span_id, |id, byte| mixed(id ^ u64::from(byte)));
        Self { span_id: mixed.max(1), ..*self }
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// The trace's id as it is written, for a line of a log.
    pub fn trace(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// Reads a `traceparent` strictly, as the W3C says for version 00. Of later versions the first four fields are
    /// read, and more may follow.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, NotATraceParent> {
        let mut fields = text.split('-');
        let version: u8 = hex(fields.next(), 2)?;
        let trace_id: u128 = hex(fields.next(), 32)?;
        let span_id: u64 = hex(fields.next(), 16)?;
        let flags: u8 = hex(fields.next(), 2)?;
        let more = fields.next().is_some();
        if version == 0xff || (version == 0 && more) || trace_id == 0 || span_id == 0 {
            return Err(NotATraceParent);
        }
        Ok(Self { trace_id, span_id, flags })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        Self::parse(text)
    }
}

/// Exactly so many lower-case hex digits. (Rust's own parsing takes signs and upper case, too.)
fn hex<T: TryFrom<u128>>(field: Option<&str>, digits: usize) -> Result<T, NotATraceParent> {
    let field = field.filter(|field| field.len() == digits).ok_or(NotATraceParent)?;
    if !field.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(NotATraceParent);
    }
    let number = u128::from_str_radix(field, 16).map_err(|_| NotATraceParent)?;
    T::try_from(number).map_err(|_| NotATraceParent)
}

/// SplitMix64's finisher: one to one, and near numbers come out far apart.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A random UUID has its version's bits set, so it is never zero.
fn non_zero_trace() -> u128 {
    Uuid::new_v4().as_u128()
}

/// The half with the variant's bits, which are never all zero.
fn non_zero_span() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_strictly() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(text).unwrap();
        assert_eq!(parent.to_string(), text);
        assert!(parent.is_sampled());
        assert!(TraceParent::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_ok());
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "é0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(TraceParent::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_child_is_another_span_of_the_same_trace() {
        let root = TraceParent::root();
        let child = root.child();
        assert_eq!((child.trace_id, child.flags), (root.trace_id, root.flags));
        assert_ne!(child.span_id, root.span_id);
        assert_eq!(TraceParent::parse(&child.to_string()), Ok(child));
    }

    #[test]
    fn a_derived_span_is_the_same_each_time() {
        let root = TraceParent { trace_id: 7, span_id: 9, flags: 1 };
        assert_eq!(root.derived("process").to_string(), root.derived("process").to_string());
        let all: std::collections::BTreeSet<u64> =
            ["process", "reply", "ylper", ""].map(|name| root.derived(name).span_id).into();
        assert_eq!((all.len(), root.derived("reply").trace_id), (4, 7));
    }
}
