//! Just enough of Postgres' protocol to see a commit go by: its frames, and the texts of statements. On a connection
//! that speaks something else nothing is ever seen.

use std::collections::HashMap;

/// Longer messages are not Postgres': another protocol, or a very large value whose text does not matter.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Cuts a stream into messages: a letter, a length that counts itself, a body.
#[derive(Debug, Default)]
struct Frames {
    /// What has come and is not a whole message yet.
    rest: Vec<u8>,
    /// The first message of a client has no letter.
    begun: bool,
    /// Once something came that cannot be.
    lost: bool,
}

impl Frames {
    fn feed(&mut self, bytes: &[u8], mut message: impl FnMut(u8, &[u8])) {
        if self.lost {
            return;
        }
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let head = if self.begun { 5 } else { 4 };
            let Some(length) = self.rest.get(at + head - 4..at + head) else { break };
            let length = length.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
            if !(4..MAX_MESSAGE).contains(&length) {
                self.lost = true;
                self.rest = Vec::new();
                return;
            }
            let end = at + head - 4 + length;
            let Some(body) = self.rest.get(at + head..end) else { break };
            let letter = if self.begun { self.rest[at] } else { 0 };
            message(letter, body);
            self.begun = true;
            at = end;
        }
        self.rest.drain(..at);
    }
}

/// What a client sends.
#[derive(Debug, Default)]
pub(super) struct Requests {
    frames: Frames,
    /// Prepared statements that commit something, by name.
    statements: HashMap<Vec<u8>, bool>,
    /// A transaction was begun and not ended.
    inside: bool,
    /// A statement that commits was bound and not yet sent off.
    bound: bool,
}

/// What a statement does to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Begin,
    Commit,
    Rollback,
    Write,
    Other,
}

impl Requests {
    /// Takes in what was sent; true if with it a commit is on its way.
    pub(super) fn commits(&mut self, bytes: &[u8]) -> bool {
        let mut commits = false;
        let Self { frames, statements, inside, bound } = self;
        frames.feed(bytes, |letter, body| match letter {
            b'Q' => {
                let does = does(text(body));
                commits |= matches!(does, Does::Commit) || (matches!(does, Does::Write) && !*inside);
                *inside = match does {
                    Does::Begin => true,
                    Does::Commit | Does::Rollback => false,
                    Does::Write | Does::Other => *inside,
                };
            }
            b'P' => {
                let name = text(body);
                let writes = does(text(body.get(name.len() + 1..).unwrap_or_default())) == Does::Write;
                statements.insert(name.to_vec(), writes);
            }
            b'B' => {
                let portal = text(body);
                let name = text(body.get(portal.len() + 1..).unwrap_or_default());
                *bound |= statements.get(name).copied().unwrap_or(false) && !*inside;
            }
            b'S' => commits |= std::mem::take(bound),
            _ => {}
        });
        commits
    }
}

/// Up to the NUL that ends a text.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn does(statement: &[u8]) -> Does {
    let statement = String::from_utf8_lossy(statement).to_ascii_uppercase();
    let first = statement.split_whitespace().next().unwrap_or_default();
    match first.trim_end_matches(';') {
        "BEGIN" | "START" => Does::Begin,
        "COMMIT" | "END" => Does::Commit,
        "ROLLBACK" => Does::Rollback,
        "INSERT" | "UPDATE" | "DELETE" => Does::Write,
        "WITH" if ["INSERT INTO", "UPDATE ", "DELETE FROM"].iter().any(|word| statement.contains(word)) => {
            Does::Write
        }
        _ => Does::Other,
    }
}

/// What a server sends.
#[derive(Debug)]
pub(super) struct Answers(Frames);

impl Default for Answers {
    fn default() -> Self {
        // Each message of a server has its letter.
        Self(Frames { begun: true, ..Frames::default() })
    }
}

impl Answers {
    /// Takes in what was sent; true if with it a request was done with: "ready for query".
    pub(super) fn completes(&mut self, bytes: &[u8]) -> bool {
        let mut done = false;
        self.0.feed(bytes, |letter, _| done |= letter == b'Z');
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(letter: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[letter][..], &length.to_be_bytes(), body].concat()
    }

    /// Sends messages after a startup message, each byte alone, and says after which of them a commit was on its way.
    fn commits(messages: &[(u8, &[u8])]) -> Vec<usize> {
        let mut requests = Requests::default();
        assert!(!requests.commits(&[0, 0, 0, 8, 0, 3, 0, 0]));
        let commits = |(at, (letter, body)): (usize, &(u8, &[u8]))| {
            let bytes = message(*letter, body);
            let seen = bytes.iter().filter(|byte| requests.commits(&[**byte])).count();
            assert!(seen < 2, "{seen} commits");
            (seen == 1).then_some(at)
        };
        messages.iter().enumerate().filter_map(commits).collect()
    }

    #[test]
    fn a_commit_is_seen_where_it_is_sent() {
        let statement = b"s1\0WITH fence AS (UPDATE shard SET epoch = 1) INSERT INTO journal SELECT 1\0\0\0";
        let select = b"s2\0SELECT 1\0\0\0";
        let run = [(b'B', &b"\0s1\0\0\0"[..]), (b'E', b"\0\0\0\0\0"), (b'S', b"")];
        let read = [(b'B', &b"\0s2\0\0\0"[..]), (b'E', b"\0\0\0\0\0"), (b'S', b"")];
        let alone = [&[(b'P', &statement[..]), (b'P', select), (b'S', b"")][..], &run, &read, &run].concat();
        assert_eq!(commits(&alone), [5, 11]);
        let transaction = [
            &[(b'Q', &b"BEGIN\0"[..]), (b'P', statement), (b'S', b"")][..],
            &run,
            &[(b'Q', b"COMMIT\0")],
            &run,
        ]
        .concat();
        assert_eq!(commits(&transaction), [6, 9]);
        assert_eq!(
            commits(&[(b'Q', b"BEGIN\0"), (b'Q', b"ROLLBACK\0"), (b'Q', b"UPDATE a SET b = 1\0")]),
            [2]
        );
    }

    #[test]
    fn another_protocol_is_let_alone() {
        let mut requests = Requests::default();
        assert!(!requests.commits(&[0xff; 100]));
        assert!(!requests.commits(b"Q\0\0\0\x0bCOMMIT\0"));
    }

    #[test]
    fn an_answer_is_complete_when_the_server_is_ready() {
        let mut answers = Answers::default();
        assert!(!answers.completes(&message(b'C', b"INSERT 0 1\0")));
        assert!(answers.completes(&message(b'Z', b"I")));
    }
}
