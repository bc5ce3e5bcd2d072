//! The model: which things can happen in a world, and what must be true in every one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use saga_defs::definition::{Definition, StepKind};
use saga_defs::saga::{State, Status};
use stateright::{Model, Property};

use crate::participants::{Handling, handlings, take};
use crate::quiet::forget;
use crate::rules::Rules;
use crate::sagas::{Happening, Sagas};
use crate::world::{Fault, Interventions, Sent, StepWorld, World};

/// The clock is read once in this many states.
const STATES_PER_LOOK_AT_THE_CLOCK: usize = 256;

/// What happens next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A participant takes a command.
    Work(Sent, Handling),
    /// Something happens to the saga.
    Saga(Happening),
}

/// What has to be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Law {
    NothingIsLeft,
    AllIsDone,
    NoReturn,
    Order,
    Once,
    NoDeadEnd,
    LeftIsLeft,
}

/// Why a search ended before it had seen everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// A world was found in which a law is broken.
    Found,
    /// It saw as many worlds as it may.
    States,
    /// It took as long as it may.
    Time,
}

/// How far a search went.
pub(crate) struct Search {
    most: usize,
    until: Instant,
    seen: AtomicUsize,
    pub(crate) end: OnceLock<End>,
    /// The search is over: now runs that were found are walked again.
    pub(crate) retelling: AtomicBool,
}

impl Search {
    fn goes_on(&self) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        if seen >= self.most {
            self.end.get_or_init(|| End::States);
        } else if seen.is_multiple_of(STATES_PER_LOOK_AT_THE_CLOCK) && Instant::now() >= self.until {
            self.end.get_or_init(|| End::Time);
        }
        self.end.get().is_none()
    }
}

pub(crate) struct Run<R> {
    pub(crate) sagas: Sagas<R>,
    pub(crate) search: Search,
    interventions: Interventions,
}

impl<R: Rules> Run<R> {
    /// A check that looks at no more than `states` worlds and ends soon after `until`.
    pub(crate) fn new(
        rules: R,
        definition: &Definition,
        interventions: Interventions,
        states: usize,
        until: Instant,
    ) -> Self {
        let search = Search {
            most: states,
            until,
            seen: AtomicUsize::new(0),
            end: OnceLock::new(),
            retelling: AtomicBool::new(false),
        };
        Self { sagas: Sagas::new(rules, definition), search, interventions }
    }

    fn status(&self, world: &World) -> Status {
        self.sagas.get(world.saga).status()
    }

    /// Whether a law is kept. Of those that break one, only the first world found counts, since its run is the shortest;
    /// the checker would keep a later one.
    fn keeps(&self, law: Law, world: &World) -> bool {
        self.is_kept(law, world) || self.search.end.set(End::Found).is_err()
    }

    fn is_kept(&self, law: Law, world: &World) -> bool {
        let all = |fine: fn(&StepWorld) -> bool| world.steps.iter().all(fine);
        match law {
            Law::NothingIsLeft => {
                self.status(world) != Status::Compensated || all(|step| step.done == 0 || step.undo.skipped)
            }
            Law::AllIsDone => {
                self.status(world) != Status::Completed || all(|step| step.done == 1 || step.forward.skipped)
            }
            Law::NoReturn => world.fault != Some(Fault::UndonePastThePivot),
            Law::Order => world.fault != Some(Fault::OutOfOrder),
            Law::Once => world.fault != Some(Fault::Twice),
            Law::NoDeadEnd => self.goes_on(world),
            Law::LeftIsLeft => world.fault != Some(Fault::MovedByWhatItLeft),
        }
    }

    /// Its timer moves a saga that waits; a word of an operator one that is stuck.
    fn goes_on(&self, world: &World) -> bool {
        let moves = |what| self.sagas.happen(world.saga, what).is_some();
        match self.sagas.get(world.saga).state {
            State::Awaiting(_) | State::Backoff { .. } => moves(Happening::Timer),
            State::Stuck { .. } => moves(Happening::Redrive) && moves(Happening::Skip),
            State::Completed | State::Compensated => true,
        }
    }

