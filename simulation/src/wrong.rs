//! Ways in which a world can be wrong. A simulation that finds none of them would prove nothing.

/// One rule that is not kept, by the database, the bus or a participant. Rules whose breach only costs time are not here,
/// since no invariant speaks of it: another broker that is not noticed, or a participant's offset committed before its
/// reply. The attempt times out there, and the next one is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A commit looks at neither epoch nor sequence.
    NoFence,
    /// A take-over is told that nothing is above the watermark.
    NothingPublishedAgain,
    /// The watermark moves with the commit and not with the acknowledgement.
    WatermarkEarly,
    /// The offset is saved one record too far.
    OffsetAhead,
    /// Of a batch that moves several sagas one row is not written.
    HalfCommit,
    /// A renewal shows a sequence that is not the row's.
    RenewalLies,
    /// A take-over finds no saga that waits.
    WaitingForgotten,
    /// A take-over is told that all timers are a day later.
    TimersTooLate,
    /// One idempotency key acts twice.
    KeysTakenTwice,
    /// The broker acknowledges a record now and then that it does not keep.
    AcknowledgedAndLost,
    /// A participant forgets what it has recorded about a command.
    InboxForgets,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NoFence,
        Self::NothingPublishedAgain,
        Self::WatermarkEarly,
        Self::OffsetAhead,
        Self::HalfCommit,
        Self::RenewalLies,
        Self::WaitingForgotten,
        Self::TimersTooLate,
        Self::KeysTakenTwice,
        Self::AcknowledgedAndLost,
        Self::InboxForgets,
    ];
}
