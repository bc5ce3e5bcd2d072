//! The database, the broker, and two processes.

use std::collections::{BTreeMap, BTreeSet};

/// How much of what is rare happens in one run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Few {
    /// The shard is given to a process.
    pub(crate) claims: u8,
    pub(crate) crashes: u8,
    /// Answers of the database that are lost.
    pub(crate) losses: u8,
    /// Replies in the inbox.
    pub(crate) replies: u8,
    /// Clients that start a saga.
    pub(crate) starts: u8,
    /// Batches that write something and move neither journal nor offset.
    pub(crate) notes: u8,
    /// The broker is replaced by an empty one, and all processes start anew.
    pub(crate) brokers: u8,
}

impl Few {
    pub(crate) const SOME: Self =
        Self { claims: 2, crashes: 1, losses: 1, replies: 1, starts: 1, notes: 0, brokers: 0 };
    pub(crate) const LOSSES: Self =
        Self { claims: 3, crashes: 0, losses: 2, replies: 1, starts: 0, notes: 0, brokers: 0 };
    pub(crate) const NOTES: Self =
        Self { claims: 2, crashes: 1, losses: 1, replies: 0, starts: 1, notes: 1, brokers: 0 };
    pub(crate) const BROKER: Self =
        Self { claims: 3, crashes: 1, losses: 1, replies: 0, starts: 1, notes: 0, brokers: 1 };
}

/// What a batch is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Input {
    /// The reply at this offset: a journal row, and the inbox is read further.
    Reply(u8),
    /// A client's start: a journal row.
    Start(u8),
    /// Something that moves no number, e.g. a dead letter that is open again.
    Note(u8),
}

/// The shard's row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Row {
    pub(crate) epoch: u8,
    pub(crate) next_seq: u8,
    pub(crate) published_seq: u8,
    pub(crate) offset: u8,
    pub(crate) owner: Option<usize>,
    /// The incarnation of the broker that the offset belongs to.
    pub(crate) broker: u8,
    /// That broker may not have what is waited for.
    pub(crate) republish: bool,
}

/// A commit of one batch, as it is sent; without an input it saves the watermark.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Commit {
    pub(crate) epoch: u8,
    pub(crate) first_seq: u8,
    pub(crate) next_seq: u8,
    pub(crate) published_seq: u8,
    pub(crate) offset: u8,
    pub(crate) republish: bool,
    pub(crate) input: Option<Input>,
}

/// A statement that nobody waits for any more and that may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Late {
    Claim(usize),
    Commit(Commit),
    Renew(u8),
}

/// One process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Process {
    /// The shard is not its own.
    Without,
    /// It has claimed the shard and not yet read the journal.
    Claimed(Row),
    Owner(Owner),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Owner {
    pub(crate) epoch: u8,
    pub(crate) next_seq: u8,
    pub(crate) offset: u8,
    pub(crate) saved_published: u8,
    pub(crate) saved_republish: bool,
    /// Records handed to the producer and not acknowledged.
    pub(crate) unpublished: BTreeMap<u8, Input>,
    /// The command that is waited for, handed to the producer once more, since the broker is a new one.
    pub(crate) again: Option<u8>,
    pub(crate) doing: Doing,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Doing {
    Nothing,
    /// The statement is on its way.
    Committing(Commit),
    /// It was carried out or refused, and its answer is on its way.
    Committed(Commit, bool),
    /// Its answer is lost.
    Unknown(Commit),
    /// So is that of the renewal.
    RenewalUnknown(Commit),
}

/// What must never happen, seen when it does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fault {
    /// A commit of an epoch that was over.
    OldEpoch,
    /// A journal row that is not the next one.
    Gap,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) row: Row,
    /// The rows from 1, each by its input.
    pub(crate) journal: Vec<Input>,
    pub(crate) notes: BTreeSet<u8>,
    /// What the broker has, by journal row and what was published for it.
    pub(crate) published: BTreeSet<(u8, Input)>,
    /// The incarnation of the broker.
    pub(crate) broker: u8,
    /// What this broker has.
    pub(crate) here: BTreeSet<u8>,
    pub(crate) late: BTreeSet<Late>,
    pub(crate) processes: [Process; 2],
    /// The clients that were told that their saga is started, and the notes that were taken for written.
    pub(crate) told: BTreeSet<Input>,
    /// Inputs that are not in a batch at the moment and that no reply's offset stands for.
    pub(crate) asked: BTreeSet<Input>,
    pub(crate) left: Few,
    pub(crate) fault: Option<Fault>,
}

impl World {
    pub(crate) fn new(few: Few) -> Self {
        let starts = (0..few.starts).map(Input::Start);
        Self {
            row: Row { next_seq: 1, ..Row::default() },
            journal: Vec::new(),
            notes: BTreeSet::new(),
            published: BTreeSet::new(),
            broker: 0,
            here: BTreeSet::new(),
            late: BTreeSet::new(),
            processes: [Process::Without, Process::Without],
            told: BTreeSet::new(),
            asked: starts.chain((0..few.notes).map(Input::Note)).collect(),
            left: few,
            fault: None,
        }
    }

    pub(crate) fn owner(&self, process: usize) -> Option<&Owner> {
        match &self.processes[process] {
            Process::Owner(owner) => Some(owner),
            Process::Without | Process::Claimed(_) => None,
        }
    }
}
