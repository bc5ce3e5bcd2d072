//! The protocol's rules, each of which a test breaks.

/// What the engine does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A commit compares the row's epoch with its own.
    pub(crate) compare_epoch: bool,
    /// A commit compares the row's `next_seq` with its own.
    pub(crate) compare_next_seq: bool,
    pub(crate) watermark: Watermark,
    /// A commit writes how far the inbox was read; otherwise that is saved after it.
    pub(crate) offset_in_commit: bool,
    pub(crate) publish_before_commit: bool,
    /// A new owner publishes what is above the watermark.
    pub(crate) publish_again: bool,
    pub(crate) republish: Republish,
    pub(crate) unknown: Unknown,
    /// A commit that moves none of the row's numbers is not taken for done because the row shows those numbers.
    pub(crate) row_that_did_not_move_tells_nothing: bool,
}

/// Up to where everything is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watermark {
    /// Up to the first that is not acknowledged.
    Acknowledged,
    /// Up to the last that was handed to the producer.
    HandedOver,
    /// Up to the last that was acknowledged, whatever is before it.
    LastDelivered,
}

/// How long a claim publishes again what is waited for, once the broker is a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Republish {
    /// Until an owner has saved that all of it is acknowledged.
    UntilAcknowledged,
    /// Until an owner has saved that all of it is handed to the producer.
    UntilHandedOver,
    /// The first claim only, which makes the row one of the new broker.
    Once,
}

/// How a commit without an answer is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unknown {
    /// By raising the epoch, which shows how far the journal is.
    Renew,
    /// By reading how far the journal is.
    Read,
    Done,
    NotDone,
}

impl Rules {
    pub(crate) const REAL: Self = Self {
        compare_epoch: true,
        compare_next_seq: true,
        watermark: Watermark::Acknowledged,
        offset_in_commit: true,
        publish_before_commit: false,
        publish_again: true,
        republish: Republish::UntilAcknowledged,
        unknown: Unknown::Renew,
        row_that_did_not_move_tells_nothing: true,
    };
}
