//! Rows as `COPY … TO STDOUT (FORMAT binary)` sends them: the cheapest way to read a whole table as it streams by.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use saga_defs::time::Timestamp;
use sea_orm::sqlx::{self, postgres::PgConnection};
use uuid::Uuid;

/// What every binary copy begins with; flags and the length of a header extension follow.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The number of fields that stands for the end.
const TRAILER: i16 = -1;
/// Postgres counts microseconds from 2000-01-01, in milliseconds since 1970.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;

/// What goes wrong while rows stream by.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no connection, it broke, or the database refuses.
    #[error("{}; see that it is there and up to date (`orchestrator migrate`), then run it again", said(.0))]
    Broken(sqlx::Error),
    /// What came is not what this version reads.
    #[error(
        "the database sends rows in a form that is not known: {0}; bring its tables up to date with `orchestrator migrate`"
    )]
    Form(&'static str),
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Broken(error)
    }
}

/// The database's own words, without the place in its source.
fn said(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// A row type of a copy: its fields in the order of the statement's columns.
pub trait FromTuple: Sized {
    /// Reads one row.
    ///
    /// # Errors
    /// A field is not of the type expected.
    fn from_tuple(fields: &mut Fields) -> Result<Self, CopyError>;
}

/// The rows of one statement, one at a time; only what the socket has just given is in memory.
pub struct Rows<'c> {
    stream: BoxStream<'c, Result<Bytes, sqlx::Error>>,
    /// What has come and is not read yet.
    rest: Bytes,
    begun: bool,
    ended: bool,
}

impl<'c> Rows<'c> {
    /// Starts a statement on a connection that nobody else uses meanwhile.
    ///
    /// # Errors
    /// The database refuses the statement.
    pub async fn open(connection: &'c mut PgConnection, select: &str) -> Result<Self, CopyError> {
        let copy = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
        let stream = connection.copy_out_raw(&copy).await?;
        Ok(Self { stream, rest: Bytes::new(), begun: false, ended: false })
    }

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// The connection broke, or a row is not as expected.
    pub async fn next<T: FromTuple>(&mut self) -> Result<Option<T>, CopyError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            match self.tuple()? {
                Tuple::Row(mut fields) => return T::from_tuple(&mut fields).map(Some),
                Tuple::End => self.ended = true,
                Tuple::Incomplete => match self.stream.next().await.transpose()? {
                    Some(more) if self.rest.is_empty() => self.rest = more,
                    Some(more) => self.rest = [&*self.rest, &*more].concat().into(),
                    None => return Err(CopyError::Form("the stream ended within a row")),
                },
            }
        }
    }

    fn tuple(&mut self) -> Result<Tuple, CopyError> {
        if !self.begun {
            match after_header(&self.rest)? {
                Some(length) => self.rest = self.rest.slice(length..),
                None => return Ok(Tuple::Incomplete),
            }
            self.begun = true;
        }
        let Some((count, mut rest)) = self.rest.split_first_chunk::<2>() else {
            return Ok(Tuple::Incomplete);
        };
        let count = i16::from_be_bytes(*count);
        if count == TRAILER {
            return Ok(Tuple::End);
        }
        for _ in 0..count {
            let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(Tuple::Incomplete) };
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let Some(after) = after.get(length..) else { return Ok(Tuple::Incomplete) };
            rest = after;
        }
        let end = self.rest.len() - rest.len();
        let row = self.rest.split_to(end);
        Ok(Tuple::Row(Fields { rest: row.slice(2..) }))
    }
}

/// The length of the header, if it is there in full.
fn after_header(bytes: &[u8]) -> Result<Option<usize>, CopyError> {
    let fixed = SIGNATURE.len() + 8;
    let Some(header) = bytes.get(..fixed) else { return Ok(None) };
    let Some((_, extension)) = header.split_last_chunk::<4>() else { return Ok(None) };
    if !header.starts_with(SIGNATURE) {
        return Err(CopyError::Form("no header"));
    }
    let extension = usize::try_from(u32::from_be_bytes(*extension)).unwrap_or(usize::MAX);
    let length = fixed.saturating_add(extension);
    Ok((bytes.len() >= length).then_some(length))
}

