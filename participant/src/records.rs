//! What is recorded about the commands of one transaction: read once, judged by the rule, written once.

use std::collections::HashMap;
use std::sync::Arc;

use messaging::headers::OutcomeKind;
use saga_defs::ids::{CommandId, Direction};
use saga_defs::participant::{Admission, Incoming as Facts, Recorded, admit, leaves_tombstone};
use schemas::Catalog;
use sea_orm::{DatabaseTransaction, DbErr};
use uuid::Uuid;

use crate::database::{Disposition, disposition};
use crate::erased::{AnyHandler, Broken, Effect, EncodedReply, encode_reply};
use crate::inbox::{self, InboxError, Row, Write};
use crate::intake::Incoming;
use crate::isolate::Failure;
use crate::outcome::{Delivery, Refusal};

/// What is to be sent for one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// How its command came, which nobody outside is told.
    pub(crate) came: Came,
    pub(crate) outcome: OutcomeKind,
    pub(crate) reply: Arc<EncodedReply>,
}

/// How a command came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// It was worked on.
    First,
    /// It had its answer already.
    Again,
    /// A compensation, and what it undoes had not come: it leaves a tombstone.
    BeforeItsCommand,
    /// Its step was undone already.
    TooLate,
}

impl Answer {
    /// A refusal: `Rejected` or `Failed`.
    pub(crate) fn refusal(catalog: &Catalog, outcome: OutcomeKind, refusal: &Refusal) -> Self {
        let reply = encode_reply(catalog, refusal, Vec::new(), Delivery::Sent).unwrap_or_else(|error| {
            // Only a catalogue without saga.Refusal gets here, and the builder checks for that.
            tracing::error!(code = %refusal.code, "a refusal cannot be encoded: {}", error.message);
            EncodedReply { message_type: Arc::from(""), value: Vec::new(), lost: true, events: Vec::new() }
        });
        Self { came: Came::First, outcome, reply: Arc::new(reply) }
    }

    pub(crate) fn failed(catalog: &Catalog, refusal: &Refusal) -> Self {
        Self::refusal(catalog, OutcomeKind::Failed, refusal)
    }
}

/// What there is to know about a command's inbox row before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing: it has to be read.
    Unknown,
    /// There should be none.
    None,
    /// It should be as this claim left it.
    Claimed(Claim),
}

/// The inbox rows of some commands within one transaction. A row that was as expected and not read is held against the
/// database when it is written: each command that is worked on writes its own row, and the write fails if the row is not
/// at the revision that was expected. So what is committed is what a transaction that reads would have committed.
pub(crate) struct Records<'a> {
    catalog: &'a Catalog,
    transaction: &'a DatabaseTransaction,
    found: HashMap<CommandId, Row>,
    writes: Vec<Write>,
}

impl<'a> Records<'a> {
    /// Reads what is recorded about `commands`, where it is not to be expected, and about the forward commands of
    /// compensations.
    pub(crate) async fn read(
        catalog: &'a Catalog,
        transaction: &'a DatabaseTransaction,
        commands: impl Iterator<Item = (&Incoming, Expected)>,
    ) -> Result<Self, Failure> {
        let mut ids: Vec<Uuid> = Vec::new();
        let (mut claimed, mut writes) = (Vec::new(), 0);
        for (command, expected) in commands {
            let id = command.headers.command_id;
            writes += 1;
            match expected {
                Expected::Unknown => ids.push(id.as_uuid()),
                Expected::None => {}
                Expected::Claimed(claim) => claimed.push((id, claim.row())),
            }
            if command.headers.direction == Direction::Compensation {
                ids.push(command.forward_id.as_uuid());
            }
        }
        let mut found = inbox::read(transaction, ids).await.map_err(of_inbox)?;
        found.extend(claimed);
        Ok(Self { catalog, transaction, found, writes: Vec::with_capacity(writes) })
    }

    /// Whether nothing is recorded about a command.
    pub(crate) fn is_new(&self, command: &Incoming) -> bool {
        self.own(command).is_none()
    }

    /// What the rule says to a command.
    pub(crate) fn admission(&self, command: &Incoming) -> Admission {
        let headers = &command.headers;
        let facts =
            Facts { direction: headers.direction, attempt: headers.attempt, redrive: headers.redrive };
        admit(self.own(command).map(|row| row.recorded), self.forward(command).map(|row| row.recorded), facts)
    }

    /// The answer to a command whose handler is not to run.
    pub(crate) fn answer_without_running(
        &mut self,
        command: &Incoming,
        admission: Admission,
        handler: &AnyHandler,
    ) -> Result<Answer, Failure> {
        if admission == Admission::Tombstone {
            let undone = handler.speaks().nothing_to_undo(self.catalog, &command.command);
            let reply = Arc::new(undone.map_err(Failure::Refused)?);
            let forward = self.forward(command);
            if !forward.is_some_and(|row| row.recorded == Recorded::Tombstoned) {
                let revision = next(forward);
                self.writes.push(command.tombstone(revision));
            }
            self.writes.push(command.record(
                Recorded::Succeeded,
                next(self.own(command)),
                Some(reply.clone()),
            ));
            return Ok(Answer { came: Came::BeforeItsCommand, outcome: OutcomeKind::Succeeded, reply });
        }
        let recorded = self.own(command).map(|row| (row.recorded, &row.reply));
        let again =
            |outcome, reply: &Arc<EncodedReply>| Answer { came: Came::Again, outcome, reply: reply.clone() };
        Ok(match recorded {
            Some((Recorded::Succeeded, reply)) => again(OutcomeKind::Succeeded, reply),
            Some((Recorded::Rejected { .. }, reply)) => again(OutcomeKind::Rejected, reply),
            Some((Recorded::Failed { .. }, reply)) => again(OutcomeKind::Failed, reply),
            Some((Recorded::Claimed | Recorded::Tombstoned, _)) | None => {
                let late =
                    Refusal::new("tombstoned", "this step was already undone; its command came too late");
                let refused = Answer::refusal(self.catalog, OutcomeKind::Rejected, &late);
                Answer { came: Came::TooLate, ..refused }
            }
        })
    }

