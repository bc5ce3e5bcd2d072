//! Just enough of Postgres' protocol to run a statement that returns nothing, so that nobody needs a client to make a database.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::error::SqlError;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest message that is read. Errors and notices are far shorter.
const MESSAGE_BYTES: usize = 1 << 20;
/// SQLSTATE of `CREATE DATABASE` for one that is there.
const DUPLICATE_DATABASE: &str = "42P04";
/// SQLSTATE of the same when two do it at the same moment.
const UNIQUE_VIOLATION: &str = "23505";

/// Makes a database unless it is there.
pub(crate) fn create_database(socket: &Path, user: &str, name: &str) -> Result<(), SqlError> {
    if name.contains('\0') {
        return Err(SqlError::Protocol("a name with a NUL cannot be sent"));
    }
    let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
    match Connection::open(socket, user, "postgres")?.execute(&statement) {
        Err(SqlError::Refused { code, .. }) if code == DUPLICATE_DATABASE || code == UNIQUE_VIOLATION => {
            Ok(())
        }
        result => result,
    }
}

struct Connection(UnixStream);

impl Connection {
    fn open(socket: &Path, user: &str, database: &str) -> Result<Self, SqlError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Connection(stream);
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", user, "database", database] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        connection.send(None, &body)?;
        connection.until_ready()?;
        Ok(connection)
    }

    fn execute(mut self, statement: &str) -> Result<(), SqlError> {
        let mut body = statement.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body)?;
        self.until_ready()?;
        self.send(Some(b'X'), &[])
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), SqlError> {
        let length =
            i32::try_from(body.len() + 4).map_err(|_| SqlError::Protocol("the statement is too long"))?;
        let mut message = Vec::with_capacity(body.len() + 5);
        message.extend(kind);
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        Ok(self.0.write_all(&message)?)
    }

    /// Reads to the end of the server's answer and returns the error in it, if there was one.
    fn until_ready(&mut self) -> Result<(), SqlError> {
        let mut refused = None;
        loop {
            let (kind, body) = match self.receive() {
                Ok(message) => message,
                // refused at the door: the server closes the connection after its error
                Err(source) => return Err(refused.unwrap_or(SqlError::Connection(source))),
            };
            match kind {
                b'E' => refused = Some(refusal(&body)),
                b'R' if body.first_chunk() != Some(&0i32.to_be_bytes()) => {
                    return Err(SqlError::Protocol("it asks for a password"));
                }
                b'Z' => return refused.map_or(Ok(()), Err),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length =
            usize::try_from(i32::from_be_bytes(length)).ok().and_then(|length| length.checked_sub(4));
        let Some(length) = length.filter(|length| *length <= MESSAGE_BYTES) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of impossible length"));
        };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

/// Code and text out of the body of an error: fields of one letter and a text that ends with NUL.
fn refusal(body: &[u8]) -> SqlError {
    let field = |letter: u8| {
        let text = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[letter]));
        text.map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    SqlError::Refused { code: field(b'C'), message: field(b'M') }
}