enum Tuple {
    Row(Fields),
    End,
    Incomplete,
}

/// The fields of one row, taken in order.
pub struct Fields {
    rest: Bytes,
}

impl Fields {
    /// The next field's bytes; `None` for NULL.
    ///
    /// # Errors
    /// There is no more field.
    pub fn bytes(&mut self) -> Result<Option<Bytes>, CopyError> {
        let Some(length) = self.rest.first_chunk::<4>() else {
            return Err(CopyError::Form("a field is missing"));
        };
        let length = i32::from_be_bytes(*length);
        self.rest = self.rest.slice(4..);
        match usize::try_from(length) {
            Ok(length) => Ok(Some(self.rest.split_to(length))),
            Err(_) => Ok(None),
        }
    }

    /// The next field, which is never NULL.
    ///
    /// # Errors
    /// It is.
    pub fn some(&mut self) -> Result<Bytes, CopyError> {
        self.bytes()?.ok_or(CopyError::Form("a field is NULL"))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], CopyError> {
        let bytes = self.some()?;
        bytes.first_chunk().copied().filter(|_| bytes.len() == N).ok_or(CopyError::Form("a field's length"))
    }

    /// The next field as a 32-bit number.
    ///
    /// # Errors
    /// It is none.
    pub fn int(&mut self) -> Result<i32, CopyError> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// The next field as a 64-bit number.
    ///
    /// # Errors
    /// It is none.
    pub fn bigint(&mut self) -> Result<i64, CopyError> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// The next field as a UUID.
    ///
    /// # Errors
    /// It is none.
    pub fn uuid(&mut self) -> Result<Uuid, CopyError> {
        self.fixed().map(Uuid::from_bytes)
    }

    /// The next field as a UUID; `None` for NULL.
    ///
    /// # Errors
    /// It is none.
    pub fn optional_uuid(&mut self) -> Result<Option<Uuid>, CopyError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        Uuid::from_slice(&bytes).map(Some).map_err(|_| CopyError::Form("a field's length"))
    }

    /// The next field as a point in time, in microseconds since 1970.
    ///
    /// # Errors
    /// It is none.
    pub fn unix_micros(&mut self) -> Result<i64, CopyError> {
        self.bigint().map(|micros| micros.saturating_add(POSTGRES_EPOCH_MS * 1_000))
    }

    /// The next field as a text.
    ///
    /// # Errors
    /// It is NULL.
    pub fn text(&mut self) -> Result<Box<str>, CopyError> {
        self.optional_text()?.ok_or(CopyError::Form("a field is NULL"))
    }

    /// The next field as a text; `None` for NULL.
    ///
    /// # Errors
    /// It is not UTF-8, as no text of a UTF-8 database is.
    pub fn optional_text(&mut self) -> Result<Option<Box<str>>, CopyError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|_| CopyError::Form("a text that is not UTF-8"))?;
        Ok(Some(text.into()))
    }

    /// The next field as a point in time, to the millisecond below.
    ///
    /// # Errors
    /// It is none.
    pub fn time(&mut self) -> Result<Timestamp, CopyError> {
        self.bigint().map(timestamp)
    }

    /// The next field as a point in time; `None` for NULL.
    ///
    /// # Errors
    /// It is none.
    pub fn optional_time(&mut self) -> Result<Option<Timestamp>, CopyError> {
        let Some(bytes) = self.bytes()? else { return Ok(None) };
        let micros = bytes.first_chunk().copied().ok_or(CopyError::Form("a field's length"))?;
        Ok(Some(timestamp(i64::from_be_bytes(micros))))
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_unix_millis(micros.div_euclid(1_000).saturating_add(POSTGRES_EPOCH_MS))
}
