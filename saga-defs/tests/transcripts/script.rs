//! A small language of what happens to a saga, and the transcript that comes of it.
//!
//! A script is phrases between commas, each played against the saga as it is then:
//!
//! | phrase | what it does |
//! | --- | --- |
//! | `[undo] STEP OUTCOME [xN]` | the current command gets this outcome; if it waits in back-off, the back-off ends first |
//! | `late [undo] STEP OUTCOME`, also `duplicate` | a reply that nobody waits for, or not with certainty; no back-off is ended |
//! | `back-off over`, `stale timeout`, `stale retry` | the timer of the back-off; the last timer of that kind once more |
//! | `cancel`, `redrive`, `redrive corrected`, `skip`, `retry now`, `redrive letter` | an operator |
//! | `hold`, `let go`, `wait 20m` | its participant is held and asked again while its command is out; time passes |
//! | `deadline`, `quarantine`, `foreign reply`, `start again` | the rest of what can happen |
//!
//! `STEP` is a word of the step's name. `OUTCOME` is `ok`, `rejected`, `declined`, `sold-out`, `failed`, `timeout` or
//! `unsendable`. Of more than two repetitions only the first and the last are shown.

use std::sync::Arc;
use std::time::Duration;

use saga_defs::Data;
use saga_defs::definition::{Definition, Step};
use saga_defs::ids::{CommandId, DeadLetterId, Direction, SagaId, StepIndex};
use saga_defs::machine::{Moment, Moved, Transition, start, transition};
use saga_defs::render::{Columns, Line, transcript_line};
use saga_defs::retry::Jitter;
use saga_defs::saga::{Event, Outcome, Refusal, Saga, State, Try};
use saga_defs::time::Timestamp;

const BEGIN: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

/// Plays a script and gives the transcript: a line per event, and at the end what each step has come to.
pub(crate) fn play(definition: &Definition, script: &str) -> String {
    let mut player = Player::new(definition);
    for phrase in script.split(',').map(str::trim).filter(|phrase| !phrase.is_empty()) {
        player.phrase(phrase);
    }
    player.transcript()
}

/// Plays a script and gives the saga.
pub(crate) fn saga_after(definition: &Definition, script: &str) -> Saga {
    let mut player = Player::new(definition);
    for phrase in script.split(',').map(str::trim).filter(|phrase| !phrase.is_empty()) {
        player.phrase(phrase);
    }
    player.saga
}

pub(crate) fn saga_id(n: u8) -> SagaId {
    SagaId::new(BEGIN, [n; 10])
}

struct Player<'a> {
    definition: &'a Definition,
    saga: Saga,
    now: Timestamp,
    lines: Vec<Line>,
    last_timeout: Option<Try>,
    last_retry: Option<Try>,
}

impl<'a> Player<'a> {
    fn new(definition: &'a Definition) -> Self {
        let input = Data::new();
        let event = Event::Started { input: input.clone(), business_key: None, traceparent: None };
        let begun = start(definition, saga_id(1), &input, None, None, BEGIN);
        let line = transcript_line(definition, None, &event, &Transition::Moved(begun.clone()));
        Self {
            definition,
            saga: begun.saga,
            now: BEGIN,
            lines: vec![line],
            last_timeout: None,
            last_retry: None,
        }
    }

    fn phrase(&mut self, phrase: &str) {
        let mut words: Vec<&str> = phrase.split_whitespace().collect();
        let times =
            words.last().and_then(|word| word.strip_prefix('x')).and_then(|n| n.parse::<usize>().ok());
        if times.is_some() {
            words.pop();
        }
        let times = times.unwrap_or(1);
        let mut hidden_from = 0;
        for n in 1..=times {
            if n == times && times > 2 {
                self.lines.truncate(hidden_from);
                let alike = format!("... {} more alike", times - 2);
                self.lines.push(Line { what: alike, ..Line::default() });
            }
            self.once(&words, phrase);
            if n == 1 {
                hidden_from = self.lines.len();
            }
        }
    }