    fn happen(&self, world: &World, what: Happening) -> Option<World> {
        let moved = self.sagas.happen(world.saga, what)?;
        let mut next = world.clone();
        match (what, self.sagas.get(world.saga).current()) {
            (Happening::Unsendable | Happening::Withheld, Some(at)) => next.take_back(at),
            (Happening::Skip, Some(at)) => {
                next.talk_mut(at.into()).skipped = true;
                next.interventions_left.take_one();
            }
            (Happening::Redrive | Happening::Park, _) => next.interventions_left.take_one(),
            _ => {}
        }
        next.saga = moved.to;
        next.fault = moved.fault;
        if let Some(at) = moved.sends {
            next.send(at);
        }
        Some(next)
    }

    fn work(&self, world: &World, sent: Sent, handling: Handling) -> World {
        let mut next = world.clone();
        let awaited = match self.sagas.get(world.saga).state {
            State::Awaiting(at) => Some(Sent::from(at)),
            _ => None,
        };
        next.seen |= awaited == Some(sent);
        take(&self.sagas.rules, &mut next, sent, handling);
        next
    }
}

impl<R: Rules> Model for Run<R> {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let first = self.sagas.first();
        let mut world = World {
            saga: first.to,
            steps: vec![StepWorld::default(); self.sagas.definition.steps.len()],
            seen: false,
            interventions_left: self.interventions,
            fault: None,
        };
        first.sends.into_iter().for_each(|at| world.send(at));
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.search.seen.fetch_add(1, Ordering::Relaxed);
        let over = self.search.end.get().is_some() && !self.search.retelling.load(Ordering::Relaxed);
        if over || world.fault.is_some() {
            return;
        }
        for sent in world.commands() {
            actions.extend(
                handlings(&self.sagas.rules, world, sent).map(|handling| Action::Work(sent, handling)),
            );
        }
        actions.extend(world.replies().map(|(sent, answer)| Action::Saga(Happening::Reply(sent, answer))));
        actions.extend([Happening::Timer, Happening::RetryNow].map(Action::Saga));
        if self.interventions.is_some() {
            actions.extend([Happening::Deadline, Happening::Cancel].map(Action::Saga));
            if !world.seen {
                actions.extend([Happening::Unsendable, Happening::Withheld].map(Action::Saga));
            }
        }
        if world.interventions_left.is_some() {
            actions.extend([Happening::Redrive, Happening::Skip, Happening::Park].map(Action::Saga));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = match action {
            Action::Work(sent, handling) => self.work(world, sent, handling),
            Action::Saga(what) => self.happen(world, what)?,
        };
        forget(&self.sagas.rules, &self.sagas.get(next.saga), &mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("what is compensated leaves nothing done", |run: &Self, world| {
                run.keeps(Law::NothingIsLeft, world)
            }),
            Property::always("what is completed is all done", |run, world| run.keeps(Law::AllIsDone, world)),
            Property::always("nothing is undone past the point of no return", |run, world| {
                run.keeps(Law::NoReturn, world)
            }),
            Property::always("the last done is undone first", |run, world| run.keeps(Law::Order, world)),
            Property::always("nothing is done or undone twice", |run, world| run.keeps(Law::Once, world)),
            Property::always("whatever waits can go on", |run, world| run.keeps(Law::NoDeadEnd, world)),
            Property::always("a saga ignores replies to what it has left", |run, world| {
                run.keeps(Law::LeftIsLeft, world)
            }),
            Property::sometimes("some run completes", |run, world| run.status(world) == Status::Completed),
            Property::sometimes("some run gets stuck", |run, world| run.status(world) == Status::Stuck),
        ];
        let first = self.sagas.definition.steps.first().map(|step| &step.kind);
        if matches!(first, Some(StepKind::Compensatable { .. } | StepKind::Pivot)) {
            properties.push(Property::sometimes("some run is compensated", |run, world| {
                run.status(world) == Status::Compensated
            }));
        }
        properties
    }

    fn within_boundary(&self, _: &World) -> bool {
        self.search.goes_on()
    }
}
