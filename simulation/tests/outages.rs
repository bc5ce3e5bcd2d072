//! Outages that last, in virtual time: nothing is lost, no attempt is burned, and nobody is stormed afterwards.
#![cfg(test)]

use std::time::Duration;

use simulation::outage::{Away, Outage, Outcome, pass};

fn outcome(outage: Outage) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let outcome = runtime.unwrap().block_on(pass(outage));
    println!("{outage:?}: {outcome:?}");
    assert_eq!(outcome.report.violations, [""; 0], "seed {}", outage.seed);
    outcome
}

#[test]
fn a_broker_that_is_away_for_ten_minutes_burns_no_attempts() {
    let length = Duration::from_secs(600);
    let all = outcome(Outage { seed: 1, away: Away::Broker, length, clients: 6 });
    assert!(all.meanwhile > 20 * all.before, "starts are taken all the time");
    assert_eq!((all.tried_again_meanwhile, all.not_completed), (0, 0), "attempts were burned");
    // The crowd comes all at once then, and a participant here does some thirty a second: some are asked for again.
    assert!(all.tried_again * 20 <= all.commands, "a storm");
    // One for whoever was owner, and one for each rebalance that the way back into the group takes.
    assert!(all.copies <= 3 * all.meanwhile, "a storm");
    // Each saga has two records that wait, and a producer gives up on one every 8 s.
    assert!(all.most_unpublished <= 2 * all.meanwhile);
    assert!(all.sendings <= 2 * all.meanwhile as u64 * (600 / 8 + 2));
    assert!(all.recovered_after < Duration::from_secs(60));
}

#[test]
fn a_database_that_is_away_for_two_minutes_burns_no_attempts() {
    let length = Duration::from_secs(120);
    let all = outcome(Outage { seed: 1, away: Away::Database, length, clients: 20 });
    assert_eq!(all.meanwhile, all.before, "no start is taken");
    assert_eq!((all.tried_again, all.not_completed), (0, 0), "attempts were burned");
    assert!(all.copies <= 2 * all.before, "a storm");
    assert!(all.recovered_after < Duration::from_secs(10));
}
