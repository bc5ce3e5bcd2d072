//! What would become of a letter or a saga, before anything is sent. Pure.

use std::time::Duration;

use saga_defs::ids::Direction;
use saga_defs::saga::Status;

use super::run::Outcome;

/// A letter as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterNow {
    /// `open`, `redriven`, `resolved` or `discarded`.
    pub status: String,
    /// The step that it is about, if known.
    pub step: Option<String>,
    /// Doing or undoing, if known.
    pub direction: Option<Direction>,
    /// Whether it is about a saga.
    pub of_saga: bool,
}

/// A saga as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaNow {
    /// Where it is.
    pub status: Status,
    /// The step it is at.
    pub step: Option<String>,
    /// Doing or undoing that step; `None` when it has ended.
    pub direction: Option<Direction>,
    /// How often it has moved.
    pub revision: i32,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent.
    Send,
    /// It is not there any more.
    Gone,
    /// Somebody else decided about the letter.
    NotOpen(String),
    /// The letter's saga is no longer kept.
    SagaGone,
    /// The letter's saga has ended, so: nobody waits for the answer.
    SagaEnded(Status),
    /// The letter's saga is at another step.
    SagaMovedOn(String),
    /// The edited value is not what the schema takes.
    Unfit(String),
    /// The engine, or the state of the saga, does not allow it.
    Refused(String),
}

impl Fate {
    /// As in the API.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Gone => "gone",
            Self::NotOpen(_) => "not_open",
            Self::SagaGone => "saga_gone",
            Self::SagaEnded(_) => "saga_ended",
            Self::SagaMovedOn(_) => "saga_moved_on",
            Self::Unfit(_) => "does_not_fit",
            Self::Refused(_) => "refused",
        }
    }

    /// What would happen, in a sentence; `None` where it is sent.
    pub fn note(&self) -> Option<String> {
        Some(match self {
            Self::Send => return None,
            Self::Gone => "it is not there any more".to_owned(),
            Self::NotOpen(status) => format!("the letter is {status} by now; only an open one is sent"),
            Self::SagaGone => "its saga is no longer kept: nobody would take the answer".to_owned(),
            Self::SagaEnded(status) => {
                let status = status.as_str();
                format!(
                    "its saga has ended ({status}): the message might take effect, and nobody would take the answer"
                )
            }
            Self::SagaMovedOn(step) => {
                format!(
                    "its saga is at {step} by now: the message might take effect again, and the answer would be ignored"
                )
            }
            Self::Unfit(why) => format!("the edited value is not what the schema takes: {why}"),
            Self::Refused(why) => why.clone(),
        })
    }
}

/// What would become of a letter that is sent again.
pub fn letter(letter: Option<&LetterNow>, saga: Option<&SagaNow>) -> Fate {
    let Some(letter) = letter else { return Fate::Gone };
    if letter.status != "open" {
        return Fate::NotOpen(letter.status.clone());
    }
    match saga {
        None if letter.of_saga => Fate::SagaGone,
        None => Fate::Send,
        Some(saga) if saga.status.is_final() => Fate::SagaEnded(saga.status),
        Some(saga) => {
            // A letter about a reply names no step: the engine finds out what it answers.
            let elsewhere = |letter: &Option<String>| letter.is_some() && *letter != saga.step;
            let turned = letter.direction.is_some() && letter.direction != saga.direction;
            if elsewhere(&letter.step) || (letter.step.is_some() && turned) {
                let undoing = saga.direction == Some(Direction::Compensation);
                let step = saga.step.as_deref().unwrap_or("another step");
                Fate::SagaMovedOn(if undoing { format!("the undoing of {step}") } else { step.to_owned() })
            } else {
                Fate::Send
            }
        }
    }
}

/// Of a letter that no saga waits for nothing is heard when it does what it is for, and soon when it does not: after this
/// long it is taken as done.
pub const NOT_BACK_AFTER: Duration = Duration::from_secs(30);

/// What has become of a letter that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterSent {
    /// Nothing yet.
    UnderWay,
    /// Its saga moved on, or its record was read.
    Resolved,
    /// Nothing for [`NOT_BACK_AFTER`], and no saga waits for it.
    NotBack,
    /// It is open again; or put aside since, which only an open one can be.
    Back,
}

impl LetterSent {
    /// As in the API, and a sentence, where that is not what one would think.
    pub fn remark(self) -> Option<(&'static str, String)> {
        let seconds = NOT_BACK_AFTER.as_secs();
        (self == Self::NotBack).then(|| {
            let note = format!(
                "no saga waits for it: it counts as done, since it has not failed again within {seconds} seconds"
            );
            ("not_back", note)
        })
    }
}

