//! The tables and the rules that a commit, a claim and a renewal keep: those of orchestrator/src/store/{commit,shards,load}.rs.
//! What is changed here by a [`Wrong`] is changed on purpose, to see that it is found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use ::orchestrator::store::StoreError;
use ::orchestrator::store::audit::AuditRow;
use ::orchestrator::store::body::{SagaRow, saga_from_row};
use ::orchestrator::store::commit::{Committed, JournalRow, KeyWrite, SagaWrite, ShardAdvance, Writes};
use ::orchestrator::store::letters::LetterChange;
use ::orchestrator::store::load::{LOAD_CHUNK, OpenSaga, OpenSagas, Unpublished, refused_attempt};
use ::orchestrator::store::shards::{Claimant, Claimed};
use saga_defs::ids::{SagaId, Shard, ShardCount};
use saga_defs::saga::{Saga, Status, Try};
use saga_defs::time::Timestamp;
use tests::oracle::evidence::Update;
use uuid::Uuid;

use super::letters::Letters;
use crate::wrong::Wrong;

/// A walk over the sagas looks at so few at once, so that it is made in several steps.
const LOOKED_AT: usize = 7;
/// Longer than any schedule.
const A_DAY: Duration = Duration::from_secs(24 * 3_600);

/// A shard's row.
#[derive(Debug, Clone)]
pub struct ShardRow {
    /// Raised by every claim and renewal.
    pub epoch: i64,
    /// Who claimed it last.
    pub owner: Option<Claimant>,
    /// The next sequence number.
    pub next_seq: i64,
    /// Everything up to here is acknowledged.
    pub published_seq: i64,
    /// The next offset to read.
    pub inbox_offset: i64,
    /// The broker that the offset belongs to.
    pub incarnation: String,
    /// The topic that the offset belongs to.
    pub inbox_topic: Option<String>,
    /// Whether the broker may lack commands that sagas wait for.
    pub republish: bool,
    /// No saga below this id waits.
    pub open_from: Uuid,
}

/// All tables.
#[derive(Debug)]
pub struct Rows {
    /// The shards.
    pub shards: BTreeMap<Shard, ShardRow>,
    /// The journal of each shard, in order of insertion.
    pub journal: BTreeMap<Shard, Vec<JournalRow>>,
    /// The sagas.
    pub sagas: BTreeMap<Uuid, SagaWrite>,
    /// The idempotency keys.
    pub keys: BTreeMap<[u8; 32], KeyWrite>,
    /// Keys that were used although they were taken; only in a wrong world.
    pub doubled_keys: Vec<KeyWrite>,
    /// The dead letters.
    pub letters: Letters,
    /// What operators did.
    pub audit: Vec<AuditRow>,
    /// Every change of a shard's row, in order: the witness of who committed under which epoch.
    pub updates: Vec<Update>,
    /// How many sagas a step of a walk looks at.
    pub looked_at: usize,
    wrong: Option<Wrong>,
}

