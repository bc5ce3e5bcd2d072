//! The format of server-sent events, as the HTML standard has it: lines of fields, a blank line after each event.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest event, in bytes. A saga's transition with everything it decided stays far below.
const LONGEST: usize = 16 << 20;
/// Longer than a service may send its clients away.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// May stand before the first line, and says nothing.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// One event as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What it is; empty if it does not say.
    pub(crate) event: String,
    /// Its lines of data, with line breaks between them; empty if there are none.
    pub(crate) data: String,
    /// Its place in the stream.
    pub(crate) id: Option<String>,
    /// When a client should come back whose connection breaks.
    pub(crate) retry: Option<Duration>,
}

/// Bytes as they arrive, and the events in them.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: VecDeque<u8>,
    line: Vec<u8>,
    /// A line feed now belongs to the carriage return before it.
    after_return: bool,
    begun: bool,
    frame: Frame,
}

impl Frames {
    /// Takes bytes that came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next whole event; `None`: more bytes are needed.
    ///
    /// # Errors
    /// What is wrong with the stream: nothing after it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, &'static str> {
        while let Some(byte) = self.bytes.pop_front() {
            let ends = match byte {
                b'\n' if std::mem::take(&mut self.after_return) => continue,
                b'\n' | b'\r' => true,
                _ => false,
            };
            self.after_return = byte == b'\r';
            if !ends {
                self.line.push(byte);
                if self.line.len() + self.frame.data.len() > LONGEST {
                    return Err("an event that does not end");
                }
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.line))
                .map_err(|_| "an event that is not UTF-8")?;
            let line = if std::mem::replace(&mut self.begun, true) {
                line.as_str()
            } else {
                line.trim_start_matches(BYTE_ORDER_MARK)
            };
            if !line.is_empty() {
                self.field(line);
            } else if self.frame != Frame::default() {
                return Ok(Some(std::mem::take(&mut self.frame)));
            }
        }
        Ok(None)
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.frame.event),
            "data" => {
                if !self.frame.data.is_empty() {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.frame.retry = value.parse().ok().map(|ms| Duration::from_millis(ms).min(LONGEST_RETRY));
            }
            // A comment (without a name), or a field that nobody knew when this was written.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}retry: 1000\nid: 3\n\n:\n\nevent:transition\nid:4\ndata:{\"ä\":\ndata: 1}\n\n: sign of life\nid:5\n\n\
        event: other\r\ndata: x\r\n\r\nevent:old\rdata:  two blanks\r\rnews: none\nretry: soon\ndata\nid:a\0b\n\nretry:99999999\n\nevent:torn\nid:6\n";

    fn read(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
        let mut frames = Frames::default();
        let mut told = Vec::new();
        for piece in pieces {
            frames.push(&piece);
            while let Some(Frame { event, data, id, retry }) = frames.next().unwrap() {
                told.push(format!("{event:?} {data:?} {id:?} {retry:?}"));
            }
        }
        told
    }

    #[test]
    fn events_are_found_however_the_bytes_come() {
        let whole = read(std::iter::once(STREAM.as_bytes().to_vec()));
        insta::assert_snapshot!(whole.join("\n"), @r#"
        "" "" Some("3") Some(1s)
        "transition" "{\"ä\":\n1}" Some("4") None
        "" "" Some("5") None
        "other" "x" None None
        "old" " two blanks" None None
        "" "" None Some(60s)
        "#);
        for size in 1..STREAM.len() {
            assert_eq!(read(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec)), whole, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_not_kept_for_ever() {
        let mut frames = Frames::default();
        frames.push(&vec![b'x'; LONGEST]);
        assert_eq!(frames.next(), Ok(None));
        frames.push(b"x");
        assert_eq!(frames.next(), Err("an event that does not end"));
        let mut frames = Frames::default();
        let line = format!("data:{}\n", "x".repeat(1 << 20));
        let refused = (0..=16).find_map(|_| {
            frames.push(line.as_bytes());
            frames.next().err()
        });
        assert_eq!(refused, Some("an event that does not end"), "many lines are long, too");
    }

    #[test]
    fn what_is_no_text_is_told() {
        let mut frames = Frames::default();
        frames.push(b"data: \xff\xfe\n\n");
        assert_eq!(frames.next(), Err("an event that is not UTF-8"));
    }
}
