//! The records that effects become. A record is a function of the saga, the journal row and the definition alone, so
//! that publishing it again after a take-over gives the same bytes.

use std::sync::Arc;

use messaging::headers::{CommandHeaders, DeadLetterHeaders, NOWHERE, redriven_copy};
use messaging::{Headers, Record};
use saga_defs::Data;
use saga_defs::definition::{Definition, StepKind};
use saga_defs::ids::{CommandId, DeadLetterId, Direction, SagaId, Shard};
use saga_defs::saga::{Refusal, Saga, Status, Try};
use saga_defs::time::Timestamp;
use schemas::Catalog;
use serde_json::json;

use super::{DEAD_LETTERS, EVENTS, EngineSettings, INBOX, MAX_COMMAND_BYTES, traces};
use crate::store::letters::LetterRow;

/// Why a command cannot be built.
pub const CODE_UNBUILDABLE: &str = "command_cannot_be_built";
/// Why a command cannot be sent.
pub const CODE_TOO_LARGE: &str = "command_too_large";
/// Why a command cannot be sent: there is no such topic or partition, or the broker finds it invalid.
pub const CODE_REFUSED: &str = "command_refused_by_broker";

/// Makes records.
#[derive(Clone)]
pub struct RecordMaker {
    catalog: Arc<Catalog>,
    inbox: Arc<str>,
    events: Arc<str>,
    command_partitions: u16,
    event_partitions: u16,
}

impl RecordMaker {
    /// For these topics.
    pub fn new(catalog: Arc<Catalog>, settings: &EngineSettings) -> Self {
        Self {
            catalog,
            inbox: INBOX.into(),
            events: EVENTS.into(),
            command_partitions: settings.command_partitions.max(1),
            event_partitions: settings.event_partitions.max(1),
        }
    }

    /// From now on with these schemas: more may have been published.
    pub fn use_catalog(&mut self, catalog: Arc<Catalog>) {
        self.catalog = catalog;
    }

    /// The schemas.
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The Avro record of an attempt's command.
    pub fn message_type(definition: &Definition, at: Try) -> Option<&Arc<str>> {
        let step = definition.step(at.step)?;
        match (&step.kind, at.direction) {
            (_, Direction::Forward) => Some(&step.command),
            (StepKind::Compensatable { compensation }, Direction::Compensation) => Some(compensation),
            (StepKind::Pivot | StepKind::Retriable, Direction::Compensation) => None,
        }
    }

    /// The value of an attempt's command: the saga's data by name, `with` mappings, then an operator's correction.
    ///
    /// # Errors
    /// The refusal to give to the saga: a field is missing or has the wrong type, or the value is too large.
    pub fn command_value(&self, definition: &Definition, saga: &Saga, at: Try) -> Result<Vec<u8>, Refusal> {
        let (Some(message_type), Some(step)) = (Self::message_type(definition, at), definition.step(at.step))
        else {
            let text = format!("{} has no such command", definition.id);
            return Err(Refusal::new(CODE_UNBUILDABLE, text));
        };
        let encoded = if step.with.is_empty() && saga.correction.is_none() {
            self.catalog.encode(message_type, &saga.data)
        } else {
            let mut fields: Data = (*saga.data).clone();
            for (field, from) in &step.with {
                if let Some(value) = saga.data.get(from) {
                    fields.insert(field.clone(), value.clone());
                }
            }
            if let Some(correction) = &saga.correction {
                fields.extend(correction.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            self.catalog.encode(message_type, &fields)
        };
        let value =
            encoded.map_err(|error| Refusal::new(CODE_UNBUILDABLE, format!("{message_type}: {error}")))?;
        if value.len() > MAX_COMMAND_BYTES {
            let text = format!(
                "{message_type} has {} bytes; a command has at most {MAX_COMMAND_BYTES}",
                value.len()
            );
            return Err(Refusal::new(CODE_TOO_LARGE, text));
        }
        Ok(value)
    }

    /// An attempt's command, as decided at `decided`. `None` if the definition has no such step.
    pub fn command(
        &self,
        definition: &Definition,
        saga: &Saga,
        shard: Shard,
        at: Try,
        decided: Timestamp,
        value: Vec<u8>,
    ) -> Option<Record> {
        let step = definition.step(at.step)?;
        let message_type = Self::message_type(definition, at)?.clone();
        let command_id = CommandId::derive(saga.id, &step.name, at.direction);
        let headers = CommandHeaders {
            saga_id: saga.id,
            definition: definition.id.clone(),
            step: step.name.clone(),
            direction: at.direction,
            command_id,
            attempt: at.attempt,
            redrive: at.redrive,
            reply_topic: self.inbox.clone(),
            reply_partition: i32::from(shard.0),
            deadline: decided.after(step.timeout),
            message_type,
            traceparent: Some(traces::of_attempt(saga, command_id, at)),
        };
        Some(Record {
            topic: format!("{}.commands", step.participant).into(),
            partition: Some(i32::from(shard.0 % self.command_partitions)),
            key: Some(saga.id.to_string().into_bytes()),
            value: Some(value),
            headers: headers.write(),
            timestamp_ms: Some(decided.unix_millis()),
        })
    }

    /// Tells everyone that a saga began.
    pub fn announce_start(&self, saga: &Saga, shard: Shard) -> Option<Record> {
        let fields = json!({
            "sagaId": saga.id.to_string(),
            "definition": &*saga.definition.name,
            "version": saga.definition.version,
            "businessKey": saga.business_key.as_deref(),
            "at": saga.started_at.unix_millis(),
        });
        self.announcement("saga.SagaStarted", fields, saga.id, shard, saga.started_at)
    }

    /// Tells everyone that a saga ended.
    pub fn announce_end(&self, saga: &Saga, shard: Shard, status: Status, at: Timestamp) -> Option<Record> {
        let fields = json!({
            "sagaId": saga.id.to_string(),
            "definition": &*saga.definition.name,
            "version": saga.definition.version,
            "status": status.as_str(),
            "reasonCode": saga.reason.as_ref().map(|reason| &*reason.refusal.code),
            "at": at.unix_millis(),
        });
        self.announcement("saga.SagaEnded", fields, saga.id, shard, at)
    }

    fn announcement(
        &self,
        message_type: &str,
        fields: serde_json::Value,
        saga: SagaId,
        shard: Shard,
        at: Timestamp,
    ) -> Option<Record> {
        let serde_json::Value::Object(fields) = fields else { return None };
        let value = match self.catalog.encode(message_type, &fields) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(%saga, message_type, %error, "an announcement cannot be encoded; it is left out");
                return None;
            }
        };
        let mut headers = Headers::new();
        headers.push("saga-id", saga.to_string());
        headers.push("message-type", message_type);
        Some(Record {
            topic: self.events.clone(),
            partition: Some(i32::from(shard.0 % self.event_partitions)),
            key: Some(saga.to_string().into_bytes()),
            value: Some(value),
            headers,
            timestamp_ms: Some(at.unix_millis()),
        })
    }

