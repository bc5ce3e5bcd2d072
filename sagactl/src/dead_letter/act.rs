//! `sagactl dead-letter redrive|edit|discard`.

use clap::Args;
use saga_client::{Act, DeadLetter, DeadLetterId, Error, Page};
use serde_json::{Map, Value};

use super::list::print_page;
use super::{missing, print_one};
use crate::arguments::{Because, object};
use crate::ask::go_on;
use crate::edit::{edited, tell_difference};
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::session::Session;
use crate::words::count;

#[derive(Args, Debug)]
pub(crate) struct Redrive {
    /// The dead letter's id, or several
    #[arg(required = true, value_name = "LETTER")]
    letters: Vec<DeadLetterId>,
    /// The message's fields in place of the original ones, all of them: a JSON object, @FILE, or -
    #[arg(long, value_name = "JSON")]
    value: Option<String>,
    #[command(flatten)]
    because: Because,
    /// Does not ask before it acts on several
    #[arg(long)]
    yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Discard {
    /// The dead letter's id, or several
    #[arg(required = true, value_name = "LETTER")]
    letters: Vec<DeadLetterId>,
    #[command(flatten)]
    because: Because,
    /// Does not ask before it acts on several
    #[arg(long)]
    yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Edit {
    /// The dead letter's id
    letter: DeadLetterId,
    /// The edited fields instead of an editor: a JSON object, @FILE, or -
    #[arg(long, value_name = "JSON")]
    value: Option<String>,
    #[command(flatten)]
    because: Because,
    /// Shows the difference and sends nothing
    #[arg(long)]
    dry_run: bool,
    /// Sends it without asking
    #[arg(long)]
    yes: bool,
}

impl Redrive {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let value = self.value.map(|text| object(&text, "--value")).transpose()?;
        let letters = session.client.dead_letters();
        let act = async |letter, mut act: Act| {
            if let Some(value) = &value {
                act = act.value(value.clone());
            }
            letters.redrive(letter, &act).await
        };
        on_each(session, self.letters, &self.because, "redrive", self.yes, act).await
    }
}

impl Discard {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let letters = session.client.dead_letters();
        let act = async |letter, act: Act| letters.discard(letter, &act).await;
        on_each(session, self.letters, &self.because, "discard", self.yes, act).await
    }
}

/// Acts on each letter. What fails with one does not keep the others from it.
async fn on_each(
    session: &Session,
    letters: Vec<DeadLetterId>,
    because: &Because,
    verb: &str,
    yes: bool,
    act: impl AsyncFn(DeadLetterId, Act) -> Result<DeadLetter, Error>,
) -> Result<Exit, Failure> {
    let several = letters.len() > 1;
    if several {
        let many = u64::try_from(letters.len()).unwrap_or(u64::MAX);
        go_on(&format!("{verb} {}", count(many, "dead letter")), yes)?;
    }
    let (mut exit, mut done) = (Exit::Done, Vec::new());
    for letter in letters {
        let mut word = Act::because(&*because.reason);
        if let Some(key) = &because.idempotency_key {
            // One key is for one request.
            word = word.idempotency_key(if several { format!("{key}:{letter}") } else { key.clone() });
        }
        match act(letter, word).await {
            Ok(letter) if !several => print_one(session, &letter)?,
            Ok(letter) => done.push(letter.item),
            Err(error) => {
                let failure = missing(session, error).await;
                if !several {
                    return Err(failure);
                }
                failure.tell();
                exit = Exit::Error;
            }
        }
    }
    if several {
        print_page(session.output, &Page { items: done, next_cursor: None })?;
    }
    Ok(exit)
}

impl Edit {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let letters = session.client.dead_letters();
        let letter = match letters.get(self.letter).await {
            Ok(letter) => letter,
            Err(error) => return Err(missing(session, error).await),
        };
        let before = value_of(letter)?;
        let (after, typed) = match &self.value {
            Some(text) => (Some(object(text, "--value")?).filter(|fields| *fields != before), None),
            None => {
                let typed = edited(&before)?;
                (typed.as_ref().map(|typed| typed.fields.clone()), typed)
            }
        };
        let kept = |failure: Failure| match typed {
            Some(typed) => typed.kept(failure),
            None => failure,
        };
        let Some(after) = after else {
            note("nothing was changed, and nothing was sent");
            return Ok(Exit::Done);
        };
        tell_difference(&before, &after)?;
        if self.dry_run {
            note("a dry run: nothing was sent");
            return Ok(Exit::Done);
        }
        if let Err(failure) = go_on("send it in place of the original", self.yes) {
            return Err(kept(failure));
        }
        let mut act = Act::because(self.because.reason).value(after);
        if let Some(key) = self.because.idempotency_key {
            act = act.idempotency_key(key);
        }
        match letters.redrive(self.letter, &act).await {
            Ok(letter) => print_one(session, &letter)?,
            Err(error) => return Err(kept(missing(session, error).await)),
        }
        Ok(Exit::Done)
    }
}

/// What the letter's record says; without that there is nothing to edit.
fn value_of(letter: DeadLetter) -> Result<Map<String, Value>, Failure> {
    let id = letter.item.id;
    let why = letter.decode_error.unwrap_or_default();
    match letter.decoded {
        Some(decoded) => Ok(decoded.value),
        None => Err(Failure::error(format!("the letter's value cannot be edited: {why}")).next(format!(
            "sagactl dead-letter redrive {id} --value JSON gives all of its fields anew, if its type is known"
        ))),
    }
}
