//! What can happen next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use stateright::{Model, Property};

use crate::laws::laws;
use crate::rules::{Republish, Rules, Unknown, Watermark};
use crate::world::{Commit, Doing, Fault, Few, Input, Late, Owner, Process, Row, World};

pub(crate) struct Shard {
    pub(crate) rules: Rules,
    pub(crate) few: Few,
    /// A world was found in which a law is broken. Only the first counts, since its run is the shortest; the checker would
    /// keep a later one.
    found: AtomicBool,
}

impl Shard {
    pub(crate) const fn new(rules: Rules, few: Few) -> Self {
        Self { rules, few, found: AtomicBool::new(false) }
    }

    /// Whether a law is kept, or another was broken before.
    pub(crate) fn keeps(&self, kept: bool) -> bool {
        kept || self.found.swap(true, Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The group gives the shard to a process, which claims it.
    Claim(usize),
    /// The answer to a claim is lost; the claim happens later, if at all.
    ClaimLost(usize),
    /// The new owner reads what is above the watermark.
    Recover(usize),
    /// The group takes the shard away.
    Revoke(usize),
    Crash(usize),
    /// The broker is replaced by an empty one, and all processes start anew.
    ReplaceBroker,
    /// A batch of one input is decided and its commit sent.
    Decide(usize, Input),
    /// The watermark is saved.
    Save(usize),
    /// The database carries the commit out or refuses it.
    Execute(usize),
    /// Its answer arrives.
    Answer(usize),
    /// Its answer, or the connection, is lost.
    Lose(usize),
    Renew(usize),
    /// The answer to the renewal is lost; it happens later, if at all.
    RenewLost(usize),
    /// Which epoch is ours?
    Reread(usize),
    /// The broker takes a record.
    Deliver(usize, u8),
    /// Its report arrives.
    Acknowledge(usize, u8),
    /// A statement happens that nobody waits for any more.
    Late(Late),
}

impl Model for Shard {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.few)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.fault.is_some() {
            return;
        }
        if world.left.brokers > 0 {
            steps.push(Step::ReplaceBroker);
        }
        steps.extend(world.late.iter().map(|late| Step::Late(*late)));
        for process in [0, 1] {
            match &world.processes[process] {
                Process::Without => self.claims(world, process, steps),
                Process::Claimed(..) => steps.push(Step::Recover(process)),
                Process::Owner(owner) => self.of_owner(world, process, owner, steps),
            }
            if world.left.crashes > 0 && world.processes[process] != Process::Without {
                steps.push(Step::Crash(process));
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        laws()
    }

    fn within_boundary(&self, _: &World) -> bool {
        !self.found.load(Ordering::Relaxed)
    }
}

// ---- which ----------------------------------------------------------------------------------------------------------

impl Shard {
    fn claims(&self, world: &World, process: usize, steps: &mut Vec<Step>) {
        if world.left.claims > 0 {
            steps.push(Step::Claim(process));
            if world.left.losses > 0 {
                steps.push(Step::ClaimLost(process));
            }
        }
    }

    fn of_owner(&self, world: &World, process: usize, owner: &Owner, steps: &mut Vec<Step>) {
        for seq in owner.unpublished.keys().chain(&owner.again) {
            let delivered = world.here.contains(seq);
            steps.push(if delivered {
                Step::Acknowledge(process, *seq)
            } else {
                Step::Deliver(process, *seq)
            });
        }
        let lossy = world.left.losses > 0;
        match owner.doing {
            Doing::Nothing => {
                // The lane sees to rebalances between two batches.
                self.claims(world, process, steps);
                steps.push(Step::Revoke(process));
                steps.extend(world.asked.iter().map(|input| Step::Decide(process, *input)));
                // Of another broker there are no replies in this model.
                if world.broker == 0 && owner.offset < self.few.replies {
                    steps.push(Step::Decide(process, Input::Reply(owner.offset)));
                }
                let saved = (owner.saved_published, owner.saved_republish);
                if (self.watermark(owner), self.republish(owner)) != saved {
                    steps.push(Step::Save(process));
                }
            }
            Doing::Committing(_) => {
                steps.push(Step::Execute(process));
                steps.extend(lossy.then_some(Step::Lose(process)));
            }
            Doing::Committed(..) => {
                steps.push(Step::Answer(process));
                steps.extend(lossy.then_some(Step::Lose(process)));
            }
            Doing::Unknown(_) => {
                steps.push(Step::Renew(process));
                steps.extend(
                    (lossy && self.rules.unknown == Unknown::Renew).then_some(Step::RenewLost(process)),
                );
            }
            Doing::RenewalUnknown(_) => steps.push(Step::Reread(process)),
        }
    }

    /// As `Owned::published_seq`.
    fn watermark(&self, owner: &Owner) -> u8 {
        let unpublished = &owner.unpublished;
        match self.rules.watermark {
            Watermark::Acknowledged => unpublished.keys().next().map_or(owner.next_seq, |seq| *seq) - 1,
            Watermark::HandedOver => owner.next_seq - 1,
            Watermark::LastDelivered => {
                (1..owner.next_seq).rev().find(|seq| !unpublished.contains_key(seq)).unwrap_or(0)
            }
        }
    }

    /// As `Owned::republish`.
    fn republish(&self, owner: &Owner) -> bool {
        owner.again.is_some() && self.rules.republish == Republish::UntilAcknowledged
    }
}

// ---- what -----------------------------------------------------------------------------------------------------------

impl Shard {
    fn take(&self, world: &mut World, step: Step) {
        match step {
            Step::Claim(process) => {
                world.left.claims -= 1;
                let claimed = self.claim(world, process);
                world.processes[process] = Process::Claimed(claimed);
            }
            Step::ClaimLost(process) => {
                world.left.losses -= 1;
                world.late.insert(Late::Claim(process));
                world.processes[process] = Process::Without;
            }
            Step::Recover(process) => self.recover(world, process),
            Step::Revoke(process) => world.processes[process] = Process::Without,
            Step::Crash(process) => {
                world.left.crashes -= 1;
                end(world, process);
            }
            Step::ReplaceBroker => {
                world.left.brokers -= 1;
                world.broker += 1;
                world.here.clear();
                [0, 1].into_iter().for_each(|process| end(world, process));
            }
            Step::Late(late) => {
                world.late.remove(&late);
                match late {
                    Late::Claim(process) => _ = self.claim(world, process),
                    Late::Commit(commit) => _ = self.commit(world, commit),
                    Late::Renew(epoch) => _ = renew(world, epoch),
                }
            }
            Step::Decide(process, _)
            | Step::Save(process)
            | Step::Execute(process)
            | Step::Answer(process)
            | Step::Lose(process)
            | Step::Renew(process)
            | Step::RenewLost(process)
            | Step::Reread(process)
            | Step::Deliver(process, _)
            | Step::Acknowledge(process, _) => {
                let Process::Owner(owner) = world.processes[process].clone() else { return };
                let after = self.act(world, process, owner, step);
                world.processes[process] = after.map_or(Process::Without, Process::Owner);
            }
        }
    }

    /// As `Store::claim`: the row as the claimant sees it.
    fn claim(&self, world: &mut World, process: usize) -> Row {
        world.row.epoch += 1;
        world.row.owner = Some(process);
        let new_broker = world.row.broker != world.broker;
        if new_broker {
            world.row.broker = world.broker;
            world.row.offset = 0;
        }
        let republish = world.row.republish || new_broker;
        world.row.republish = republish && self.rules.republish != Republish::Once;
        Row { republish, ..world.row }
    }

    /// As `Recovery::recover` and `Lane::take_in`.
    fn recover(&self, world: &mut World, process: usize) {
        let Process::Claimed(claimed) = world.processes[process] else { return };
        let rows = (1..).zip(world.journal.iter().copied());
        let above = rows.filter(|(seq, _)| *seq > claimed.published_seq && self.rules.publish_again);
        let last = world.journal.len() as u8;
        let below = last > 0 && last <= claimed.published_seq;
        world.processes[process] = Process::Owner(Owner {
            epoch: claimed.epoch,
            next_seq: claimed.next_seq,
            offset: claimed.offset,
            saved_published: claimed.published_seq,
            saved_republish: claimed.republish,
            unpublished: above.collect::<BTreeMap<u8, Input>>(),
            again: (claimed.republish && below).then_some(last),
            doing: Doing::Nothing,
        });
    }

    /// What an owner does; `None` if it lets the shard go.
    fn act(&self, world: &mut World, process: usize, mut owner: Owner, step: Step) -> Option<Owner> {
        match (step, owner.doing) {
            (Step::Decide(_, input), _) => self.decide(world, &mut owner, input),
            (Step::Save(_), _) => {
                owner.doing = Doing::Committing(self.batch(&owner, None));
            }
            (Step::Execute(_), Doing::Committing(commit)) => {
                owner.doing = Doing::Committed(commit, self.commit(world, commit));
            }
            (Step::Answer(_), Doing::Committed(commit, true)) => self.carry_out(world, &mut owner, commit),
            // Fenced: `Lane::reclaim` finds that the shard is lost. A watermark need not be saved.
            (Step::Answer(_), Doing::Committed(commit, false)) if commit.input.is_none() => {
                owner.doing = Doing::Nothing;
            }
            (Step::Answer(_), Doing::Committed(commit, false)) => {
                world.asked.extend(commit.input.filter(|input| !matches!(input, Input::Reply(_))));
                return None;
            }
            (Step::Lose(_), Doing::Committing(commit) | Doing::Committed(commit, _)) => {
                world.left.losses -= 1;
                if let Doing::Committing(_) = owner.doing {
                    world.late.insert(Late::Commit(commit));
                }
                // Nothing rests on a watermark that is not saved.
                owner.doing = if commit.input.is_none() { Doing::Nothing } else { Doing::Unknown(commit) };
            }
            (Step::Renew(_), Doing::Unknown(commit)) => return self.resolve_unknown(world, owner, commit),
            (Step::RenewLost(_), Doing::Unknown(commit)) => {
                world.left.losses -= 1;
                world.late.insert(Late::Renew(owner.epoch));
                owner.doing = Doing::RenewalUnknown(commit);
            }
            (Step::Reread(_), Doing::RenewalUnknown(commit)) => {
                if world.row.owner == Some(process) {
                    owner.epoch = world.row.epoch;
                }
                owner.doing = Doing::Unknown(commit);
            }
            (Step::Deliver(_, seq), _) => {
                world.published.extend(owner.unpublished.get(&seq).map(|input| (seq, *input)));
                world.here.insert(seq);
            }
            (Step::Acknowledge(_, seq), _) => {
                owner.unpublished.remove(&seq);
                owner.again = owner.again.filter(|again| *again != seq);
            }
            _ => {}
        }
        Some(owner)
    }

    /// As `Batch::decide`.
    fn decide(&self, world: &mut World, owner: &mut Owner, input: Input) {
        world.asked.remove(&input);
        let commit = self.batch(owner, Some(input));
        if self.rules.publish_before_commit && commit.next_seq > commit.first_seq {
            owner.unpublished.insert(commit.first_seq, input);
        }
        owner.doing = Doing::Committing(commit);
    }

    fn batch(&self, owner: &Owner, input: Option<Input>) -> Commit {
        let (rows, records) = match input {
            Some(Input::Reply(_)) => (1, 1),
            Some(Input::Start(_)) => (1, 0),
            Some(Input::Note(_)) | None => (0, 0),
        };
        Commit {
            epoch: owner.epoch,
            first_seq: owner.next_seq,
            next_seq: owner.next_seq + rows,
            published_seq: self.watermark(owner),
            offset: owner.offset + records,
            republish: self.republish(owner),
            input,
        }
    }

    /// As the statement in store/commit.rs.
    fn commit(&self, world: &mut World, commit: Commit) -> bool {
        let epoch_fits = !self.rules.compare_epoch || world.row.epoch == commit.epoch;
        let seq_fits = !self.rules.compare_next_seq || world.row.next_seq == commit.first_seq;
        if !epoch_fits || !seq_fits {
            return false;
        }
        if commit.epoch < world.row.epoch {
            world.fault = Some(Fault::OldEpoch);
        }
        world.row.next_seq = commit.next_seq;
        world.row.published_seq = commit.published_seq;
        world.row.republish = commit.republish;
        if self.rules.offset_in_commit || commit.input.is_none() {
            world.row.offset = commit.offset;
        }
        match commit.input {
            Some(Input::Note(n)) => _ = world.notes.insert(n),
            Some(input) => {
                if usize::from(commit.first_seq) != world.journal.len() + 1 {
                    world.fault = Some(Fault::Gap);
                }
                world.journal.push(input);
            }
            None => {}
        }
        true
    }

    /// As `Lane::carry_out`.
    fn carry_out(&self, world: &mut World, owner: &mut Owner, commit: Commit) {
        owner.next_seq = commit.next_seq;
        owner.offset = commit.offset;
        owner.saved_published = commit.published_seq;
        owner.saved_republish = commit.republish;
        owner.doing = Doing::Nothing;
        let Some(input) = commit.input else { return };
        world.told.insert(input);
        if commit.next_seq > commit.first_seq && !self.rules.publish_before_commit {
            owner.unpublished.insert(commit.first_seq, input);
        }
    }

    /// As `Lane::resolve_unknown`; `None` if the shard has another owner.
    fn resolve_unknown(&self, world: &mut World, mut owner: Owner, commit: Commit) -> Option<Owner> {
        // As `Owned::tells`: a commit that moves no number cannot be seen in the row, so it is decided again.
        let moves = (commit.next_seq, commit.offset) != (owner.next_seq, owner.offset);
        let reached = |world: &World| {
            let read = world.row.offset == commit.offset || !self.rules.offset_in_commit;
            let is_there = world.row.next_seq == commit.next_seq && read;
            is_there && (moves || !self.rules.row_that_did_not_move_tells_nothing)
        };
        let happened = match self.rules.unknown {
            Unknown::Renew => {
                if !renew(world, owner.epoch) {
                    // What was asked for is answered "busy", or is done by the new owner.
                    return None;
                }
                owner.epoch = world.row.epoch;
                reached(world)
            }
            Unknown::Read => reached(world),
            Unknown::Done => true,
            Unknown::NotDone => false,
        };
        if happened {
            self.carry_out(world, &mut owner, commit);
        } else {
            world.asked.extend(commit.input.filter(|input| !matches!(input, Input::Reply(_))));
            owner.doing = Doing::Nothing;
        }
        Some(owner)
    }
}

/// A process ends. What it has sent may still happen.
fn end(world: &mut World, process: usize) {
    if let Process::Owner(Owner { doing: Doing::Committing(commit), .. }) = &world.processes[process] {
        world.late.insert(Late::Commit(*commit));
    }
    world.processes[process] = Process::Without;
}

fn renew(world: &mut World, epoch: u8) -> bool {
    let ours = world.row.epoch == epoch;
    world.row.epoch += u8::from(ours);
    ours
}

/// A step in words.
pub(crate) fn words(step: &Step) -> String {
    let name = |process: &usize| ["A", "B"][*process];
    match step {
        Step::Claim(of) => format!("{} claims the shard", name(of)),
        Step::ClaimLost(of) => format!("{} claims the shard; no answer", name(of)),
        Step::Recover(of) => format!("{} reads what is above the watermark", name(of)),
        Step::Revoke(of) => format!("{} lets the shard go", name(of)),
        Step::ReplaceBroker => "  the broker is replaced, everybody starts anew".to_owned(),
        Step::Crash(of) => format!("{} crashes", name(of)),
        Step::Decide(of, input) => format!("{} sends a commit of {}", name(of), in_words(*input)),
        Step::Save(of) => format!("{} sends its watermark", name(of)),
        Step::Execute(of) => format!("  the database deals with what {} has sent", name(of)),
        Step::Answer(of) => format!("{} gets the answer", name(of)),
        Step::Lose(of) => format!("  the answer to {} is lost", name(of)),
        Step::Renew(of) => format!("{} finds out what became of it", name(of)),
        Step::RenewLost(of) => format!("{} wants to find out; no answer", name(of)),
        Step::Reread(of) => format!("{} asks which epoch is its own", name(of)),
        Step::Deliver(of, seq) => format!("  the broker takes record {seq} of {}", name(of)),
        Step::Acknowledge(of, seq) => format!("{} hears that record {seq} is delivered", name(of)),
        Step::Late(Late::Claim(of)) => format!("  the database carries out {}'s claim", name(of)),
        Step::Late(Late::Renew(epoch)) => format!("  the database deals with a renewal of epoch {epoch}"),
        Step::Late(Late::Commit(Commit { epoch, input: Some(input), .. })) => {
            format!("  the database deals with the commit of {} in epoch {epoch}", in_words(*input))
        }
        Step::Late(Late::Commit(Commit { published_seq, .. })) => {
            format!("  the database deals with the watermark {published_seq}")
        }
    }
}

fn in_words(input: Input) -> String {
    match input {
        Input::Reply(n) => format!("reply {n}"),
        Input::Start(n) => format!("start {n}"),
        Input::Note(n) => format!("note {n}"),
    }
}
