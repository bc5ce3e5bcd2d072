//! Runs as transcripts: what is asked, what happens, what is decided.

use insta::assert_snapshot;

use super::*;

const START: Timestamp = Timestamp::from_unix_millis(1_000_000);

/// What happens in a transcript.
enum Happens {
    /// So many milliseconds later.
    Later(u64),
    Sent(u32),
    Passed(u32),
    Succeeded(u32),
    Failed(u32),
    /// The driver dies, and another one goes on from what was kept.
    Crash,
}
use Happens::{Crash, Failed, Later, Passed, Sent, Succeeded};

/// A line for each thing that happens, and what is to be done afterwards.
fn transcript(plan: &Plan, happens: &[Happens]) -> String {
    let mut now = START;
    let mut run = Run::new(plan.clone(), Progress::default(), now);
    let mut lines = vec![format!("{:<13} -> {}", "begin", shown(&run.next(now)))];
    for one in happens {
        let what = match one {
            Later(millis) => {
                now = now.after(Duration::from_millis(*millis));
                format!("{millis} ms later")
            }
            Sent(count) => {
                run.sent(*count, now);
                format!("sent {count}")
            }
            Passed(count) => {
                (0..*count).for_each(|_| run.passed_over("saga_ended"));
                format!("passed {count}")
            }
            Succeeded(count) => {
                (0..*count).for_each(|_| run.outcome(Outcome::Succeeded));
                format!("succeeded {count}")
            }
            Failed(count) => {
                (0..*count).for_each(|_| run.outcome(Outcome::FailedAgain));
                format!("failed {count}")
            }
            Crash => {
                let kept = serde_json::to_string(run.progress()).expect("it has a form");
                run = Run::new(plan.clone(), serde_json::from_str(&kept).expect("it is read back"), now);
                "crash".to_owned()
            }
        };
        lines.push(format!("{what:<13} -> {}", shown(&run.next(now))));
    }
    lines.join("\n")
}

fn shown(next: &Next) -> String {
    match next {
        Next::Send { at_most } => format!("send {at_most}"),
        Next::Pause { until } => format!("pause until {} ms", until.since(START).as_millis()),
        Next::Outcomes => "wait for outcomes".to_owned(),
        Next::Stop { failed, of } => format!("stop: {failed} of the last {of} failed again"),
        Next::Done => "done".to_owned(),
    }
}

fn plan(selected: u32, ramp: &[u32], rate: u32) -> Plan {
    Plan { selected, ramp: ramp.to_vec(), rate }
}

