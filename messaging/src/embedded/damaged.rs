//! A batch whose checksum is wrong, as a failing disk would leave it. No client writes one and Apache Kafka would not
//! take it, so it is put together here, byte by byte, and handed to the broker as a produce request.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long the broker may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Produce, in its third version: the first that takes this kind of batch.
const PRODUCE: (i16, i16) = (0, 3);
/// Of the request; the answer repeats it.
const CORRELATION: i32 = 7;
/// Anything but the checksum of what follows it.
const WRONG_CHECKSUM: u32 = 0x0bad_0bad;
/// Of one record, which nobody will read: the checksum is looked at first.
const RECORD: &[u8] = &[0; 16];

/// Appends one damaged batch of one record to a partition.
pub(super) fn append(address: &str, topic: &str, partition: i32) -> io::Result<()> {
    let request = request(topic, partition);
    let mut broker = TcpStream::connect(address)?;
    broker.set_read_timeout(Some(LIMIT))?;
    broker.write_all(&sized(&request))?;
    let mut size = [0; 4];
    broker.read_exact(&mut size)?;
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    broker.read_exact(&mut answer)?;
    // Correlation, one topic with its name, one partition with its number, then the error code.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    match answer.get(at..at + 2) {
        Some([0, 0]) => Ok(()),
        code => Err(io::Error::other(format!("the broker does not take it: {code:?}"))),
    }
}

fn request(topic: &str, partition: i32) -> Vec<u8> {
    let (key, version) = PRODUCE;
    let mut bytes = Vec::new();
    bytes.extend(key.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(CORRELATION.to_be_bytes());
    bytes.extend(text("damage"));
    // No transaction, all acknowledgements, and how long that may take.
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend(10_000_i32.to_be_bytes());
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend(text(topic));
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend(partition.to_be_bytes());
    bytes.extend(sized(&batch()));
    bytes
}

fn batch() -> Vec<u8> {
    let mut after_length = Vec::new();
    after_length.extend((-1_i32).to_be_bytes()); // the leader's epoch
    after_length.push(2); // the format
    after_length.extend(WRONG_CHECKSUM.to_be_bytes());
    after_length.extend(0_i16.to_be_bytes()); // attributes
    after_length.extend(0_i32.to_be_bytes()); // the last offset, relative
    after_length.extend(0_i64.to_be_bytes()); // the first timestamp
    after_length.extend(0_i64.to_be_bytes()); // the last timestamp
    after_length.extend((-1_i64).to_be_bytes()); // no producer id,
    after_length.extend((-1_i16).to_be_bytes()); // no epoch of it,
    after_length.extend((-1_i32).to_be_bytes()); // no sequence
    after_length.extend(1_i32.to_be_bytes()); // records
    after_length.extend(RECORD);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend(sized(&after_length));
    batch
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&size.to_be_bytes(), bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    let size = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&size.to_be_bytes(), text.as_bytes()].concat()
}
