//! Processes that die at every point where something is done and something else is not yet.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use participant::crash::Point;
use tests::crashes::{Case, Deaths, cases};
use tests::oracle::check_planted;
use tests::scenario::on_own_stack;
use tests::stack::{Options, Stack};

/// Most of a case is waiting for a group to notice that a member is gone, so that several stacks share the machine.
const STACKS: usize = 4;

#[test]
fn every_process_may_die_at_every_point_of_every_step() {
    if tests::kafka::is_real() {
        // A group there takes many times as long to notice a death, and what is looked at is ours, not the broker's.
        return;
    }
    let queue = Mutex::new(cases());
    let struck = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..STACKS {
            let bare = Options { orchestrators: 0, workers: false, ..Options::default() };
            let work = async |stack: &Stack| work(stack, &queue, &struck).await;
            scope.spawn(move || on_own_stack(bare, work));
        }
    });
    let struck = struck.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(struck, Point::ALL.iter().copied().collect(), "a point is left out");
}

async fn work(stack: &Stack, queue: &Mutex<VecDeque<Case>>, struck: &Mutex<BTreeSet<Point>>) -> Result<()> {
    let deaths = Deaths::on(stack).await?;
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(case) = next else { break };
        let begun = Instant::now();
        let times = deaths.of(case).await?;
        println!("{times:2} deaths in {:5.1} s: {case}", begun.elapsed().as_secs_f64());
    }
    check_planted(stack, &deaths.accepted(), deaths.planted()).await?;
    struck.lock().unwrap_or_else(PoisonError::into_inner).extend(deaths.struck());
    Ok(())
}
