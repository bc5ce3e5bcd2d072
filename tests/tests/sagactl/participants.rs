//! Pausing and resuming participants, and who did it.

use std::time::Duration;

use insta::assert_snapshot;
use tests::scenario::on_own_stack;
use tests::stack::Options;
use tests::wait::becomes;

use crate::ran::{program, run, sagactl};

/// Until a ramp is over: where shards are taken over meanwhile it takes half a minute.
const RAMPED: Duration = Duration::from_secs(90);

const NONE_YET: Options =
    Options { orchestrators: 0, workers: false, forced_outcomes: true, gateway_latency_ms: 0 };

#[test]
fn a_participant_is_paused_and_resumed_by_somebody() {
    on_own_stack(NONE_YET, async |stack| {
        stack.tell("ACTOR_HEADER", "x-saga-actor");
        stack.start_orchestrator().await?;
        let pause = ["participant", "pause", "payment", "--reason", "the gateway is moved", "--as", "ann"];
        assert_snapshot!(sagactl(stack, &pause).await?.told(), @r"
        PARTICIPANT  STATE  CAUSE  SINCE  WAITING  REASON
        payment  paused  operator  TIME  0  the gateway is moved
        ---- exit 0
        ");
        let list = sagactl(stack, &["participant", "list"]).await?.told();
        assert!(list.contains("\nbooking  answering  -  -  0  -\n"), "{list}");
        assert!(list.contains("\npayment  paused  operator  TIME  0  the gateway is moved\n"), "{list}");
        let resume = ["participant", "resume", "payment", "--reason", "it is moved", "--json"];
        let mut resume = program(stack, &resume)?;
        resume.env("SAGACTL_ACTOR", "bob");
        assert_eq!(run(resume).await?.json()?["name"], "payment");
        becomes("payment", "answering".to_owned(), RAMPED, async || {
            let all = sagactl(stack, &["participant", "list", "--json"]).await?.json()?;
            let payment = all["items"].as_array().into_iter().flatten().find(|one| one["name"] == "payment");
            Ok(payment.map_or_else(String::new, |one| one["state"].as_str().unwrap_or_default().to_owned()))
        })
        .await?;
        let told = sagactl(stack, &["audit", "list"]).await?.told();
        // Without the definitions that were registered at the start.
        let by_hand: Vec<_> = told.lines().filter(|line| !line.contains("  register  ")).collect();
        assert_snapshot!(by_hand.join("\n"), @r"
        AT  ACTION  ACTOR  SAGA  DEAD LETTER  REASON
        WHEN  resume-participant  bob  -  -  it is moved
        WHEN  pause-participant  ann  -  -  the gateway is moved
        ---- exit 0
        ");
        let unknown = ["participant", "pause", "nobody", "--reason", "because"];
        assert_snapshot!(sagactl(stack, &unknown).await?.told().lines().last().unwrap_or_default(), @"---- exit 5");
        Ok(())
    });
}
