//! `orchestrator verify`: the whole journal, replayed through the machine and held against every other table.
//!
//! Four streams in order of saga (journal, saga rows, dead letters, audit) are merged: what is in memory is one saga,
//! its letters and audit lines, and a few numbers per shard and definition, whatever the number of sagas. What one saga
//! comes to is decided by [`history`], purely; what a shard's numbers come to by [`shards`].

pub mod chain;
pub mod command;
pub mod difference;
pub mod history;
pub mod report;
pub mod row;
pub mod shards;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use saga_defs::definition::Definition;
use secrecy::SecretString;
use uuid::Uuid;

use self::chain::Chains;
use self::difference::{Difference, Kind, Place};
use self::history::{About, History, NoRecipe};
use self::report::Report;
use self::shards::ShardChecks;
use crate::store::copy::{CopyError, FromTuple, Rows};
use crate::store::snapshot::{
    self, AuditLine, ChainLine, JournalLine, LetterLine, SagaLine, Small, Snapshot,
};

/// Progress is told every so many rows of the journal.
const TELL_EVERY: u64 = 1 << 14;

/// Takes a snapshot of the database and checks all of it. `tell` is told how many rows of the journal are done, and
/// about how many there are. At most `limit` differences are kept.
///
/// # Errors
/// The database cannot be reached, or stopped answering.
pub async fn verify(
    url: &SecretString,
    limit: usize,
    tell: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Report, CopyError> {
    let began = Instant::now();
    let mut snapshot = Snapshot::take(url).await?;
    let small = snapshot.small().await?;
    let (mut journal, mut sagas, mut letters, mut audit) = (
        snapshot.reader().await?,
        snapshot.reader().await?,
        snapshot.reader().await?,
        snapshot.reader().await?,
    );
    let mut merge = Merge {
        journal: Ahead::open(Rows::open(&mut journal, snapshot::JOURNAL).await?).await?,
        sagas: Ahead::open(Rows::open(&mut sagas, snapshot::SAGAS).await?).await?,
        letters: Ahead::open(Rows::open(&mut letters, snapshot::LETTERS).await?).await?,
        audit: Ahead::open(Rows::open(&mut audit, snapshot::AUDIT).await?).await?,
        recipes: recipes(&small),
        shards: ShardChecks::new(&small),
        report: Report::new(limit),
        total: small.journal_rows,
        small: &small,
        tell,
    };
    merge.run().await?;
    let (mut report, checks) = (merge.report, merge.shards);
    let mut links = snapshot.reader().await?;
    chains(Rows::open(&mut links, snapshot::CHAINS).await?, &small, &mut report).await?;
    for saga in &small.keys_without_saga {
        let found = "an idempotency key of it";
        report.found(Difference::new(Place::of_saga(*saga), Kind::KeyWithoutSaga, "a saga row", found));
    }
    for shard in checks.finish(&mut |difference| report.found(difference)) {
        for gap in snapshot.gaps(shard).await? {
            report.found(gap.difference());
        }
    }
    report.took = began.elapsed();
    Ok(report)
}

/// Walks the chains of the audit.
async fn chains(mut rows: Rows<'_>, small: &Small, report: &mut Report) -> Result<(), CopyError> {
    let mut chains = Chains::default();
    while let Some(line) = rows.next::<ChainLine>().await? {
        chains.line(&line, &mut |difference| report.found(difference));
    }
    chains.finish(&small.chain_ends, &mut |difference| report.found(difference));
    report.audit_rows = u64::try_from(chains.rows()).unwrap_or_default();
    report.audit_ends.clone_from(&small.chain_ends);
    Ok(())
}

type Recipes = HashMap<(Arc<str>, i32), Result<Arc<Definition>, NoRecipe>>;

fn recipes(small: &Small) -> Recipes {
    let parsed = |source: &str| match Definition::parse(source) {
        Ok(definition) => Ok(Arc::new(definition)),
        Err(error) => Err(NoRecipe::Unreadable(error.to_string())),
    };
    let each = small.definitions.iter();
    each.map(|(name, version, source)| ((name.as_str().into(), *version), parsed(source))).collect()
}

/// A stream of rows and the next of them.
struct Ahead<'c, T> {
    rows: Rows<'c>,
    next: Option<T>,
}

