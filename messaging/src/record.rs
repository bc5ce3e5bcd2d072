//! Records, as sent and as read, and their headers.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use crate::settings::{MAX_RECORD_BYTES, MAX_VALUE_BYTES};

/// Bounds what Kafka adds to a record that is sent alone: the batch's header, lengths, offset and time.
const RECORD_FRAMING_BYTES: usize = 128;
/// Bounds what Kafka adds to a header: two lengths.
const HEADER_FRAMING_BYTES: usize = 10;

/// The headers of a record: an ordered list in which a name may occur several times and a value may be absent.
///
/// They lie in one buffer, one after the other: every record has about a dozen, and memory of its own for each name and
/// value would cost more than all else that is done with a record.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Vec<u8>,
    ends: Vec<End>,
}

/// Where a header ends in the buffer; it begins where the one before it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
struct End {
    name: usize,
    /// As `name` if the value is absent.
    value: usize,
    has_value: bool,
}

/// A guess at the size of a header, in bytes: that of a whole command's headers is a little less.
const TYPICAL_HEADER_BYTES: usize = 32;

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    /// How many bytes names and values take.
    pub const fn length(&self) -> usize {
        self.bytes.len()
    }

    /// No headers yet, with room for `count` of a usual size.
    pub fn with_capacity(count: usize) -> Self {
        Self { bytes: Vec::with_capacity(count * TYPICAL_HEADER_BYTES), ends: Vec::with_capacity(count) }
    }

    /// Adds a header at the end; one of that name may be there already.
    pub fn push(&mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) {
        self.push_nullable(name, Some(value));
    }

    /// As [`Headers::push`], with the value's text.
    pub fn push_text(&mut self, name: impl AsRef<str>, value: impl fmt::Display) {
        self.bytes.extend_from_slice(name.as_ref().as_bytes());
        let name = self.bytes.len();
        // Writing to memory does not fail, and a value that cannot show itself would have panicked in `to_string`.
        let _ = write!(self.bytes, "{value}");
        self.ends.push(End { name, value: self.bytes.len(), has_value: true });
    }

    /// Adds a header at the end whose value may be absent (Kafka tells an absent value from an empty one).
    pub fn push_nullable(&mut self, name: impl AsRef<str>, value: Option<impl AsRef<[u8]>>) {
        self.bytes.extend_from_slice(name.as_ref().as_bytes());
        let name = self.bytes.len();
        if let Some(value) = &value {
            self.bytes.extend_from_slice(value.as_ref());
        }
        self.ends.push(End { name, value: self.bytes.len(), has_value: value.is_some() });
    }

    /// The value of the last header of that name; `None` if there is none or its value is absent.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.find(name).1
    }

    /// The value of the last header of that name, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// How often the name occurs, and the value of the last one.
    pub(crate) fn find(&self, name: &str) -> (usize, Option<&[u8]>) {
        let named = self.raw().filter(|(n, _)| *n == name.as_bytes());
        named.fold((0, None), |(count, _), (_, value)| (count + 1, value))
    }

    /// How often the name occurs.
    pub fn occurrences(&self, name: &str) -> usize {
        self.find(name).0
    }

    /// Removes all headers of that name.
    pub fn remove(&mut self, name: &str) {
        *self = self.iter().filter(|(n, _)| *n != name).collect();
    }

    /// All headers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> + Clone {
        // A name was a text when it came in.
        self.raw().map(|(name, value)| (std::str::from_utf8(name).unwrap_or_default(), value))
    }

    fn raw(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let name = &self.bytes[start..end.name];
            start = end.value;
            (name, end.has_value.then(|| &self.bytes[end.name..end.value]))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Names and values together, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Roughly what they occupy in memory, in bytes.
    fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<End>()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(headers: I) -> Self {
        let headers = headers.into_iter();
        let mut all = Self::with_capacity(headers.size_hint().0);
        for (name, value) in headers {
            all.push_nullable(name, value);
        }
        all
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
    /// How many bytes key, value and headers take.
    pub fn length(&self) -> usize {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        length(&self.key) + length(&self.value) + self.headers.length()
    }

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
            + self.headers.memory_bytes()
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

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let all = [("a", Some(&b"1"[..])), ("b", None), ("", Some(b"")), ("a", Some(b"\xff\x00"))];
        let mut headers: Headers = all.into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), all);
        headers.push_text("n", -17);
        assert_eq!(headers.text("n"), Some("-17"));
        headers.remove("a");
        let left: Vec<_> = headers.iter().collect();
        assert_eq!(left, [("b", None), ("", Some(&b""[..])), ("n", Some(b"-17"))]);
    }
}