impl Rows {
    /// Empty tables.
    pub fn new(count: ShardCount, wrong: Option<Wrong>) -> Self {
        let row = ShardRow {
            epoch: 0,
            owner: None,
            next_seq: 1,
            published_seq: 0,
            inbox_offset: 0,
            incarnation: String::new(),
            inbox_topic: None,
            republish: false,
            open_from: Uuid::nil(),
        };
        Self {
            shards: (0..count.get()).map(|id| (Shard(id), row.clone())).collect(),
            journal: BTreeMap::new(),
            sagas: BTreeMap::new(),
            keys: BTreeMap::new(),
            doubled_keys: Vec::new(),
            letters: Letters::default(),
            audit: Vec::new(),
            updates: Vec::new(),
            looked_at: LOOKED_AT,
            wrong,
        }
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    /// As `Store::commit`: everything or nothing.
    ///
    /// # Errors
    /// The data is refused.
    pub fn commit(
        &mut self,
        writes: &Writes,
        process: &str,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        if !writes.shards.iter().all(|advance| self.is_held(advance)) {
            return Ok(Committed::Fenced);
        }
        self.check(writes)?;
        let mut letters = None;
        if !writes.letters.is_empty() {
            let mut changed = self.letters.clone();
            for change in &writes.letters {
                if changed.apply(change) == 0 && change.must_apply() {
                    return Ok(Committed::LetterMoved);
                }
            }
            letters = Some(changed);
        }
        self.write(writes, process, now);
        self.letters = letters.unwrap_or_else(|| std::mem::take(&mut self.letters));
        Ok(Committed::Yes)
    }

    fn is_held(&self, advance: &ShardAdvance) -> bool {
        if self.is(Wrong::NoFence) {
            return true;
        }
        let row = self.shards.get(&advance.shard);
        row.is_some_and(|row| row.epoch == advance.epoch && row.next_seq == advance.first_seq)
    }

    /// What a database refuses.
    fn check(&self, writes: &Writes) -> Result<(), StoreError> {
        let mut sagas = BTreeSet::new();
        for saga in &writes.inserts {
            if self.sagas.contains_key(&saga.id.as_uuid()) || !sagas.insert(saga.id) {
                return Err(refused("23505", Some("saga_pkey")));
            }
        }
        let mut keys = BTreeSet::new();
        for key in &writes.keys {
            let taken = self.keys.contains_key(&key.key_hash) || !keys.insert(key.key_hash);
            if taken && !self.is(Wrong::KeysTakenTwice) {
                return Err(refused("23505", Some("request_key_pkey")));
            }
        }
        let bodies = writes.inserts.iter().chain(&writes.updates).map(|saga| &saga.body);
        let texts = writes.journal.iter().flat_map(|row| [&row.event, &row.effects]).chain(bodies);
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(refused("22021", None));
        }
        Ok(())
    }

    fn write(&mut self, writes: &Writes, process: &str, now: Timestamp) {
        for advance in &writes.shards {
            let (offset, republish) = (advance.inbox_offset, advance.republish);
            let early = self.is(Wrong::WatermarkEarly);
            let forgets = self.is(Wrong::OffsetAhead);
            self.update(advance.shard, process, now, |row| {
                row.next_seq = advance.next_seq;
                row.published_seq = if early { advance.next_seq - 1 } else { advance.published_seq };
                row.inbox_offset = if forgets && offset > row.inbox_offset { offset + 1 } else { offset };
                row.open_from = advance.open_from;
                row.republish = republish;
            });
        }
        for row in &writes.journal {
            self.journal.entry(row.shard).or_default().push(row.clone());
        }
        for saga in &writes.inserts {
            self.sagas.insert(saga.id.as_uuid(), saga.clone());
        }
        let half = self.is(Wrong::HalfCommit) && writes.updates.len() > 1;
        for saga in writes.updates.iter().skip(usize::from(half)) {
            if let Some(row) = self.sagas.get_mut(&saga.id.as_uuid()) {
                row.revision = saga.revision;
                row.status = saga.status;
                row.step.clone_from(&saga.step);
                row.wake_at = saga.wake_at;
                row.updated_at = saga.updated_at;
                row.finished_at = saga.finished_at;
                row.body.clone_from(&saga.body);
            }
        }
        for key in &writes.keys {
            if let Some(before) = self.keys.insert(key.key_hash, key.clone()) {
                self.doubled_keys.push(before);
            }
        }
        self.audit.extend(writes.audit.iter().cloned());
    }

    /// Changes a shard's row before a witness.
    fn update(&mut self, shard: Shard, process: &str, at: Timestamp, change: impl FnOnce(&mut ShardRow)) {
        let Some(row) = self.shards.get_mut(&shard) else { return };
        let from = row.next_seq;
        change(row);
        self.updates.push(Update {
            at,
            shard: i32::from(shard.0),
            epoch: row.epoch,
            process: process.to_owned(),
            seq: (from, row.next_seq),
            published: row.published_seq,
        });
    }

