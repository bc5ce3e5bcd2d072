//! All schemas: every version of every record, found by name for writing and by fingerprint for reading.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use saga_defs::Data;
use serde_json::Value;

use crate::avsc;
use crate::codec::{self, ENCODED_LIMIT_BYTES, EncodeError, Encoded, FieldProblem};
use crate::codec::{Encoder, HEADER_LEN, UnknownNames};
use crate::compat;
use crate::registry::Registry;
use crate::shape::RecordShape;

mod reading;
mod registered;
mod topics;
mod written;
pub(crate) use registered::Entry;
pub use topics::{INBOX, is_topic};
pub use written::{Unreadable, Written};

/// Largest `.avsc` that is read.
pub const SOURCE_LIMIT_BYTES: usize = 256 * 1024;

/// Bytes to set aside for each field when writing: most are ids of 36 characters.
const FIELD_GUESS_BYTES: usize = 40;

macro_rules! shipped {
    ($($name:literal)*) => {
        /// File name and text of each schema in `avro/`; a test holds this list to the directory.
        const SHIPPED: &[(&str, &str)] =
            &[$((concat!($name, ".avsc"), include_str!(concat!("../avro/", $name, ".avsc")))),*];
    };
}

shipped! {
    "accounts.AccountErased.v1"
    "accounts.EraseAccount.v1"
    "accounts.RequestErasure.v1"
    "booking.BookingCancelled.v1"
    "booking.BookingConfirmed.v1"
    "booking.BookingCreated.v1"
    "booking.BookingReservationCancelled.v1"
    "booking.BookingReserved.v1"
    "booking.CancelBooking.v1"
    "booking.ConfirmBooking.v1"
    "booking.ReserveBooking.v1"
    "booking.StartBooking.v1"
    "carriers.BookCarrier.v1"
    "carriers.CancelCarrier.v1"
    "carriers.CarrierBooked.v1"
    "flights.BuyTicket.v1"
    "flights.FlightHeld.v1"
    "flights.HoldFlight.v1"
    "flights.ReleaseFlight.v1"
    "flights.TicketBought.v1"
    "hotels.ConfirmRoom.v1"
    "hotels.ReleaseRoom.v1"
    "hotels.ReserveRoom.v1"
    "hotels.RoomConfirmed.v1"
    "hotels.RoomReserved.v1"
    "notices.ItinerarySent.v1"
    "notices.SendItinerary.v1"
    "payment.ChargePayment.v1"
    "payment.PaymentCompleted.v1"
    "payment.PaymentFailed.v1"
    "payment.PaymentRefunded.v1"
    "payment.RefundPayment.v1"
    "saga.Refusal.v1"
    "saga.SagaEnded.v1"
    "saga.SagaStarted.v1"
    "saga.Undone.v1"
    "stock.AnnounceDelivery.v1"
    "stock.DeliveryAnnounced.v1"
    "stock.GoodsSetAside.v1"
    "stock.PutGoodsBack.v1"
    "stock.SetGoodsAside.v1"
    "stock.StartTransfer.v1"
    "stock.WithdrawDelivery.v1"
    "trips.StartTrip.v1"
}

/// All schemas, each version of each record. Does not change; adding makes a new one. The default one is empty.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    messages: BTreeMap<Arc<str>, Message>,
    readings: HashMap<u64, Reading>,
    /// Topics that records go to, beside those that schemas name themselves.
    carried: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Whose ids messages are written with, and which ids can be read.
    registry: Option<Arc<Registry>>,
}

/// One record by its full name: all versions, by number.
#[derive(Debug, Clone, Default)]
struct Message {
    versions: BTreeMap<u32, Version>,
}

#[derive(Debug, Clone)]
struct Version {
    origin: Arc<str>,
    /// `<full name>.v<N>`.
    key: Arc<str>,
    /// The schema as it stands in its file.
    text: Arc<str>,
    content: Arc<Value>,
    source: Arc<Value>,
    shape: Arc<RecordShape>,
    fingerprint: u64,
    header: [u8; HEADER_LEN],
}

/// How to read what one version wrote.
#[derive(Debug, Clone)]
struct Reading {
    written: Arc<RecordShape>,
    newest: Arc<RecordShape>,
}