    fn once(&mut self, words: &[&str], phrase: &str) {
        let reason: Arc<str> = "".into();
        match words {
            ["cancel"] => self.apply(Event::Cancel { reason }),
            ["redrive"] => self.apply(Event::Redrive { reason, input: None }),
            ["redrive", "corrected"] => {
                let input = Data::from_iter([("amountMinor".to_owned(), 1.into())]);
                self.apply(Event::Redrive { reason, input: Some(input) });
            }
            ["redrive", "letter"] => self.apply(Event::LetterRedriven { letter: a_letter(), reason }),
            ["skip"] => self.apply(Event::Skip { reason }),
            ["retry", "now"] => {
                if let State::Backoff { next, .. } = self.saga.state {
                    self.last_retry = Some(next);
                }
                self.apply(Event::RetryNow { reason });
            }
            ["hold"] => self.apply(Event::DeadlineStopped),
            ["let", "go"] => self.apply(Event::DeadlineResumed),
            ["wait", long] => {
                let long = humantime::parse_duration(long).expect("a length of time");
                self.now = self.now.after(long);
            }
            ["deadline"] => self.apply(Event::DeadlinePassed),
            ["quarantine"] => {
                self.apply(Event::Quarantined { cause: Refusal::new("invalid_row", "NUL in text") })
            }
            ["start", "again"] => {
                self.apply(Event::Started { input: Data::new(), business_key: None, traceparent: None })
            }
            ["foreign", "reply"] => {
                let command_id = CommandId::derive(saga_id(9), "reserve-booking", Direction::Forward);
                self.apply(Event::Replied {
                    command_id,
                    echo: None,
                    outcome: Outcome::Succeeded { fields: Data::new() },
                });
            }
            ["back-off", "over"] => self.end_back_off(phrase),
            ["stale", "timeout"] => self.apply(Event::TimedOut(self.last_timeout.expect("a timeout before"))),
            ["stale", "retry"] => {
                self.apply(Event::RetryDue(self.last_retry.expect("a back-off that ended before")))
            }
            ["late" | "duplicate", "undo", step, outcome] => {
                self.reply(step, Direction::Compensation, outcome)
            }
            ["late" | "duplicate", step, outcome] => self.reply(step, Direction::Forward, outcome),
            ["undo", step, outcome] => self.current(step, Direction::Compensation, outcome, phrase),
            [step, outcome] => self.current(step, Direction::Forward, outcome, phrase),
            _ => panic!("not a phrase: {phrase}"),
        }
    }

    /// The current command, which must be this one, gets this outcome.
    fn current(&mut self, step: &str, direction: Direction, outcome: &str, phrase: &str) {
        if matches!(self.saga.state, State::Backoff { .. }) {
            self.end_back_off(phrase);
        }
        let at = self.saga.current().unwrap_or_else(|| panic!("{phrase}: the saga has ended"));
        let is = (at.step, at.direction) == (self.step(step).0, direction);
        assert!(
            is && matches!(self.saga.state, State::Awaiting(_)),
            "{phrase}: the saga is at {:?}",
            self.saga.state
        );
        match outcome {
            "timeout" => {
                let timeout = self.step(step).1.timeout;
                self.now = self.now.after(timeout);
                self.last_timeout = Some(at);
                self.apply(Event::TimedOut(at));
            }
            "withheld" => self.apply(Event::Withheld(at)),
            "unsendable" => {
                let cause = Refusal::new("no_such_field", "the data has no `reference`");
                self.apply(Event::Unsendable { attempt: at, cause });
            }
            _ => self.reply(step, direction, outcome),
        }
    }

    fn end_back_off(&mut self, phrase: &str) {
        let State::Backoff { next, until } = self.saga.state else { panic!("{phrase}: no back-off") };
        self.now = until.max(self.now);
        self.last_retry = Some(next);
        self.apply(Event::RetryDue(next));
    }

    fn reply(&mut self, step: &str, direction: Direction, outcome: &str) {
        let name = self.step(step).1.name.clone();
        let refused = |code: &str| Outcome::Rejected { refusal: Refusal::new(code, "") };
        let outcome = match outcome {
            "ok" => Outcome::Succeeded { fields: Data::from_iter([(format!("{name} done"), true.into())]) },
            "rejected" => refused("refused"),
            "declined" => refused("payment_declined"),
            "sold-out" => refused("sold_out"),
            "failed" => Outcome::Failed { refusal: Refusal::new("unavailable", "") },
            _ => panic!("not an outcome: {outcome}"),
        };
        let command_id = CommandId::derive(self.saga.id, &name, direction);
        self.now = self.now.after(Duration::from_millis(10));
        self.apply(Event::Replied { command_id, echo: None, outcome });
    }

    fn step(&self, word: &str) -> (StepIndex, &'a Step) {
        let mut found = self
            .definition
            .steps
            .iter()
            .enumerate()
            .filter(|(_, step)| *step.name == *word || step.name.split('-').any(|part| part == word));
        match (found.next(), found.next()) {
            (Some((at, step)), None) => (StepIndex(at as u16), step),
            _ => panic!("`{word}` is not the word of one step"),
        }
    }

    fn apply(&mut self, event: Event) {
        let moment = Moment { at: self.now, jitter: Jitter::NONE };
        let done = transition(self.definition, &self.saga, &event, moment);
        self.lines.push(transcript_line(self.definition, Some(&self.saga), &event, &done));
        if let Transition::Moved(Moved { saga, .. }) = done {
            self.saga = saga;
        }
    }

    fn transcript(&self) -> String {
        let steps: Vec<&str> = self.saga.steps.iter().map(|step| step.status.as_str()).collect();
        let lines = Columns::lines(&self.lines);
        format!("{}= {}: {}", lines, self.saga.status().as_str(), steps.join(", "))
    }
}

fn a_letter() -> DeadLetterId {
    DeadLetterId::of_record("cluster", "payment.commands", 0, 7, BEGIN)
}
