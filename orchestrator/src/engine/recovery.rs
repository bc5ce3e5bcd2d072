//! Taking shards over: claim them, find what waits, publish again what may not have been published.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use saga_defs::ids::{CommandId, DeadLetterId, SagaId, Shard};
use saga_defs::saga::{Effect, State, Status, Try};
use saga_defs::time::Timestamp;
use uuid::Uuid;

use super::batch::{Held, ShardEffect};
use super::publisher::{Origin, Outgoing, SentAttempt};
use super::records::RecordMaker;
use super::shards::{NOTHING_OPEN, Owned, Wake};
use super::storage::Storage;
use super::traces;
use crate::definitions::Definitions;
use crate::store::StoreError;
use crate::store::letters::LetterRow;
use crate::store::load::{LOAD_CHUNK, Unpublished};
use crate::store::shards::Claimed;

/// No timer of a shard fires sooner after its take-over: the replies that came meanwhile are read first.
const GRACE: Duration = Duration::from_secs(2);

/// A shard that was taken over, ready to be worked on.
pub struct Recovered {
    /// Which.
    pub shard: Shard,
    /// Its numbers, and what waits in it.
    pub owned: Owned,
    /// What to publish again.
    pub outgoing: Vec<Outgoing>,
}

/// What a take-over works with.
pub struct Recovery<'a> {
    /// The database.
    pub store: &'a dyn Storage,
    /// The recipes.
    pub definitions: &'a Definitions,
    /// Makes records.
    pub records: &'a RecordMaker,
    /// Now.
    pub now: Timestamp,
}

impl Recovery<'_> {
    /// Makes claimed shards ready: all at once, since a walk over the sagas passes those of every shard.
    ///
    /// # Errors
    /// When the database does not answer; the shards stay claimed.
    pub async fn recover(&self, claimed: &[Claimed], generation: u64) -> Result<Vec<Recovered>, StoreError> {
        let mut owned: HashMap<Shard, Owned> =
            claimed.iter().map(|claim| (claim.shard, Owned::new(claim, generation))).collect();
        self.find_waiting(claimed, &mut owned).await?;
        let mut recovered = Vec::with_capacity(claimed.len());
        for claim in claimed {
            let Some(owned) = owned.remove(&claim.shard) else { continue };
            let mut outgoing = self.above_watermark(claim).await?;
            if claim.republish {
                // What an old broker had is gone with it: ask everyone again who has not answered.
                let waiting: Vec<SagaId> = owned.waiting().collect();
                let done: HashSet<(Shard, i64)> =
                    outgoing.iter().filter_map(|out| out.attempt).map(|sent| sent.row).collect();
                outgoing.extend(self.waiting_commands(&waiting, &done).await?);
            }
            recovered.push(Recovered { shard: claim.shard, owned, outgoing });
        }
        Ok(recovered)
    }

    /// The sagas that wait, with their timers. A timeout runs from what the row says, or anew from a publication that
    /// is confirmed later.
    async fn find_waiting(
        &self,
        claimed: &[Claimed],
        owned: &mut HashMap<Shard, Owned>,
    ) -> Result<(), StoreError> {
        let earliest = self.now.after(GRACE);
        let shards: Vec<Shard> = claimed.iter().map(|claim| claim.shard).collect();
        let mut from = claimed.iter().map(|claim| claim.open_from).min().filter(|&id| id != NOTHING_OPEN);
        while let Some(first) = from {
            let chunk = self.store.open_sagas(&shards, first).await?;
            for saga in chunk.waiting {
                let at = saga.wake_at.map_or(earliest, |at| at.max(earliest));
                if let Some(owned) = owned.get_mut(&saga.shard) {
                    owned.found(saga.id, Wake { at, timeout_at: Some(at), awaits_seq: None });
                }
            }
            from = chunk.next;
        }
        Ok(())
    }

    async fn above_watermark(&self, claimed: &Claimed) -> Result<Vec<Outgoing>, StoreError> {
        let mut outgoing = Vec::new();
        let mut after = claimed.published_seq;
        if after + 1 == claimed.next_seq {
            return Ok(outgoing);
        }
        // A broker that refused a command may take it now, but its saga has gone on without it.
        let refused = self.store.refused_above(claimed.shard, after).await?;
        loop {
            let rows = self.store.journal_above(claimed.shard, after).await?;
            let Some(last) = rows.last() else { return Ok(outgoing) };
            after = last.seq;
            let full = rows.len() == LOAD_CHUNK;
            outgoing.extend(self.records_of(&rows, &refused).await?);
            if !full {
                return Ok(outgoing);
            }
        }
    }

    /// The commands that these sagas wait for the replies to, as they were published.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn commands_of(&self, sagas: &[SagaId]) -> Result<Vec<Outgoing>, StoreError> {
        self.waiting_commands(sagas, &HashSet::new()).await
    }

    async fn waiting_commands(
        &self,
        sagas: &[SagaId],
        done: &HashSet<(Shard, i64)>,
    ) -> Result<Vec<Outgoing>, StoreError> {
        let rows = self.store.last_commands(sagas).await?;
        let rows: Vec<Unpublished> =
            rows.into_iter().filter(|row| !done.contains(&(row.shard, row.seq))).collect();
        let mut outgoing = self.records_of(&rows, &HashSet::new()).await?;
        outgoing.retain(|out| out.attempt.is_some());
        for out in &mut outgoing {
            // These rows are below the watermark, which does not go back for them.
            out.origin = out.origin.map(|origin| Origin::Again(origin.shard()));
        }
        Ok(outgoing)
    }

    /// The records that journal rows ask for, in their order, without the commands that were refused for good.
    async fn records_of(
        &self,
        rows: &[Unpublished],
        refused: &HashSet<(Uuid, Try)>,
    ) -> Result<Vec<Outgoing>, StoreError> {
        let ids: HashSet<SagaId> = rows.iter().filter_map(saga_of).collect();
        let ids: Vec<SagaId> = ids.into_iter().collect();
        let mut held = HashMap::new();
        for (id, saga) in self.store.sagas(&ids).await? {
            match self.definitions.find(self.store, &saga.definition).await? {
                Some(definition) => _ = held.insert(id, Held { saga: saga.into(), definition }),
                None => {
                    tracing::error!(saga = %id, trace = traces::of_saga(&saga).trace(), definition = %saga.definition,
                    "the definition of a saga is not known; nothing of it is published")
                }
            }
        }
        let wanted: Vec<DeadLetterId> =
            rows.iter().flat_map(|row| asked(row, &held)).filter_map(|asked| asked.letter()).collect();
        let letters = self.store.letters(&wanted).await?;
        let letters: HashMap<DeadLetterId, LetterRow> =
            letters.into_iter().map(|stored| (stored.row.id, stored.row)).collect();
        let mut outgoing = Vec::new();
        for row in rows {
            let is_refused =
                |asked: &Asked| matches!(asked, Asked::Command(at) if refused.contains(&(row.saga, *at)));
            for asked in asked(row, &held).into_iter().filter(|asked| !is_refused(asked)) {
                outgoing.extend(self.record_of(row, &asked, &held, &letters));
            }
        }
        Ok(outgoing)
    }

    fn record_of(
        &self,
        row: &Unpublished,
        asked: &Asked,
        held: &HashMap<SagaId, Held>,
        letters: &HashMap<DeadLetterId, LetterRow>,
    ) -> Option<Outgoing> {
        let of = saga_of(row).and_then(|id| held.get(&id));
        let at_row = (row.shard, row.seq);
        let mut attempt = None;
        let record = match asked {
            Asked::Command(at) => {
                let Held { saga, definition } = of?;
                let timeout = definition.step(at.step)?.timeout;
                // The timeout runs only for the attempt that the saga still awaits.
                let current = saga.state == State::Awaiting(*at);
                let again = SentAttempt { saga: saga.id, row: at_row, at: *at, timeout, doubt: true };
                attempt = current.then_some(again);
                self.records.command(definition, saga, row.shard, *at, row.at, row.body.clone()?)?
            }
            Asked::Start => self.records.announce_start(&of?.saga, row.shard)?,
            Asked::End(status) => self.records.announce_end(&of?.saga, row.shard, *status, row.at)?,
            Asked::Export(letter) => self.records.export(letters.get(letter)?),
            Asked::Copy(letter) => {
                let shard = of.map(|_| row.shard);
                self.records.redriven(letters.get(letter)?, row.body.clone(), shard)
            }
        };
        Some(Outgoing { record, origin: Some(Origin::Row(row.shard, row.seq)), attempt })
    }
}

