//! Points at which a process can be made to die at once, as by `kill -9`, so that tests see what every process leaves
//! behind there and what the next one makes of it.
//!
//! A process dies when it passes the point that `CRASH_AT` names for the n-th time: `CRASH_AT=batch-committed:3`. With
//! `CRASH_AT=@FILE` the file says so; it may change while the process runs, and a changed text counts anew. Who changes it
//! holds its lock, and so does a process that looks at it; one that dies writes [`DIED`] into it first.
//!
//! Beside that, its clock can be made to be wrong ([`clock_off_ms`]), and a decision to panic ([`defect`]).
//!
//! Never part of a release: without the feature `crash-points`, and in every build without debug assertions, to pass a
//! point is nothing at all.

/// Whether this build can be made to die.
pub const ENABLED: bool = cfg!(all(feature = "crash-points", debug_assertions));

/// What stands in the file of a `CRASH_AT=@FILE` when a process has died of it, or is about to.
pub const DIED: &str = "died";

/// The points and their names, in one place.
macro_rules! points {
    ($($(#[$about:meta])+ $point:ident = $name:literal,)+) => {
        /// A place in the course of a process. Each is a place where something is done and something else is not yet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point {
            $($(#[$about])+ $point,)+
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point),+];

            /// As in `CRASH_AT`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// Orchestrator: shards are claimed, nothing of them is read.
    ShardsClaimed = "shards-claimed",
    /// Orchestrator: everything about claimed shards is read, nothing is published again.
    ShardsRecovered = "shards-recovered",
    /// Orchestrator: a record is published again for a shard that was taken over, others perhaps not yet.
    RecordRepublished = "record-republished",
    /// Orchestrator: a batch is decided and not committed.
    BatchDecided = "batch-decided",
    /// Orchestrator: a batch is committed; nobody is answered and nothing is published.
    BatchCommitted = "batch-committed",
    /// Orchestrator: clients are answered and records are handed to the producer; the broker may have them or not.
    BatchCarriedOut = "batch-carried-out",
    /// Orchestrator: the broker has a record, and the watermark does not say so.
    RecordAcknowledged = "record-acknowledged",
    /// Orchestrator: a watermark has moved and is not saved.
    WatermarkMoved = "watermark-moved",
    /// Orchestrator: a watermark is saved, and the lane does not know.
    WatermarkSaved = "watermark-saved",
    /// Orchestrator: dead letters of others are kept, their offsets not committed.
    LettersKept = "letters-kept",
    /// Participant: the transaction of a round is complete but for its commit.
    EffectsMade = "effects-made",
    /// Participant: effects and inbox rows, or claims, are committed, and nothing is answered.
    EffectsCommitted = "effects-committed",
    /// Participant: commands are claimed, and the outside is not called for them.
    CallsClaimed = "calls-claimed",
    /// Participant: the outside has answered, and nothing of that is committed.
    CallsAnswered = "calls-answered",
    /// Participant: what the outside has answered is committed, and nobody is told.
    CallsSettled = "calls-settled",
    /// Participant: failures are recorded, and nobody is told.
    FailuresRecorded = "failures-recorded",
    /// Participant: replies and dead letters are acknowledged, domain events perhaps not; no offset is committed.
    RepliesPublished = "replies-published",
    /// Participant: everything of a batch is acknowledged, and no offset is committed.
    BatchPublished = "batch-published",
}

/// Passes a point: the process may end here.
#[cfg(all(feature = "crash-points", debug_assertions))]
pub fn pass(point: Point) {
    armed::pass(point);
}

/// Passes a point, which means nothing in this build.
#[cfg(not(all(feature = "crash-points", debug_assertions)))]
#[inline(always)]
pub const fn pass(_: Point) {}

/// Milliseconds by which this machine's clock is made to be wrong: `CLOCK_OFF_MS`.
#[cfg(all(feature = "crash-points", debug_assertions))]
pub fn clock_off_ms() -> i64 {
    static OFF: std::sync::LazyLock<Option<i64>> =
        std::sync::LazyLock::new(|| std::env::var("CLOCK_OFF_MS").ok()?.parse().ok());
    OFF.unwrap_or(0)
}

/// This machine's clock is what it is in this build.
#[cfg(not(all(feature = "crash-points", debug_assertions)))]
#[inline(always)]
pub const fn clock_off_ms() -> i64 {
    0
}

/// Panics where `PANIC_AT` names this place and this text, as a defect would: `PANIC_AT=reply:poisoned`, several apart by
/// commas.
///
/// # Panics
/// If it is named.
#[cfg(all(feature = "crash-points", debug_assertions))]
pub fn defect(place: &str, text: &str) {
    static AT: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("PANIC_AT").ok());
    let named = |at: &String| at.split(',').any(|named| named.split_once(':') == Some((place, text)));
    assert!(!AT.as_ref().is_some_and(named), "a defect in {place}:{text}");
}

/// There is no such defect in this build.
#[cfg(not(all(feature = "crash-points", debug_assertions)))]
#[inline(always)]
pub const fn defect(_: &str, _: &str) {}

#[cfg(all(feature = "crash-points", debug_assertions))]
mod armed {
    use std::fs::File;
    use std::io::{self, Read as _, Seek as _, Write as _};
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::{DIED, Point};

    /// What is to happen, and how often its point was passed.
    struct Armed {
        text: String,
        passed: u32,
    }

    pub(super) fn pass(point: Point) {
        static AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CRASH_AT").ok());
        let Some(at) = &*AT else { return };
        let Some(path) = at.strip_prefix('@') else {
            if strikes(at.clone(), point) {
                std::process::abort();
            }
            return;
        };
        // A file that is not there strikes nobody.
        let Ok(mut file) = File::options().read(true).write(true).open(path) else { return };
        let mut text = String::new();
        if file.lock().and_then(|()| file.read_to_string(&mut text)).is_ok() && strikes(text, point) {
            if let Err(error) = say_so(&mut file) {
                eprintln!("{path}: {error}");
            }
            std::process::abort();
        }
    }

    fn say_so(file: &mut File) -> io::Result<()> {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(DIED.as_bytes())
    }

    /// Whether this passing is the one.
    fn strikes(text: String, point: Point) -> bool {
        static ARMED: Mutex<Armed> = Mutex::new(Armed { text: String::new(), passed: 0 });
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.text != text {
            *armed = Armed { text, passed: 0 };
        }
        let Some((name, passing)) = armed.text.split_once(':') else { return false };
        if name != point.name() {
            return false;
        }
        let passing = passing.parse::<u32>();
        armed.passed += 1;
        let strikes = passing == Ok(armed.passed);
        if strikes {
            eprintln!("dies at {}, passed {} times", point.name(), armed.passed);
        }
        strikes
    }
}