/// Why a schema was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A file or directory cannot be read.
    #[error("schemas: cannot read {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The text is not a schema that this crate can work with.
    #[error("{origin}: {}{reason}", field_prefix(field))]
    Refused {
        /// Where the text came from.
        origin: String,
        /// The field, or empty when it is about the schema as a whole.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// That version is known, with another content.
    #[error(
        "{origin}: {message_type} version {version} is already known from {known_from} with another content; a \
         published version never changes: save the change as {message_type}.v{next}.avsc"
    )]
    OtherContent {
        /// Where the text came from.
        origin: String,
        /// The record.
        message_type: Arc<str>,
        /// The version that both claim to be.
        version: u32,
        /// Where the known one came from.
        known_from: Arc<str>,
        /// The first free version.
        next: u32,
    },
    /// It and another version cannot read each other's messages.
    #[error(
        "{origin}: {message_type} versions {older} and {newer} cannot read each other: `{field}` {reason}"
    )]
    Incompatible {
        /// Where the text came from.
        origin: String,
        /// The record.
        message_type: Arc<str>,
        /// The lower version number.
        older: u32,
        /// The higher version number.
        newer: u32,
        /// The field.
        field: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// Two records have the same fingerprint. One in 2^64.
    #[error("{origin}: {message_type} has the same fingerprint as {other}: rename one of its fields")]
    SameFingerprint {
        /// Where the text came from.
        origin: String,
        /// The record.
        message_type: Arc<str>,
        /// The other one.
        other: Arc<str>,
    },
}

impl SchemaError {
    /// What the complaint is about, without where the text came from: the field, or nothing, and the sentence.
    pub fn told(&self) -> (&str, String) {
        match self {
            Self::Refused { field, reason, .. } => (field, reason.clone()),
            Self::Incompatible { message_type, older, newer, field, reason, .. } => {
                let text =
                    format!("{reason} ({message_type} versions {older} and {newer} must read each other)");
                (field, text)
            }
            Self::Io { .. } | Self::OtherContent { .. } | Self::SameFingerprint { .. } => {
                let text = self.to_string();
                let told = self.origin().and_then(|origin| text.strip_prefix(&format!("{origin}: ")));
                ("", told.unwrap_or(&text).to_owned())
            }
        }
    }

    /// Where the text came from; `None` where there was none to read.
    pub fn origin(&self) -> Option<&str> {
        match self {
            Self::Io { .. } => None,
            Self::Refused { origin, .. }
            | Self::OtherContent { origin, .. }
            | Self::Incompatible { origin, .. }
            | Self::SameFingerprint { origin, .. } => Some(origin),
        }
    }
}

fn field_prefix(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("field {field}: ") }
}