    /// A dead letter for everybody else: the record as it was, with the cause in added headers.
    pub fn export(&self, letter: &LetterRow) -> Record {
        let added = DeadLetterHeaders {
            id: letter.id,
            reason: letter.reason.as_str().into(),
            message: letter.message.clone(),
            topic: letter.topic.as_str().into(),
            partition: letter.partition.unwrap_or(NOWHERE),
            offset: letter.offset.unwrap_or(i64::from(NOWHERE)),
            source: letter.source.as_str().into(),
            attempts: u32::try_from(letter.attempts).unwrap_or_default(),
            first_failed_at: letter.first_failed_at,
            last_failed_at: letter.last_failed_at,
            saga_id: letter.saga,
            step: letter.step.as_deref().map(Into::into),
            redrive_of: None,
        };
        Record {
            topic: DEAD_LETTERS.into(),
            partition: None,
            key: letter.key.clone(),
            value: letter.value.clone(),
            headers: added.write(&letter.headers),
            timestamp_ms: letter.timestamp.map(Timestamp::unix_millis),
        }
    }

    /// One copy of a letter's record, with another value if an operator edited it. A reply goes to its saga's shard,
    /// whatever partition it was found on.
    pub fn redriven(&self, letter: &LetterRow, value: Option<Vec<u8>>, shard: Option<Shard>) -> Record {
        let own_shard = shard.filter(|_| letter.topic == INBOX).map(|shard| i32::from(shard.0));
        Record {
            topic: letter.topic.as_str().into(),
            partition: own_shard.or(letter.partition),
            key: letter.key.clone(),
            value: value.or_else(|| letter.value.clone()),
            headers: redriven_copy(&letter.headers, letter.id),
            timestamp_ms: None,
        }
    }

    /// The dead letter of a command that nobody could carry out.
    pub fn command_letter(
        &self,
        definition: &Definition,
        saga: &Saga,
        shard: Shard,
        at: Try,
        cause: &Refusal,
        now: Timestamp,
    ) -> Option<LetterRow> {
        let step = definition.step(at.step)?;
        let record = self.command(
            definition,
            saga,
            shard,
            at,
            now,
            self.command_value(definition, saga, at).unwrap_or_default(),
        )?;
        let command_id = CommandId::derive(saga.id, &step.name, at.direction);
        Some(LetterRow {
            id: DeadLetterId::of_command(command_id),
            reason: cause.code.to_string(),
            message: cause.message.to_string(),
            source: "orchestrator".to_owned(),
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: None,
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp: record.timestamp_ms.map(Timestamp::from_unix_millis),
            message_type: Self::message_type(definition, at).map(ToString::to_string),
            saga: Some(saga.id),
            step: Some(step.name.to_string()),
            direction: Some(at.direction),
            attempts: i32::try_from(at.attempt.0).unwrap_or(i32::MAX),
            first_failed_at: saga.steps.get(at.step.at()).and_then(|s| s.started_at).unwrap_or(now),
            last_failed_at: now,
        })
    }
}