#[test]
fn a_ramp_waits_for_the_outcome_of_each_step() {
    let happens = [
        Sent(1),
        Later(1_000),
        Succeeded(1),
        Sent(5),
        Later(1_000),
        Succeeded(4),
        Succeeded(1),
        Later(1_000),
        Sent(14),
        Later(1_000),
        Succeeded(14),
    ];
    assert_snapshot!(transcript(&plan(20, &[1, 5, 50], 100), &happens), @r"
    begin         -> send 1
    sent 1        -> wait for outcomes
    1000 ms later -> wait for outcomes
    succeeded 1   -> send 5
    sent 5        -> wait for outcomes
    1000 ms later -> wait for outcomes
    succeeded 4   -> wait for outcomes
    succeeded 1   -> send 14
    1000 ms later -> send 14
    sent 14       -> wait for outcomes
    1000 ms later -> wait for outcomes
    succeeded 14  -> done
    ");
}

#[test]
fn one_that_fails_again_stops_the_first_steps() {
    assert_snapshot!(transcript(&plan(500, &[1, 5, 50], 100), &[Sent(1), Later(10), Failed(1)]), @r"
    begin         -> send 1
    sent 1        -> wait for outcomes
    10 ms later   -> wait for outcomes
    failed 1      -> stop: 1 of the last 1 failed again
    ");
    let second = [Sent(1), Later(10), Succeeded(1), Sent(5), Later(100), Succeeded(3), Failed(1)];
    assert_snapshot!(transcript(&plan(500, &[1, 5, 50], 100), &second), @r"
    begin         -> send 1
    sent 1        -> wait for outcomes
    10 ms later   -> wait for outcomes
    succeeded 1   -> send 1
    sent 5        -> wait for outcomes
    100 ms later  -> wait for outcomes
    succeeded 3   -> wait for outcomes
    failed 1      -> stop: 1 of the last 4 failed again
    ");
}

#[test]
fn a_large_step_bears_one_in_ten() {
    let happens = [Later(60_000), Sent(20), Failed(5), Succeeded(15), Sent(80), Failed(1)];
    assert_snapshot!(transcript(&plan(500, &[], 100), &happens), @r"
    begin         -> send 1
    60000 ms later -> send 21
    sent 20       -> send 1
    failed 5      -> send 1
    succeeded 15  -> send 1
    sent 80       -> pause until 60800 ms
    failed 1      -> stop: 6 of the last 21 failed again
    ");
    // What is long ago does not count.
    let happens = [Sent(20), Failed(5), Later(9_000), Succeeded(50), Sent(80), Failed(5)];
    assert_snapshot!(transcript(&plan(500, &[], 100), &happens), @r"
    begin         -> send 1
    sent 20       -> pause until 200 ms
    failed 5      -> pause until 200 ms
    9000 ms later -> send 21
    succeeded 50  -> send 21
    sent 80       -> pause until 9600 ms
    failed 5      -> pause until 9600 ms
    ");
}

#[test]
fn the_rate_holds_and_a_pause_is_not_made_up_for() {
    let happens = [Sent(1), Later(50), Later(50), Sent(1), Later(10_000), Sent(3), Later(99), Later(1)];
    assert_snapshot!(transcript(&plan(500, &[], 10), &happens), @r"
    begin         -> send 1
    sent 1        -> pause until 100 ms
    50 ms later   -> pause until 100 ms
    50 ms later   -> send 1
    sent 1        -> pause until 200 ms
    10000 ms later -> send 3
    sent 3        -> pause until 10200 ms
    99 ms later   -> pause until 10200 ms
    1 ms later    -> send 1
    ");
}

#[test]
fn what_is_passed_over_takes_no_place_in_a_step() {
    let happens =
        [Passed(3), Sent(1), Later(100), Succeeded(1), Passed(4), Sent(2), Later(100), Succeeded(2)];
    assert_snapshot!(transcript(&plan(10, &[1, 5, 50], 100), &happens), @r"
    begin         -> send 1
    passed 3      -> send 1
    sent 1        -> wait for outcomes
    100 ms later  -> wait for outcomes
    succeeded 1   -> send 5
    passed 4      -> send 2
    sent 2        -> wait for outcomes
    100 ms later  -> wait for outcomes
    succeeded 2   -> done
    ");
}

#[test]
fn after_a_crash_it_goes_on_where_it_was() {
    let happens = [Sent(1), Succeeded(1), Sent(5), Crash, Succeeded(4), Crash, Failed(1)];
    assert_snapshot!(transcript(&plan(500, &[1, 5, 50], 1_000), &happens), @r"
    begin         -> send 1
    sent 1        -> wait for outcomes
    succeeded 1   -> pause until 1 ms
    sent 5        -> wait for outcomes
    crash         -> wait for outcomes
    succeeded 4   -> wait for outcomes
    crash         -> wait for outcomes
    failed 1      -> stop: 1 of the last 5 failed again
    ");
}

#[test]
fn the_rest_goes_out_with_a_bounded_number_of_outcomes_outstanding() {
    let happens = [Sent(900), Later(60_000), Sent(100), Later(60_000), Succeeded(10), Later(1_000)];
    let rest = transcript(&plan(5_000, &[], 1_000), &happens);
    assert_eq!(transcript(&plan(5_000, &[4_000], 1_000), &happens), rest, "a large step is no different");
    assert_snapshot!(rest, @r"
    begin         -> send 1
    sent 900      -> pause until 900 ms
    60000 ms later -> send 100
    sent 100      -> wait for outcomes
    60000 ms later -> wait for outcomes
    succeeded 10  -> send 10
    1000 ms later -> send 10
    ");
}

#[test]
fn nothing_chosen_is_done_at_once() {
    assert_snapshot!(transcript(&plan(0, &[1, 5, 50], 1), &[]), @"begin         -> done");
}