impl Catalog {
    /// The file name and text of each schema that comes with this crate.
    pub const fn shipped_sources() -> &'static [(&'static str, &'static str)] {
        SHIPPED
    }

    /// The schemas that come with this crate, parsed once, and the topics to which the definitions that ship send them.
    pub fn shipped() -> Arc<Self> {
        static SHIPPED_CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| {
            let sources = SHIPPED.iter().map(|(origin, text)| ((*origin).to_owned(), (*text).to_owned()));
            let catalog =
                Catalog::default().with_sources(sources).expect("the tests of this crate load them");
            let definitions: Vec<_> =
                saga_defs::shipped().iter().map(saga_defs::Shipped::definition).collect();
            Arc::new(catalog.with_definitions(&definitions))
        });
        Arc::clone(&SHIPPED_CATALOG)
    }

    /// This catalog and more schemas: pairs of origin (a file name or path, or whatever names it in an error) and text.
    ///
    /// The version is the N of an origin that ends in `.vN.avsc`. Without one it is version 1, or whichever known
    /// version has the same content. Documentation is no part of the content.
    ///
    /// # Errors
    /// Everything that is wrong with any of them; then none is taken.
    pub fn with_sources(
        &self,
        sources: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<SchemaError>> {
        let mut catalog = self.clone();
        let mut errors = Vec::new();
        for (origin, text) in sources {
            if let Err(mut wrong) = catalog.add(&origin, &text) {
                errors.append(&mut wrong);
            }
        }
        if errors.is_empty() { Ok(catalog) } else { Err(errors) }
    }

    /// The `.avsc` files of a directory (not of those inside it), in order of name: what [`Self::with_sources`] takes.
    ///
    /// # Errors
    /// [`SchemaError::Io`] names what cannot be read; [`SchemaError::Refused`] a file that is too large.
    pub fn read_dir(dir: &Path) -> Result<Vec<(String, String)>, SchemaError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SchemaError::Io { path, source }
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(io(dir))? {
            let path = entry.map_err(io(dir))?.path();
            if path.extension().is_some_and(|extension| extension == "avsc") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut sources = Vec::with_capacity(paths.len());
        for path in paths {
            let length = fs::metadata(&path).map_err(io(&path))?.len();
            let origin = path.display().to_string();
            if length > SOURCE_LIMIT_BYTES as u64 {
                return Err(too_large(&origin));
            }
            sources.push((origin, fs::read_to_string(&path).map_err(io(&path))?));
        }
        Ok(sources)
    }

    /// Which record and version a text is: the N of an origin that ends in `.vN.avsc`, else the known version with the
    /// same content, else the next one. Whether it goes with the known versions is for [`Self::with_sources`] to say.
    ///
    /// # Errors
    /// It is no schema.
    pub fn place(&self, origin: &str, text: &str) -> Result<(Arc<str>, u32), SchemaError> {
        if text.len() > SOURCE_LIMIT_BYTES {
            return Err(too_large(origin));
        }
        let schema = avsc::parse(text).map_err(|refused| {
            let (field, reason) = (refused.field, refused.reason);
            SchemaError::Refused { origin: origin.to_owned(), field, reason }
        })?;
        let name = schema.shape.full_name;
        let number = match (version_in(origin), self.messages.get(&name)) {
            (Some(number), _) => number,
            (None, None) => 1,
            (None, Some(known)) => {
                let same = known.versions.iter().find(|(_, version)| *version.content == schema.content);
                let last = known.versions.keys().next_back().copied().unwrap_or(0);
                same.map_or(last.saturating_add(1), |(number, _)| *number)
            }
        };
        Ok((name, number))
    }

    /// Whether it has this version of this record.
    pub fn has(&self, full_name: &str, version: u32) -> bool {
        self.messages.get(full_name).is_some_and(|message| message.versions.contains_key(&version))
    }

    /// The full names of all records, in order.
    pub fn message_types(&self) -> impl Iterator<Item = &str> {
        self.messages.keys().map(|name| &**name)
    }

    /// Every version that is known, by name and number.
    pub fn versions(&self) -> Vec<(&str, u32)> {
        let all = self.messages.iter();
        all.flat_map(|(name, message)| message.versions.keys().map(|number| (&**name, *number))).collect()
    }

    /// The newest version of a record.
    pub fn record(&self, full_name: &str) -> Option<&RecordShape> {
        self.newest(full_name).map(|version| &*version.shape)
    }

    /// Writes a message with the newest version of its record. Takes the record's fields out of `fields` by name, leaves
    /// out names that the record does not have, and takes defaults for absent ones.
    ///
    /// # Errors
    /// [`EncodeError::Fields`] names each missing or wrong field.
    pub fn encode(&self, full_name: &str, fields: &Data) -> Result<Vec<u8>, EncodeError> {
        let Some(version) = self.newest(full_name) else {
            return Err(EncodeError::UnknownType { message_type: full_name.to_owned() });
        };
        let shape = &version.shape;
        let mut out = Vec::with_capacity(HEADER_LEN + shape.fields.len() * FIELD_GUESS_BYTES);
        self.begin(version, &mut out);
        match Encoder::new(out, ENCODED_LIMIT_BYTES, UnknownNames::Ignored).message(shape, fields) {
            Encoded::Bytes(bytes) => Ok(bytes),
            Encoded::Problems(problems) => {
                Err(EncodeError::Fields { message_type: shape.full_name.clone(), problems })
            }
            Encoded::TooLarge => Err(EncodeError::TooLarge { message_type: shape.full_name.clone() }),
        }
    }

    /// What is wrong with fields that somebody gave us for this record: each missing, wrong and unknown one (at most a
    /// hundred). Empty when they can be written as they are.
    pub fn validate(&self, full_name: &str, fields: &Data) -> Vec<FieldProblem> {
        let whole = |message: String| vec![FieldProblem { field: String::new(), message }];
        let Some(version) = self.newest(full_name) else {
            return whole(format!("no schema is named {full_name}"));
        };
        let encoder = Encoder::new(Vec::new(), ENCODED_LIMIT_BYTES, UnknownNames::Refused);
        match encoder.message(&version.shape, fields) {
            Encoded::Bytes(_) => Vec::new(),
            Encoded::Problems(problems) => problems,
            Encoded::TooLarge => whole(format!("takes more than {ENCODED_LIMIT_BYTES} bytes")),
        }
    }

    fn newest(&self, full_name: &str) -> Option<&Version> {
        self.messages.get(full_name)?.versions.values().next_back()
    }

    fn add(&mut self, origin: &str, text: &str) -> Result<(), Vec<SchemaError>> {
        let one = |error| vec![error];
        if text.len() > SOURCE_LIMIT_BYTES {
            return Err(one(too_large(origin)));
        }
        let schema = avsc::parse(text).map_err(|refused| {
            let (field, reason) = (refused.field, refused.reason);
            one(SchemaError::Refused { origin: origin.to_owned(), field, reason })
        })?;
        let name = schema.shape.full_name.clone();
        let known = self.messages.get(&name).cloned().unwrap_or_default();
        let named_version = version_in(origin);
        if named_version.is_none()
            && known.versions.values().any(|version| *version.content == schema.content)
        {
            return Ok(());
        }
        let number = named_version.unwrap_or(1);
        if let Some(same) = known.versions.get(&number) {
            if *same.content == schema.content {
                return Ok(());
            }
            return Err(one(SchemaError::OtherContent {
                origin: origin.to_owned(),
                message_type: name,
                version: number,
                known_from: same.origin.clone(),
                next: known.versions.keys().next_back().map_or(1, |last| last.saturating_add(1)),
            }));
        }
        if let Some(other) = self.readings.get(&schema.fingerprint).map(|reading| &reading.newest.full_name)
            && *other != name
        {
            let (origin, other) = (origin.to_owned(), other.clone());
            return Err(one(SchemaError::SameFingerprint { origin, message_type: name, other }));
        }
        let version = Version {
            origin: origin.into(),
            key: format!("{name}.v{number}").into(),
            text: text.into(),
            content: Arc::new(schema.content),
            source: Arc::new(schema.source),
            shape: Arc::new(schema.shape),
            fingerprint: schema.fingerprint,
            header: codec::header(schema.fingerprint),
        };
        let conflicts = conflicts(&known, number, &version);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        self.insert(number, version);
        Ok(())
    }

    fn insert(&mut self, number: u32, version: Version) {
        let message = self.messages.entry(version.shape.full_name.clone()).or_default();
        message.versions.insert(number, version);
        let Some(newest) = message.versions.values().next_back() else { return };
        for written in message.versions.values() {
            // Versions that differ in defaults only lay out bytes alike, so they share a fingerprint: any will do, and
            // the newest is the one that needs no resolving.
            let same_bytes = written.fingerprint == newest.fingerprint;
            let written_shape = if same_bytes { &newest.shape } else { &written.shape };
            let reading = Reading { written: written_shape.clone(), newest: newest.shape.clone() };
            self.readings.insert(written.fingerprint, reading);
        }
    }
}

/// Every reason why a new version does not go with the known ones.
fn conflicts(known: &Message, number: u32, version: &Version) -> Vec<SchemaError> {
    let mut errors = Vec::new();
    for (&other_number, other) in &known.versions {
        let (older, newer) = if other_number < number { (other, version) } else { (version, other) };
        for conflict in compat::conflicts(&older.shape, &newer.shape) {
            errors.push(SchemaError::Incompatible {
                origin: version.origin.to_string(),
                message_type: version.shape.full_name.clone(),
                older: other_number.min(number),
                newer: other_number.max(number),
                field: conflict.field,
                reason: conflict.message,
            });
        }
    }
    errors
}

/// The N of `<anything>.vN.avsc`.
fn version_in(origin: &str) -> Option<u32> {
    let (_, version) = origin.strip_suffix(".avsc")?.rsplit_once(".v")?;
    version.parse().ok().filter(|number| *number > 0)
}

fn too_large(origin: &str) -> SchemaError {
    let reason = format!("larger than {SOURCE_LIMIT_BYTES} bytes");
    SchemaError::Refused { origin: origin.to_owned(), field: String::new(), reason }
}
