use crate::support::{Folder, Running, all_gone, descendants, eventually, get, on, run};

/// How many sagas the orchestrator has accepted since its start.
fn started(api: &str) -> u64 {
    let line = "saga_started_total{definition=\"booking\"} ";
    let metrics = get(api, "/metrics");
    let number = metrics.lines().find_map(|text| text.strip_prefix(line));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn kill_9_in_the_middle_of_a_burst_loses_nothing_and_doubles_nothing() {
    let folder = Folder::new();
    let burst = ["--exit", "--bookings", "600"];
    let mut stack = Running::start(on(&folder, &burst));
    let api = stack.api();
    eventually("the middle of the burst", || (started(&api) > 200).then_some(()));
    let below = descendants(stack.pid());
    stack.signal(libc::SIGKILL);
    all_gone(&below);
    assert!(!stack.said().contains("asked for"), "it was over before it was killed:\n{}", stack.said());

    // 600 of the burst, and two shown by each start.
    run(on(&folder, &burst)).check(&[
        "sagas of earlier runs",
        "the burst that was interrupted goes on, under the same idempotency keys",
        "completed       540\n",
        "compensated     60\n",
        "unexpected      0\n",
        "tables          604 bookings ever: 542 completed, 62 compensated; 542 charges, 0 refunds",
        "no effect twice, none missing",
    ]);
}