/// How a letter that was sent came out; `None`: it is not known yet.
pub const fn letter_outcome(sent: Option<LetterSent>) -> Option<Outcome> {
    match sent {
        Some(LetterSent::UnderWay) => None,
        Some(LetterSent::Resolved | LetterSent::NotBack) => Some(Outcome::Succeeded),
        // It is no longer kept, without ever being resolved.
        Some(LetterSent::Back) | None => Some(Outcome::FailedAgain),
    }
}

/// How a saga that was redriven came out; `None`: it is not known yet. `stuck_at` is its revision when it was chosen.
pub fn saga_outcome(now: Option<&SagaNow>, stuck_at: i32, step: Option<&str>) -> Option<Outcome> {
    let Some(saga) = now else { return Some(Outcome::Succeeded) };
    match saga.status {
        Status::Stuck if saga.revision > stuck_at => Some(Outcome::FailedAgain),
        Status::Completed | Status::Compensated => Some(Outcome::Succeeded),
        Status::Running | Status::Compensating | Status::Stuck => {
            (saga.step.as_deref() != step).then_some(Outcome::Succeeded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter_at(step: Option<&str>) -> LetterNow {
        let step = step.map(str::to_owned);
        LetterNow { status: "open".to_owned(), step, direction: Some(Direction::Forward), of_saga: true }
    }

    fn saga_at(status: Status, step: &str, direction: Direction) -> SagaNow {
        SagaNow { status, step: Some(step.to_owned()), direction: Some(direction), revision: 7 }
    }

    #[test]
    fn a_letter_is_sent_only_while_its_saga_is_where_it_was() {
        let charge = Some("charge");
        let (forward, undoing) = (Direction::Forward, Direction::Compensation);
        let cases = [
            ("waits for it", charge, Some(saga_at(Status::Running, "charge", forward))),
            ("stuck on it", charge, Some(saga_at(Status::Stuck, "charge", forward))),
            ("a reply", None, Some(saga_at(Status::Running, "charge", forward))),
            ("another step", charge, Some(saga_at(Status::Running, "ship", forward))),
            ("turned back", charge, Some(saga_at(Status::Compensating, "charge", undoing))),
            ("ended", charge, Some(saga_at(Status::Completed, "charge", forward))),
            ("removed", charge, None),
        ];
        let lines = cases.map(|(what, step, saga)| {
            let fate = letter(Some(&letter_at(step)), saga.as_ref());
            let line = format!("{what}: {} {}", fate.code(), fate.note().unwrap_or_default());
            line.trim_end().to_owned()
        });
        insta::assert_snapshot!(lines.join("\n"), @r"
        waits for it: send
        stuck on it: send
        a reply: send
        another step: saga_moved_on its saga is at ship by now: the message might take effect again, and the answer would be ignored
        turned back: saga_moved_on its saga is at the undoing of charge by now: the message might take effect again, and the answer would be ignored
        ended: saga_ended its saga has ended (completed): the message might take effect, and nobody would take the answer
        removed: saga_gone its saga is no longer kept: nobody would take the answer
        ");
        assert_eq!(letter(None, None), Fate::Gone);
        let closed = LetterNow { status: "discarded".to_owned(), ..letter_at(charge) };
        assert_eq!(letter(Some(&closed), None), Fate::NotOpen("discarded".to_owned()));
        let of_nobody = LetterNow { of_saga: false, ..letter_at(None) };
        assert_eq!(letter(Some(&of_nobody), None), Fate::Send);
    }

    #[test]
    fn a_redriven_saga_has_succeeded_when_it_is_past_its_step() {
        let (forward, charge) = (Direction::Forward, Some("charge"));
        let outcome = |status, revision, step| {
            let saga = SagaNow { revision, ..saga_at(status, step, forward) };
            saga_outcome(Some(&saga), 7, charge)
        };
        assert_eq!(outcome(Status::Stuck, 7, "charge"), None, "not seen to move yet");
        assert_eq!(outcome(Status::Running, 8, "charge"), None);
        assert_eq!(outcome(Status::Stuck, 9, "charge"), Some(Outcome::FailedAgain));
        assert_eq!(outcome(Status::Running, 9, "ship"), Some(Outcome::Succeeded));
        assert_eq!(outcome(Status::Completed, 12, "charge"), Some(Outcome::Succeeded));
    }
}
