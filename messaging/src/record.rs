//! Records, as sent and as read, and their headers.

use std::sync::Arc;

use crate::settings::{MAX_RECORD_BYTES, MAX_VALUE_BYTES};

/// Bounds what Kafka adds to a record that is sent alone: the batch's header, lengths, offset and time.
const RECORD_FRAMING_BYTES: usize = 128;
/// Bounds what Kafka adds to a header: two lengths.
const HEADER_FRAMING_BYTES: usize = 10;

/// The headers of a record: an ordered list in which a name may occur several times and a value may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Option<Vec<u8>>)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No headers yet, with room for `count`.
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// Adds a header at the end; one of that name may be there already.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), Some(value.into())));
    }

    /// Adds a header at the end whose value may be absent (Kafka tells an absent value from an empty one).
    pub fn push_nullable(&mut self, name: impl Into<String>, value: Option<Vec<u8>>) {
        self.0.push((name.into(), value));
    }

    /// The value of the last header of that name; `None` if there is none or its value is absent.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }

    /// The value of the last header of that name, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// How often the name occurs.
    pub fn occurrences(&self, name: &str) -> usize {
        self.0.iter().filter(|(n, _)| n == name).count()
    }

    /// Removes all headers of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// All headers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values together, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }
}

impl<N: Into<String>, V: Into<Vec<u8>>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect())
    }
}

/// A record to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub topic: Arc<str>,
    /// The partition; `None` lets murmur2 of the key decide, as Java's default partitioner does.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Headers,
    /// Milliseconds since 1970; `None` is the time of sending.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record with a key and a value; partition by key, timestamp of sending.
    pub fn new(
        topic: impl Into<Arc<str>>,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        headers: Headers,
    ) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: Some(key.into()),
            value: Some(value.into()),
            headers,
            timestamp_ms: None,
        }
    }

    /// What it takes on the wire, in bytes, with a generous guess at the framing.
    pub fn size_bytes(&self) -> usize {
        let key = self.key.as_ref().map_or(0, Vec::len);
        let value = self.value.as_ref().map_or(0, Vec::len);
        let framing = RECORD_FRAMING_BYTES + HEADER_FRAMING_BYTES * self.headers.len();
        key + value + self.headers.size_bytes() + framing
    }

    /// Whether it may be sent; if not, why.
    pub(crate) fn check_size(&self) -> Result<(), String> {
        let value = self.value.as_ref().map_or(0, Vec::len);
        if value > MAX_VALUE_BYTES {
            return Err(format!("its value has {value} bytes, allowed are {MAX_VALUE_BYTES}"));
        }
        let whole = self.size_bytes();
        if whole > MAX_RECORD_BYTES {
            return Err(format!("with key and headers it has {whole} bytes, allowed are {MAX_RECORD_BYTES}"));
        }
        Ok(())
    }
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, if the record has a timestamp.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, all of them.
    pub headers: Headers,
}

impl Received {
    /// Roughly what it occupies in memory, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len)
            + self.value.as_ref().map_or(0, Vec::len)
            + self.headers.size_bytes()
            + self.headers.len() * size_of::<(String, Option<Vec<u8>>)>()
            + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_header_of_a_name_counts_and_absent_is_not_empty() {
        let headers: Headers =
            [("a", Some("1")), ("b", None), ("a", Some("2")), ("c", Some(""))].into_iter().collect();
        assert_eq!(headers.text("a"), Some("2"));
        assert_eq!(headers.get("b"), None);
        assert_eq!(headers.get("c"), Some(&[][..]));
        assert_eq!(headers.occurrences("a"), 2);
        assert_eq!((headers.len(), headers.size_bytes()), (4, 6));
    }
}