    fn claimed(&self, shard: Shard) -> Option<Claimed> {
        let row = self.shards.get(&shard)?;
        Some(Claimed {
            shard,
            epoch: row.epoch,
            next_seq: row.next_seq,
            published_seq: row.published_seq,
            inbox_offset: row.inbox_offset,
            open_from: row.open_from,
            republish: row.republish,
            other_topic: false,
        })
    }

    /// As `Store::claim`.
    pub fn claim(
        &mut self,
        shards: &[Shard],
        owner: &Claimant,
        (incarnation, inbox): (&str, Option<&str>),
        process: &str,
        now: Timestamp,
    ) -> Vec<Claimed> {
        for &shard in shards {
            self.update(shard, process, now, |row| {
                row.epoch += 1;
                row.owner = Some(owner.clone());
                if row.incarnation != incarnation {
                    row.incarnation = incarnation.to_owned();
                    row.inbox_offset = 0;
                    row.republish = true;
                    row.inbox_topic = None;
                }
                row.inbox_topic = row.inbox_topic.take().or_else(|| inbox.map(str::to_owned));
            });
        }
        let mut claimed: Vec<Claimed> = shards.iter().filter_map(|&shard| self.claimed(shard)).collect();
        for claim in &mut claimed {
            let known = self.shards.get(&claim.shard).and_then(|row| row.inbox_topic.as_deref());
            claim.other_topic = known.zip(inbox).is_some_and(|(known, now)| known != now);
        }
        claimed
    }

    /// As `Store::renew`.
    pub fn renew(&mut self, held: &[(Shard, i64)], process: &str, now: Timestamp) -> Vec<Claimed> {
        let mut renewed = Vec::new();
        for &(shard, epoch) in held {
            if self.shards.get(&shard).is_none_or(|row| row.epoch != epoch) {
                continue;
            }
            self.update(shard, process, now, |row| row.epoch += 1);
            renewed.extend(self.claimed(shard));
        }
        if self.is(Wrong::RenewalLies) {
            for claim in &mut renewed {
                claim.next_seq += 1;
            }
        }
        renewed
    }

    /// As `Store::epochs`.
    pub fn epochs(&self, shards: &[Shard]) -> HashMap<Shard, (i64, i64)> {
        let found = shards.iter().filter_map(|shard| Some((*shard, self.shards.get(shard)?)));
        found.map(|(shard, row)| (shard, (row.epoch, row.next_seq))).collect()
    }

    /// As `Store::epochs_of_owner`.
    pub fn epochs_of_owner(&self, shards: &[Shard], owner: &Claimant) -> HashMap<Shard, i64> {
        let found = shards.iter().filter_map(|shard| Some((*shard, self.shards.get(shard)?)));
        found
            .filter(|(_, row)| row.owner.as_ref() == Some(owner))
            .map(|(shard, row)| (shard, row.epoch))
            .collect()
    }

    /// As `Store::owner`.
    pub fn owner(&self, shard: Shard) -> Option<String> {
        self.shards.get(&shard)?.owner.as_ref().map(|owner| owner.url.to_string())
    }

    /// As `Store::sagas`.
    ///
    /// # Errors
    /// A body that this version did not write.
    pub fn sagas(&self, ids: &[SagaId]) -> Result<HashMap<SagaId, Saga>, StoreError> {
        let found = ids.iter().filter_map(|id| self.sagas.get(&id.as_uuid()));
        found.map(|row| Ok((row.id, saga_from_row(columns(row))?))).collect()
    }

    /// As `Store::taken_keys`.
    pub fn taken_keys(&self, hashes: &[[u8; 32]]) -> HashSet<Vec<u8>> {
        if self.is(Wrong::KeysTakenTwice) {
            return HashSet::new();
        }
        hashes.iter().filter(|hash| self.keys.contains_key(*hash)).map(|hash| hash.to_vec()).collect()
    }