impl<'c, T: FromTuple> Ahead<'c, T> {
    async fn open(mut rows: Rows<'c>) -> Result<Self, CopyError> {
        let next = rows.next().await?;
        Ok(Self { rows, next })
    }

    /// Takes the next row and reads on.
    async fn take(&mut self) -> Result<Option<T>, CopyError> {
        let next = self.rows.next().await?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

struct Merge<'a, 'c> {
    journal: Ahead<'c, JournalLine>,
    sagas: Ahead<'c, SagaLine>,
    letters: Ahead<'c, LetterLine>,
    audit: Ahead<'c, AuditLine>,
    recipes: Recipes,
    shards: ShardChecks,
    report: Report,
    total: u64,
    small: &'a Small,
    tell: &'a mut (dyn FnMut(u64, u64) + Send),
}

impl Merge<'_, '_> {
    async fn run(&mut self) -> Result<(), CopyError> {
        loop {
            let line = self.journal.next.as_ref().map(|line| line.saga);
            let row = self.sagas.next.as_ref().map(|row| row.id);
            match (line, row) {
                (None, None) => break,
                (Some(line), row) if row.is_none_or(|row| line < row) => self.without_row(line).await?,
                (_, Some(_)) => self.saga().await?,
                (Some(_), None) => {}
            }
        }
        (self.tell)(self.report.transitions, self.report.transitions);
        Ok(())
    }

    /// Journal lines of no saga (they concern a shard alone), or of one that has no row.
    async fn without_row(&mut self, saga: Uuid) -> Result<(), CopyError> {
        let mut lines = 0_u64;
        while self.journal.next.as_ref().is_some_and(|line| line.saga == saga) {
            self.line().await?;
            lines += 1;
        }
        if !saga.is_nil() {
            let what = format!("a journal of {lines} rows");
            let difference = Difference::new(Place::of_saga(saga), Kind::NoSagaRow, "a saga row", what);
            self.report.found(difference);
        }
        Ok(())
    }

    async fn saga(&mut self) -> Result<(), CopyError> {
        let Some(row) = self.sagas.take().await? else { return Ok(()) };
        let recipe = self.recipes.get(&(row.definition.clone(), row.version));
        let about = About {
            definition: recipe.cloned().unwrap_or(Err(NoRecipe::Missing)),
            shard: self.shards.of_saga(row.id),
            journal_from: self.small.journal_from,
        };
        let mut history = History::new(&row, about, &mut |difference| self.report.found(difference));
        while self.journal.next.as_ref().is_some_and(|line| line.saga == row.id) {
            if let Some(line) = self.line().await? {
                history.line(&line, &mut |difference| self.report.found(difference));
            }
        }
        let letters = of_saga(&mut self.letters, row.id, |letter| letter.saga).await?;
        let audit = of_saga(&mut self.audit, row.id, |line| line.saga).await?;
        let checked = history.finish(&letters, &audit, &mut |difference| self.report.found(difference));
        if checked.waits {
            self.shards.waits(row.id, row.shard, &mut |difference| self.report.found(difference));
        }
        self.report.sagas += 1;
        if checked.replayed {
            self.report.replayed += 1;
        } else {
            self.report.not_replayable += 1;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<Option<JournalLine>, CopyError> {
        let line = self.journal.take().await?;
        if let Some(line) = &line {
            self.shards.line(line.shard, line.seq);
            self.report.transitions += 1;
            if self.report.transitions.is_multiple_of(TELL_EVERY) {
                (self.tell)(self.report.transitions, self.total);
            }
        }
        Ok(line)
    }
}

/// The rows of one saga; those of sagas that have no row are passed over.
async fn of_saga<T: FromTuple>(
    ahead: &mut Ahead<'_, T>,
    saga: Uuid,
    of: impl Fn(&T) -> Uuid,
) -> Result<Vec<T>, CopyError> {
    let mut rows = Vec::new();
    while ahead.next.as_ref().is_some_and(|next| of(next) <= saga) {
        rows.extend(ahead.take().await?.filter(|row| of(row) == saga));
    }
    Ok(rows)
}
