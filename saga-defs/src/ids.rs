//! The names of things: ids, shards, directions. Newtypes, so that no signature holds a bare `Uuid` or `u32`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::time::Timestamp;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that is known to be one of these.
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID inside, for the database and for the wire.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                // Only the hyphenated form: an id is compared as text in places (the record key), so it has one spelling.
                match Uuid::try_parse(text) {
                    Ok(id) if text.len() == 36 => Ok(Self(id)),
                    _ => Err(NotAnId { what: $what }),
                }
            }
        }
    };
}

/// A text that should have been an id and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected a UUID such as 0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b")]
pub struct NotAnId {
    what: &'static str,
}

uuid_id!(
    /// One saga. A UUIDv7, so a range of ids is a range of time.
    SagaId, "saga id"
);
uuid_id!(
    /// The idempotency key of one command: the same for all its attempts.
    CommandId, "command id"
);
uuid_id!(
    /// One dead letter.
    DeadLetterId, "dead letter id"
);

impl SagaId {
    /// A UUIDv7 from a time and 10 random bytes (both arguments: this crate has no clock and no random).
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(at.unix_millis().unsigned_abs(), &random).into_uuid())
    }

    /// The shard that owns this saga, of `count`: murmur2 of the id's text, as Java's default partitioner computes it.
    pub fn shard(self, count: ShardCount) -> Shard {
        let mut text = Uuid::encode_buffer();
        let text = self.0.as_hyphenated().encode_lower(&mut text);
        partition_of(text.as_bytes(), count)
    }
}

/// The partition that Java's default partitioner gives a key: murmur2, made positive, modulo the number of partitions.
pub fn partition_of(key: &[u8], count: ShardCount) -> Shard {
    let positive = murmur2(key) & 0x7fff_ffff;
    Shard((positive % u32::from(count.0)) as u16)
}

impl CommandId {
    /// The id of a saga's command: a UUIDv8 that starts with the saga id's 48 bits of time, so that it sorts, and goes
    /// on with a SHA-256 of saga id, step and direction.
    pub fn derive(saga: SagaId, step: &str, direction: Direction) -> Self {
        Self(derived(saga.0, &[b"command", step.as_bytes(), direction.as_str().as_bytes()]))
    }
}

impl DeadLetterId {
    /// The id of the dead letter that stands for a command which used up its attempts: one per command, so that a
    /// second failure reopens the first letter.
    pub fn of_command(command: CommandId) -> Self {
        Self(derived(command.0, &[b"dead-letter"]))
    }

    /// The id of the dead letter for one record of a topic: the same record read twice makes one letter. `cluster` is
    /// the broker's incarnation, since offsets start anew on a new one; `at` gives the id its place in time.
    pub fn of_record(cluster: &str, topic: &str, partition: i32, offset: i64, at: Timestamp) -> Self {
        let time = SagaId::new(at, [0; 10]).0;
        let place = [cluster.as_bytes(), topic.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()];
        Self(derived(time, &place))
    }
}

fn derived(from: Uuid, parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(from.as_bytes());
    for part in parts {
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0_u8; 16];
    bytes[..6].copy_from_slice(&from.as_bytes()[..6]);
    bytes[6..].copy_from_slice(&hash.finalize()[..10]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The 32-bit murmur2 of Kafka's Java client, seed included.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// One partition of `saga.inbox` and all sagas that hash to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(pub u16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many shards there are: at least 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardCount(u16);

impl ShardCount {
    /// `None` for zero.
    pub const fn new(count: u16) -> Option<Self> {
        if count == 0 { None } else { Some(Self(count)) }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Which way a command goes: doing the step, or undoing it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The command does the step.
    Forward,
    /// The command undoes the step.
    Compensation,
}

impl Direction {
    /// As in the `direction` header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Compensation => "compensation",
        }
    }
}

impl FromStr for Direction {
    type Err = NotADirection;

    fn from_str(text: &str) -> Result<Self, NotADirection> {
        match text {
            "forward" => Ok(Self::Forward),
            "compensation" => Ok(Self::Compensation),
            _ => Err(NotADirection),
        }
    }
}

/// A text that is neither `forward` nor `compensation`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a direction: expected forward or compensation")]
pub struct NotADirection;

/// A position in a definition's list of steps, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepIndex(pub u16);

impl StepIndex {
    /// As an index into a slice.
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// 1-based try of one command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first try.
    pub const FIRST: Self = Self(1);

    /// The try after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many transitions a saga has made; its first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u32);

impl Revision {
    /// The revision after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A definition's name and version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DefinitionRef {
    /// The name, e.g. `booking`.
    pub name: Arc<str>,
    /// The version, from 1.
    pub version: u32,
}

impl fmt::Display for DefinitionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_javas() {
        for (text, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, expected, "{text}");
        }
    }

    #[test]
    fn a_command_id_sorts_with_its_saga_and_is_the_same_for_all_attempts() {
        let saga = SagaId::new(Timestamp::from_unix_millis(1_700_000_000_000), [7; 10]);
        let one = CommandId::derive(saga, "charge-payment", Direction::Forward);
        assert_eq!(one, CommandId::derive(saga, "charge-payment", Direction::Forward));
        assert_ne!(one, CommandId::derive(saga, "charge-payment", Direction::Compensation));
        assert_ne!(one, CommandId::derive(saga, "reserve-booking", Direction::Forward));
        assert_eq!(one.as_uuid().as_bytes()[..6], saga.as_uuid().as_bytes()[..6]);
        assert_eq!(one.as_uuid().get_version_num(), 8);
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert!("0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b".parse::<SagaId>().is_ok());
        for wrong in ["", "x", "0190a6b01c2d7e3f8a4b5c6d7e8f9a0b", "{0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b}"] {
            assert!(wrong.parse::<SagaId>().is_err(), "{wrong}");
        }
    }
}
