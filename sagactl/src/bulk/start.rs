//! Beginning: how many there are, whether to go on, and then at a pace.

use clap::Args;
use saga_client::{
    BulkAction, Course, DeadLetterFilter, DeadLetterId, DryRun, SagaFilter, SagaId, SagaVerb, StartRedrive,
    StartSagaAction,
};

use super::follow::Follow;
use super::{Kind, progress, show};
use crate::arguments::{Because, object, one_of};
use crate::ask::go_on;
use crate::dead_letter::list::Which as WhichLetters;
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::saga::list::Which as WhichSagas;
use crate::session::Session;
use crate::words::{count, plain};

/// The pace, and whether to ask.
#[derive(Args, Debug)]
pub(crate) struct Pace {
    /// At most so many in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: Option<u32>,
    /// So many in each of the first steps, whose outcomes are waited for, e.g. 1,5,50; 0: no steps
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    ramp: Option<Vec<u32>>,
    /// Does nothing: says what would be
    #[arg(long)]
    dry_run: bool,
    /// Does not ask
    #[arg(long)]
    yes: bool,
    /// Shows the progress until everything has its outcome
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    because: Because,
}

#[derive(Args, Debug)]
pub(crate) struct Letters {
    /// Only these letters; all open ones that match if none is named
    #[arg(value_name = "LETTER")]
    only: Vec<DeadLetterId>,
    #[command(flatten)]
    which: WhichLetters,
    /// A JSON merge patch (RFC 7396) for the value of each letter: a JSON object, @FILE, or -
    #[arg(long, value_name = "JSON")]
    patch: Option<String>,
    #[command(flatten)]
    pace: Pace,
}

#[derive(Args, Debug)]
pub(crate) struct Sagas {
    /// What is done to them
    #[arg(value_parser = one_of(SagaVerb::KNOWN))]
    verb: String,
    /// Only these sagas; all that match if none is named
    #[arg(value_name = "SAGA")]
    only: Vec<SagaId>,
    #[command(flatten)]
    which: WhichSagas,
    #[command(flatten)]
    pace: Pace,
}

impl Letters {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let filter = DeadLetterFilter::from(self.which);
        let mut start = StartRedrive::of(&filter, self.pace.course());
        if !self.only.is_empty() {
            start = start.only(self.only);
        }
        if let Some(patch) = &self.patch {
            start = start.patch(object(patch, "--patch")?);
        }
        let redrives = session.client.redrives();
        let start = async |dry| redrives.start(&if dry { start.as_dry_run() } else { start.clone() }).await;
        begin(session, Kind::Redrive, &self.pace, start).await
    }
}

impl Sagas {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let (verb, filter) = (SagaVerb::from(&*self.verb), SagaFilter::from(self.which));
        let mut start = StartSagaAction::of(verb, &filter, self.pace.course())?;
        if !self.only.is_empty() {
            start = start.only(self.only);
        }
        let actions = session.client.saga_actions();
        let start = async |dry| actions.start(&if dry { start.as_dry_run() } else { start.clone() }).await;
        begin(session, Kind::SagaAction, &self.pace, start).await
    }
}

impl Pace {
    fn course(&self) -> Course {
        let mut course = Course::because(&*self.because.reason);
        if let Some(rate) = self.rate {
            course = course.rate_per_second(rate);
        }
        if let Some(ramp) = &self.ramp {
            // `0` is no step at all.
            course = course.ramp(ramp.iter().copied().filter(|step| *step > 0).collect::<Vec<_>>());
        }
        if let Some(key) = &self.because.idempotency_key {
            course = course.idempotency_key(key);
        }
        course
    }
}

/// Says how many there are, asks, and begins. `start` does what was asked for, or a dry run of it.
async fn begin(
    session: &Session,
    kind: Kind,
    pace: &Pace,
    start: impl AsyncFn(bool) -> Result<BulkAction, saga_client::Error>,
) -> Result<Exit, Failure> {
    let mut asked_about = None;
    if pace.dry_run || !pace.yes {
        let asked = start(true).await;
        let examined = examined(session, kind, kind.or_missing(session, asked).await?).await?;
        if pace.dry_run {
            return show::print_action(session, kind, &examined);
        }
        if examined.selected == 0 {
            note(&format!("no {} matches", kind.of()));
            return Ok(Exit::Done);
        }
        go_on(&told(kind, &examined), false)?;
        asked_about = Some(examined.selected);
    }
    let started = start(false).await;
    let started = kind.or_missing(session, started).await?;
    note(&begun(kind, &started, asked_about));
    if pace.watch {
        return progress::watch(session, kind, started.id).await;
    }
    show::print_row(session, &started)?;
    if session.output.is_for_people() && started.finished_at.is_none() {
        note(&format!("next: sagactl {} watch {}", kind.noun(), started.id));
    }
    Ok(Exit::Done)
}

/// The dry run when it has looked at everything.
async fn examined(session: &Session, kind: Kind, mut run: BulkAction) -> Result<BulkAction, Failure> {
    let mut follow = Follow::new(session, kind, run.id);
    while run.finished_at.is_none() {
        let Some(told) = follow.next().await? else { break };
        run = told;
    }
    Ok(run)
}

/// What is begun, in one line. It chooses anew: what came or went since somebody was asked is said.
fn begun(kind: Kind, started: &BulkAction, asked_about: Option<u32>) -> String {
    let text = format!("{} {}", plain(&started.action), count(u64::from(started.selected), kind.of()));
    match asked_about.filter(|asked| *asked != started.selected) {
        Some(asked) => format!("{text}; when you were asked, there were {asked}"),
        None => text,
    }
}

/// What would be done as things are now, in one line.
fn told(kind: Kind, run: &BulkAction) -> String {
    let mut text = format!("{} {} as of now", plain(&run.action), count(u64::from(run.selected), kind.of()));
    let Some(DryRun { would_send, would_not_send, .. }) = &run.found else { return text };
    if *would_send != run.selected {
        let why = would_not_send.iter().map(|(why, many)| format!("{many} {}", plain(why).replace('_', " ")));
        text.push_str(&format!(
            ", of which {would_send} would be sent ({})",
            why.collect::<Vec<_>>().join(", ")
        ));
    }
    text
}