/// One record that a journal row asks for.
enum Asked {
    Command(Try),
    Start,
    End(Status),
    Export(DeadLetterId),
    Copy(DeadLetterId),
}

impl Asked {
    const fn letter(&self) -> Option<DeadLetterId> {
        match self {
            Self::Export(letter) | Self::Copy(letter) => Some(*letter),
            Self::Command(_) | Self::Start | Self::End(_) => None,
        }
    }
}

fn saga_of(row: &Unpublished) -> Option<SagaId> {
    (!row.saga.is_nil()).then_some(SagaId::from_uuid(row.saga))
}

fn asked(row: &Unpublished, held: &HashMap<SagaId, Held>) -> Vec<Asked> {
    let Some(saga) = saga_of(row) else {
        let effects: Vec<ShardEffect> = serde_json::from_str(&row.effects_json).unwrap_or_default();
        return effects
            .into_iter()
            .map(|effect| match effect {
                ShardEffect::ExportLetter { letter } => Asked::Export(letter),
                ShardEffect::SendLetter { letter } => Asked::Copy(letter),
            })
            .collect();
    };
    let letter_of = |at: &Try| {
        let step = held.get(&saga)?.definition.step(at.step)?;
        Some(DeadLetterId::of_command(CommandId::derive(saga, &step.name, at.direction)))
    };
    row.effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(at) => Some(Asked::Command(*at)),
            Effect::AnnounceStart => Some(Asked::Start),
            Effect::AnnounceEnd { status } => Some(Asked::End(*status)),
            Effect::DeadLetter { attempt, .. } => letter_of(attempt).map(Asked::Export),
            Effect::SendLetter { letter } => Some(Asked::Copy(*letter)),
            Effect::RedriveLetter { .. } | Effect::ResolveLetters { .. } | Effect::ReopenLetters { .. } => {
                None
            }
        })
        .collect()
}
