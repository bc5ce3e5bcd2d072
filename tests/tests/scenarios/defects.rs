//! A defect of ours that some sagas come upon: it is theirs alone.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::api::{BookingRequest, id};
use tests::load::{Accepted, End, Load};
use tests::oracle::check;
use tests::scenario::on_own_stack;
use tests::stack::Options;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_panic_parks_one_saga_and_the_others_go_on() {
    on_own_stack(Options { orchestrators: 0, ..Options::default() }, async |stack| {
        stack.tell("PANIC_AT", "start:unlucky,reply:poisoned");
        let orchestrator = stack.start_orchestrator().await?;
        let load = Load::of(8);
        let disturb = async {
            load.accepts(5, LONG).await?;
            let start = |key: &str| {
                let input = BookingRequest::default().body();
                let body = json!({"definition": "booking", "businessKey": key, "input": input});
                let api = orchestrator.api.clone();
                async move { api.post("/api/sagas", &body).await }
            };
            let refused = start("unlucky").await?;
            ensure!(refused.problem()?.starts_with("500 internal"), "{refused:?}");
            let poisoned = id(&start("poisoned").await?.expect(201)?, "sagaId")?;
            orchestrator.api.saga_is(poisoned, "stuck").await?;
            load.accepts(30, LONG).await?;
            load.stop();
            anyhow::Ok(poisoned)
        };
        let ((), poisoned) = tokio::try_join!(load.run(stack), disturb)?;
        ensure!(orchestrator.service.is_running(), "the process has ended");
        let view = orchestrator.api.saga(poisoned).await?;
        ensure!(view["steps"][0]["error"]["code"] == "defect", "{view}");
        let metrics = orchestrator.api.get("/metrics").await?.text;
        let panics = metrics.lines().find_map(|line| line.strip_prefix("saga_panics_total "));
        ensure!(panics.is_some_and(|count| count.parse::<u32>().is_ok_and(|count| count >= 2)), "{metrics}");

        // The next release does without the defect.
        stack.tell("PANIC_AT", "");
        orchestrator.service.kill()?;
        let api = stack.start_orchestrator().await?.api.clone();
        api.act(poisoned, "redrive").await?.expect(200)?;
        api.saga_is(poisoned, "completed").await?;
        let mut accepted = load.accepted();
        accepted.push(Accepted { saga: poisoned, end: End::Completed });
        check(stack, &accepted).await?;
        Ok(())
    });
}
