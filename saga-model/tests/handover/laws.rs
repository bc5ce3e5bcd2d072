//! What must be true in every world.

use std::collections::BTreeSet;

use stateright::Property;

use crate::steps::Shard;
use crate::world::{Doing, Fault, Input, World};

pub(crate) fn laws() -> Vec<Property<Shard>> {
    vec![
        Property::always("everything up to the watermark is published", |shard: &Shard, world: &World| {
            shard.keeps(
                (1..=world.row.published_seq).all(|seq| world.published.iter().any(|(of, _)| *of == seq)),
            )
        }),
        Property::always(
            "the owner publishes everything that is committed",
            |shard: &Shard, world: &World| {
                shard.keeps([0, 1].into_iter().filter_map(|process| world.owner(process)).all(|owner| {
                    let acting = owner.epoch == world.row.epoch && owner.doing == Doing::Nothing;
                    !acting
                        || rows(world).all(|row| {
                            world.published.contains(&row) || owner.unpublished.contains_key(&row.0)
                        })
                }))
            },
        ),
        Property::always("nothing is published that is not committed", |shard: &Shard, world: &World| {
            shard.keeps(world.published.iter().all(|row| rows(world).any(|committed| committed == *row)))
        }),
        Property::always("no epoch commits after a newer one has begun", |shard: &Shard, world: &World| {
            shard.keeps(world.fault != Some(Fault::OldEpoch))
        }),
        Property::always("the journal has no gap and no repetition", |shard: &Shard, world: &World| {
            shard.keeps(
                world.fault != Some(Fault::Gap) && usize::from(world.row.next_seq) == world.journal.len() + 1,
            )
        }),
        Property::always("each input is applied at most once", |shard: &Shard, world: &World| {
            shard.keeps(world.journal.iter().collect::<BTreeSet<_>>().len() == world.journal.len())
        }),
        Property::always("what is said to have happened has happened", |shard: &Shard, world: &World| {
            shard.keeps(world.told.iter().all(|input| match input {
                Input::Note(n) => world.notes.contains(n),
                Input::Reply(_) | Input::Start(_) => world.journal.contains(input),
            }))
        }),
        Property::always(
            "the owner asks for what is waited for on this broker",
            |shard: &Shard, world: &World| {
                // One saga: what it waits for is the answer to its last command.
                let last = world.journal.len() as u8;
                shard.keeps([0, 1].into_iter().filter_map(|process| world.owner(process)).all(|owner| {
                    let acting = owner.epoch == world.row.epoch && owner.doing == Doing::Nothing;
                    let asked = owner.unpublished.contains_key(&last) || owner.again == Some(last);
                    !acting || last == 0 || world.here.contains(&last) || asked
                }))
            },
        ),
        Property::sometimes("everything is done by the second owner", |shard: &Shard, world: &World| {
            let all = usize::from(shard.few.starts + shard.few.replies);
            world.row.owner == Some(1)
                && world.published.len() == all
                && usize::from(world.row.published_seq) == all
        }),
    ]
}

/// The journal's rows with their numbers.
fn rows(world: &World) -> impl Iterator<Item = (u8, Input)> {
    (1..).zip(world.journal.iter().copied())
}