    /// Marks a command as claimed: from now on it may have an effect outside.
    pub(crate) fn claim(&mut self, command: &Incoming) -> Claim {
        let own = self.own(command);
        // The revision grows also when the row is claimed already, so that whoever claimed it before can notice.
        let claim =
            Claim { revision: next(own), first: !own.is_some_and(|row| row.recorded == Recorded::Claimed) };
        self.writes.push(command.record(Recorded::Claimed, claim.revision, None));
        claim
    }

    /// Records what became of a command, and gives its answer.
    pub(crate) fn conclude(&mut self, command: &Incoming, effect: Effect) -> Answer {
        let (outcome, recorded, reply) = match effect {
            Effect::Succeeded(reply) => (OutcomeKind::Succeeded, Recorded::Succeeded, reply),
            Effect::Rejected(reply) => {
                (OutcomeKind::Rejected, Recorded::Rejected { redrive: command.headers.redrive }, reply)
            }
            Effect::Failed(refusal) => return self.record_failure(command, &refusal),
        };
        let (own, reply) = (next(self.own(command)), Arc::new(reply));
        self.writes.push(command.record(recorded, own, Some(reply.clone())));
        let undone =
            outcome == OutcomeKind::Succeeded && command.headers.direction == Direction::Compensation;
        let forward = self.forward(command);
        if undone && leaves_tombstone(forward.map(|row| row.recorded)) {
            let revision = next(forward);
            self.writes.push(command.tombstone(revision));
        }
        Answer { came: Came::First, outcome, reply }
    }

    /// Records that an attempt failed, and gives its answer; `None` where silence is the only truthful answer: `failed`
    /// promises that nothing happened, and an earlier claim than `ours` may have led to a call.
    pub(crate) fn fail(
        &mut self,
        command: &Incoming,
        refusal: &Refusal,
        ours: Option<Claim>,
    ) -> Option<Answer> {
        let claimed = self.own(command).filter(|row| row.recorded == Recorded::Claimed);
        let may_have_happened = claimed
            .is_some_and(|row| !ours.is_some_and(|claim| claim.first && claim.revision == row.revision));
        match (may_have_happened, command.headers.direction) {
            (false, _) => Some(self.record_failure(command, refusal)),
            // A compensation is only ever tried again, so its failure need not be remembered.
            (true, Direction::Compensation) => Some(Answer::failed(self.catalog, refusal)),
            (true, Direction::Forward) => None,
        }
    }

    /// From now on no copy of this attempt runs.
    fn record_failure(&mut self, command: &Incoming, refusal: &Refusal) -> Answer {
        let answer = Answer::failed(self.catalog, refusal);
        let headers = &command.headers;
        let recorded = Recorded::Failed { attempt: headers.attempt, redrive: headers.redrive };
        self.writes.push(command.record(recorded, next(self.own(command)), Some(answer.reply.clone())));
        answer
    }

    /// Writes what was recorded; the transaction is still to be committed.
    pub(crate) async fn write(self) -> Result<(), Failure> {
        inbox::write(self.transaction, self.writes).await.map_err(of_inbox)
    }

    fn own(&self, command: &Incoming) -> Option<&Row> {
        self.found.get(&command.headers.command_id)
    }

    fn forward(&self, command: &Incoming) -> Option<&Row> {
        match command.headers.direction {
            Direction::Forward => None,
            Direction::Compensation => self.found.get(&command.forward_id),
        }
    }
}

/// The mark of a command that may have an effect outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Of its inbox row.
    pub(crate) revision: i32,
    /// Whether nobody had claimed it before, so that no earlier call can have had an effect.
    pub(crate) first: bool,
}

impl Claim {
    /// The row that it left.
    fn row(self) -> Row {
        let reply =
            EncodedReply { message_type: Arc::from(""), value: Vec::new(), lost: false, events: Vec::new() };
        Row { recorded: Recorded::Claimed, revision: self.revision, reply: Arc::new(reply) }
    }
}

fn next(row: Option<&Row>) -> i32 {
    row.map_or(1, |row| row.revision + 1)
}

/// Undoes a transaction that did not work out.
pub(crate) async fn rolled_back(transaction: DatabaseTransaction, failure: Failure) -> Failure {
    // A rollback that fails has lost its connection, and with it the transaction.
    if let Err(error) = transaction.rollback().await {
        tracing::debug!(%error, "a rollback did not reach the database");
    }
    failure
}

pub(crate) fn of_database(error: DbErr) -> Failure {
    match disposition(&error) {
        Disposition::TryAgain => Failure::TryAgain(error.to_string()),
        Disposition::Refused => Failure::Refused(Refusal::new("database_refused", error.to_string())),
    }
}

pub(crate) fn of_handler(broken: Broken) -> Failure {
    match broken {
        Broken::Database(error) => of_database(error),
        Broken::Handler(refusal) => Failure::Refused(refusal),
    }
}

pub(crate) fn of_inbox(error: InboxError) -> Failure {
    match error {
        InboxError::Database(error) => of_database(error),
        InboxError::Raced { .. } => Failure::TryAgain(error.to_string()),
        InboxError::Corrupt { .. } => Failure::Refused(Refusal::new("inbox_corrupt", error.to_string())),
    }
}