    /// As `Store::open_sagas`, a few at a time.
    pub fn open_sagas(&self, shards: &[Shard], first: Uuid) -> OpenSagas {
        let looked: Vec<&SagaWrite> =
            self.sagas.range(first..).map(|(_, row)| row).take(self.looked_at).collect();
        let waits = |row: &&&SagaWrite| {
            row.finished_at.is_none()
                && row.status != Status::Stuck
                && shards.contains(&row.shard)
                && !self.is(Wrong::WaitingForgotten)
        };
        let open = |row: &&SagaWrite| OpenSaga {
            id: row.id,
            shard: row.shard,
            wake_at: row.wake_at.map(|at| if self.is(Wrong::TimersTooLate) { at.after(A_DAY) } else { at }),
        };
        OpenSagas {
            waiting: looked.iter().filter(waits).map(open).collect(),
            next: looked
                .last()
                .and_then(|row| row.id.as_uuid().as_u128().checked_add(1))
                .map(Uuid::from_u128),
        }
    }

    /// As `Store::journal_above`.
    pub fn journal_above(&self, shard: Shard, after: i64) -> Vec<Unpublished> {
        if self.is(Wrong::NothingPublishedAgain) {
            return Vec::new();
        }
        let rows = self.journal.get(&shard).into_iter().flatten().filter(|row| row.seq > after);
        let mut rows: Vec<&JournalRow> = rows.collect();
        rows.sort_by_key(|row| row.seq);
        rows.into_iter().take(LOAD_CHUNK).map(unpublished).collect()
    }

    /// As `Store::refused_above`.
    pub fn refused_above(&self, shard: Shard, after: i64) -> HashSet<(Uuid, Try)> {
        let rows = self.journal.get(&shard).into_iter().flatten().filter(|row| row.seq > after);
        rows.filter_map(|row| refused_attempt(row.saga, &row.event)).collect()
    }

    /// As `Store::last_commands`.
    pub fn last_commands(&self, ids: &[SagaId]) -> Vec<Unpublished> {
        let last = |id: &SagaId| {
            let rows = self.journal.values().flatten().filter(|row| row.saga == id.as_uuid());
            rows.filter(|row| !row.body.is_empty() && row.effects.contains("\"send\""))
                .max_by_key(|row| row.revision)
        };
        ids.iter().filter_map(last).map(unpublished).collect()
    }

    /// As `Store::discard`.
    ///
    /// # Errors
    /// The key is taken.
    pub fn discard(
        &mut self,
        change: &LetterChange,
        audit: &AuditRow,
        key: Option<&KeyWrite>,
    ) -> Result<bool, StoreError> {
        if key.is_some_and(|key| self.keys.contains_key(&key.key_hash)) {
            return Err(refused("23505", Some("request_key_pkey")));
        }
        if self.letters.apply(change) == 0 {
            return Ok(false);
        }
        self.audit.push(audit.clone());
        self.keys.extend(key.map(|key| (key.key_hash, key.clone())));
        Ok(true)
    }
}

fn refused(state: &str, constraint: Option<&str>) -> StoreError {
    StoreError::Refused {
        state: state.to_owned(),
        message: constraint.unwrap_or("the data is refused").to_owned(),
        constraint: constraint.map(str::to_owned),
    }
}

fn columns(row: &SagaWrite) -> SagaRow {
    SagaRow {
        id: row.id.as_uuid(),
        definition: row.definition.to_string(),
        version: row.version,
        business_key: row.business_key.as_deref().map(str::to_owned),
        revision: i32::try_from(row.revision.0).unwrap_or(i32::MAX),
        started_at: row.started_at.to_utc(),
        updated_at: row.updated_at.to_utc(),
        finished_at: row.finished_at.map(Timestamp::to_utc),
        body: row.body.clone(),
    }
}

fn unpublished(row: &JournalRow) -> Unpublished {
    Unpublished {
        shard: row.shard,
        seq: row.seq,
        saga: row.saga,
        at: row.at,
        effects: serde_json::from_str(&row.effects).unwrap_or_default(),
        effects_json: row.effects.clone(),
        body: (!row.body.is_empty()).then(|| row.body.clone()),
    }
}
