//! What may be found: one line each, with what to do about it.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

/// Longer texts are cut where they are shown, in characters.
const SHOWN_CHARS: usize = 300;

/// The kind of a difference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A journal without its saga row.
    NoSagaRow,
    /// A saga row without its journal.
    NoJournal,
    /// A saga row that cannot be read.
    UnreadableRow,
    /// The saga's definition is not published.
    NoDefinition,
    /// The saga's definition cannot be parsed.
    UnreadableDefinition,
    /// Revisions skip, repeat, or do not begin with 1.
    Revision,
    /// An event that cannot be read.
    UnreadableEvent,
    /// An event that does nothing where it stands.
    IgnoredEvent,
    /// A transition after the end.
    AfterEnd,
    /// Other effects than the event has.
    Effects,
    /// A command that was to be sent and is not in the journal.
    Command,
    /// Another status in the journal than the event leads to.
    Status,
    /// A row of another shard than the saga's id belongs to.
    Shard,
    /// A column of the saga row.
    Row,
    /// A part of the saga row's body.
    Body,
    /// Completed, though not every step succeeded.
    NotCompleted,
    /// Compensated, though something was left.
    NotCompensated,
    /// Steps undone in another order than last first, or beyond the pivot.
    UndoneWrongly,
    /// A stuck saga without its dead letter.
    NoLetter,
    /// A stuck saga whose dead letter was resolved.
    LetterResolved,
    /// An operator's verb without its line in the audit.
    NoAudit,
    /// A line in the audit whose verb the journal does not have.
    AuditOnly,
    /// A row of the audit that is not what its hash was taken of.
    AuditAltered,
    /// A row of the audit is missing, or there is one too many.
    AuditGap,
    /// A row of the audit does not follow the one before it.
    AuditLink,
    /// A chain of the audit does not end where it should.
    AuditEnd,
    /// A sequence with a gap, or a repetition.
    Sequence,
    /// `next_seq` is not the one after the journal's last.
    NextSeq,
    /// `published_seq` beyond the journal.
    PublishedSeq,
    /// A waiting saga that a take-over would not find.
    OpenFrom,
    /// The number of shards and their rows differ.
    Shards,
    /// An idempotency key whose saga is not there.
    KeyWithoutSaga,
}

impl Kind {
    /// For programs, and in the summary.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoSagaRow => "no_saga_row",
            Self::NoJournal => "no_journal",
            Self::UnreadableRow => "unreadable_row",
            Self::NoDefinition => "no_definition",
            Self::UnreadableDefinition => "unreadable_definition",
            Self::Revision => "revision",
            Self::UnreadableEvent => "unreadable_event",
            Self::IgnoredEvent => "ignored_event",
            Self::AfterEnd => "after_end",
            Self::Effects => "effects",
            Self::Command => "command",
            Self::Status => "status",
            Self::Shard => "shard",
            Self::Row => "row",
            Self::Body => "body",
            Self::NotCompleted => "not_completed",
            Self::NotCompensated => "not_compensated",
            Self::UndoneWrongly => "undone_wrongly",
            Self::NoLetter => "no_letter",
            Self::LetterResolved => "letter_resolved",
            Self::NoAudit => "no_audit",
            Self::AuditOnly => "audit_only",
            Self::AuditAltered => "audit_altered",
            Self::AuditGap => "audit_gap",
            Self::AuditLink => "audit_link",
            Self::AuditEnd => "audit_end",
            Self::Sequence => "sequence",
            Self::NextSeq => "next_seq",
            Self::PublishedSeq => "published_seq",
            Self::OpenFrom => "open_from",
            Self::Shards => "shards",
            Self::KeyWithoutSaga => "key_without_saga",
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NoSagaRow | Self::UnreadableRow => {
                "restore the saga row from a backup; until then the saga stands still"
            }
            Self::NoJournal | Self::Revision | Self::Sequence => {
                "journal rows were lost or changed by hand; restore them from a backup"
            }
            Self::Command => "if it was not published, a take-over cannot; the saga's timeout asks again",
            Self::NoDefinition | Self::UnreadableDefinition => "publish the definition again as it was",
            Self::UnreadableEvent => {
                "it was changed by hand, or a newer version wrote it; verify with the version that serves"
            }
            Self::IgnoredEvent | Self::AfterEnd | Self::Effects | Self::Status => {
                "the journal was changed by hand, or the definition or the machine is another; see the saga's history"
            }
            Self::Row | Self::Body | Self::Shard => {
                "the row was changed by hand, or a commit was torn; the journal is what happened"
            }
            Self::NotCompleted | Self::NotCompensated | Self::UndoneWrongly => {
                "see the saga's history and ask its participants; report it, for the machine must not allow it"
            }
            Self::NoLetter | Self::LetterResolved => {
                "nobody sees that this saga waits; redrive, skip or cancel it through its own verbs"
            }
            Self::NoAudit
            | Self::AuditOnly
            | Self::AuditAltered
            | Self::AuditGap
            | Self::AuditLink
            | Self::AuditEnd => "the audit was changed; compare it with a backup",
            Self::NextSeq | Self::PublishedSeq | Self::OpenFrom | Self::Shards => {
                "stop the service and restore the shard table together with the journal"
            }
            Self::KeyWithoutSaga => {
                "a saga row was lost; restore it, or a repeated request is answered with 404"
            }
        }
    }
}

/// Where a difference is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Which saga.
    #[serde(rename = "sagaId", skip_serializing_if = "Option::is_none")]
    pub saga: Option<Uuid>,
    /// Which shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<i32>,
    /// At which revision of the saga.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
    /// In which chain of the audit; `seq` is then the place in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<i32>,
    /// At which place in the shard's journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
}

impl Place {
    /// A saga as a whole.
    pub fn of_saga(saga: Uuid) -> Self {
        Self { saga: Some(saga), ..Self::default() }
    }

    /// A shard as a whole.
    pub fn of_shard(shard: i32) -> Self {
        Self { shard: Some(shard), ..Self::default() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chain) = self.chain {
            write!(f, "audit chain {chain}")?;
            if let Some(seq) = self.seq {
                write!(f, ", seq {seq}")?;
            }
            return self.saga.map_or(Ok(()), |saga| write!(f, " (saga {saga})"));
        }
        let mut gap = "";
        if let Some(saga) = self.saga {
            write!(f, "saga {saga}")?;
            gap = " ";
        }
        if let Some(revision) = self.revision {
            write!(f, "{gap}revision {revision}")?;
            gap = " ";
        }
        match (self.shard, self.seq) {
            (Some(shard), Some(seq)) if self.saga.is_some() => write!(f, "{gap}(shard {shard}, seq {seq})"),
            (Some(shard), Some(seq)) => write!(f, "{gap}shard {shard}, seq {seq}"),
            (Some(shard), None) => write!(f, "{gap}shard {shard}"),
            (None, _) => Ok(()),
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What.
    pub kind: Kind,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What to do.
    pub advice: &'static str,
}

impl Difference {
    /// With its kind's advice.
    pub fn new(place: Place, kind: Kind, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (cut(expected.into()), cut(found.into()));
        Self { place, kind, expected, found, advice: kind.advice() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, kind, expected, found, advice } = self;
        write!(f, "{place}: {}: expected {expected}, found {found}; {advice}", kind.code())
    }
}

/// One line, and not a long one.
fn cut(text: String) -> String {
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Takes differences as they are found.
pub type Found<'a> = dyn FnMut(Difference) + Send + 'a;
