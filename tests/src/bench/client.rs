//! One kept-alive connection to the orchestrator, as cheap as can be: a request is written from one buffer and its answer
//! read into another, both of which are used again.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer is longer than this only by mistake.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A connection. After an error it is of no use any more.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What is written next; whoever asks fills it.
    pub(crate) request: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(2048), request: Vec::with_capacity(512) })
    }

    /// Whether the other side has not closed it meanwhile.
    pub(crate) fn is_open(&self) -> bool {
        let nothing = self.stream.try_read(&mut [0]);
        matches!(nothing, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends the request and reads the whole answer: its status and its body.
    pub(crate) async fn exchange(&mut self) -> Result<(u16, &[u8])> {
        self.stream.write_all(&self.request).await.context("send a request")?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.context("read an answer")?;
            ensure!(read > 0, "the connection was closed before the answer");
            if let Some(Head { status, body, length }) = head(&self.buffer)?
                && self.buffer.len() >= body + length
            {
                return Ok((status, &self.buffer[body..body + length]));
            }
            ensure!(self.buffer.len() < MAX_ANSWER_BYTES, "an answer of more than {MAX_ANSWER_BYTES} bytes");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Where the body begins, in bytes.
    body: usize,
    /// How long it is, in bytes.
    length: usize,
}

/// The head of an answer, if all of it is there. The orchestrator always says how long its answers are.
fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).context("a head in another encoding")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    match (status, length) {
        (Some(status), Some(length)) => Ok(Some(Head { status, body: end + 4, length })),
        _ => bail!("no answer that can be read: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_all_of_its_head_is_there() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        for cut in 0..answer.len() - 2 {
            assert_eq!(head(&answer[..cut]).unwrap(), None, "{cut}");
        }
        let body = answer.len() - 2;
        assert_eq!(head(answer).unwrap(), Some(Head { status: 201, body, length: 2 }));
        assert!(head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(head(b"rubbish\r\n\r\n").is_err());
    }
}
