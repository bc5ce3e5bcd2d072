//! What is observed, and how a participant is then: a line for each word of a script.

use std::fmt::Write as _;

use insta::assert_snapshot;

use super::*;

const BEGIN: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
const LIMITS: Limits = Limits {
    sagas: 3,
    silence: Duration::from_secs(2),
    first_probe: Duration::from_secs(1),
    last_probe: Duration::from_secs(4),
};

fn saga(n: u8) -> SagaId {
    SagaId::new(BEGIN, [n; 10])
}

fn said(health: &Health) -> String {
    let at = |at: Timestamp| format!("{:?}", at.since(BEGIN));
    match health {
        Health::Answering { trouble, .. } if trouble.sagas.is_empty() => "answering".to_owned(),
        Health::Answering { trouble, .. } => format!("answering, {} in trouble", trouble.sagas.len()),
        Health::Held(hold) if hold.cause == Cause::Operator => "paused".to_owned(),
        Health::Held(hold) => format!("held for {}, probe at {}", hold.cause.as_str(), at(hold.next_probe)),
        Health::Ramping { credit, answered, .. } => format!("ramping, {credit} may go, {answered} answered"),
    }
}

/// Plays words with commas: `ok`, `late`, `failed N`, `silent N`, `pause`, `resume`, `+TIME`, and `WAITING?`: how many may go of so
/// many that wait.
fn play(script: &str) -> String {
    let (mut health, mut now, mut out) = (Health::default(), BEGIN, String::new());
    for phrase in script.split(',').map(str::trim) {
        let words: Vec<&str> = phrase.split(' ').collect();
        let number = |text: &str| saga(text.parse().expect("a number"));
        let mut note = String::new();
        match words.as_slice() {
            ["ok"] => health.observe(now, Seen::Answered, &LIMITS),
            ["late"] => health.observe(now, Seen::Late, &LIMITS),
            ["failed", n] => health.observe(now, Seen::Failed(number(n)), &LIMITS),
            ["silent", n] => health.observe(now, Seen::Silent(number(n)), &LIMITS),
            ["pause"] => health.observe(now, Seen::Paused, &LIMITS),
            ["resume"] => health.observe(now, Seen::Resumed, &LIMITS),
            [wait] if wait.starts_with('+') => {
                now = now.after(humantime::parse_duration(&wait[1..]).expect("a time"));
                continue;
            }
            [asked] => {
                let waiting = asked.trim_end_matches('?').parse().expect("a number");
                note = format!(" {:?}", health.grant(now, waiting, 500, &LIMITS));
            }
            _ => panic!("not a phrase: {phrase}"),
        }
        writeln!(out, "{:>5} {phrase:9} -> {}{note}", format!("{:?}", now.since(BEGIN)), said(&health))
            .expect("text");
    }
    out
}

#[test]
fn one_saga_alone_holds_nobody() {
    assert_snapshot!(play("ok, +5s, silent 1, +5s, silent 1, +5s, failed 1, +5s, failed 1"), @"
    0ns ok        -> answering
     5s silent 1  -> answering, 1 in trouble
    10s silent 1  -> answering, 1 in trouble
    15s failed 1  -> answering, 1 in trouble
    20s failed 1  -> answering, 1 in trouble
    ");
}

#[test]
fn a_success_between_is_enough() {
    assert_snapshot!(play("ok, +5s, silent 1, silent 2, ok, silent 3, silent 4"), @"
    0ns ok        -> answering
     5s silent 1  -> answering, 1 in trouble
     5s silent 2  -> answering, 2 in trouble
     5s ok        -> answering
     5s silent 3  -> answering, 1 in trouble
     5s silent 4  -> answering, 2 in trouble
    ");
}

#[test]
fn many_in_no_time_are_waited_for_a_little() {
    assert_snapshot!(play("ok, +1s, failed 1, failed 2, failed 3, failed 4, +1s, failed 5"), @"
    0ns ok        -> answering
     1s failed 1  -> answering, 1 in trouble
     1s failed 2  -> answering, 2 in trouble
     1s failed 3  -> answering, 3 in trouble
     1s failed 4  -> answering, 3 in trouble
     2s failed 5  -> held for failures, probe at 3s
    ");
}

#[test]
fn silence_is_held_and_probed_more_and_more_seldom() {
    assert_snapshot!(play("ok, +5s, silent 1, silent 2, silent 3, silent 4, 9?, +1s, 9?, 9?, +1s, 9?, +1s, 9?, +4s, 9?, +4s, 9?"), @"
    0ns ok        -> answering
     5s silent 1  -> answering, 1 in trouble
     5s silent 2  -> answering, 2 in trouble
     5s silent 3  -> held for silence, probe at 6s
     5s silent 4  -> held for silence, probe at 6s
     5s 9?        -> held for silence, probe at 6s Go(0)
     6s 9?        -> held for silence, probe at 8s Probe
     6s 9?        -> held for silence, probe at 8s Go(0)
     7s 9?        -> held for silence, probe at 8s Go(0)
     8s 9?        -> held for silence, probe at 12s Probe
    12s 9?        -> held for silence, probe at 16s Probe
    16s 9?        -> held for silence, probe at 20s Probe
    ");
}

#[test]
fn the_ramp_follows_the_answers() {
    assert_snapshot!(play("+5s, silent 1, silent 2, +3s, silent 3, +1s, 200?, +1s, ok, 199?, 195?, ok, ok, ok, +1s, 195?, +1s, 184?, ok, +500ms, 183?, +500ms, 183?, ok, ok, ok, ok, ok, ok, ok, ok, ok, ok, ok, +1s, 8?"), @"
       5s silent 1  -> answering, 1 in trouble
       5s silent 2  -> answering, 2 in trouble
       8s silent 3  -> held for silence, probe at 9s
       9s 200?      -> held for silence, probe at 11s Probe
      10s ok        -> ramping, 0 may go, 1 answered
      10s 199?      -> ramping, 0 may go, 0 answered Go(4)
      10s 195?      -> ramping, 0 may go, 0 answered Go(0)
      10s ok        -> ramping, 0 may go, 1 answered
      10s ok        -> ramping, 0 may go, 2 answered
      10s ok        -> ramping, 0 may go, 3 answered
      11s 195?      -> ramping, 0 may go, 0 answered Go(11)
      12s 184?      -> ramping, 0 may go, 0 answered Go(1)
      12s ok        -> ramping, 0 may go, 1 answered
    12.5s 183?      -> ramping, 0 may go, 1 answered Go(0)
      13s 183?      -> ramping, 0 may go, 0 answered Go(1)
      13s ok        -> ramping, 0 may go, 1 answered
      13s ok        -> ramping, 0 may go, 2 answered
      13s ok        -> ramping, 0 may go, 3 answered
      13s ok        -> ramping, 0 may go, 4 answered
      13s ok        -> ramping, 0 may go, 5 answered
      13s ok        -> ramping, 0 may go, 6 answered
      13s ok        -> ramping, 0 may go, 7 answered
      13s ok        -> ramping, 0 may go, 8 answered
      13s ok        -> ramping, 0 may go, 9 answered
      13s ok        -> ramping, 0 may go, 10 answered
      13s ok        -> ramping, 0 may go, 11 answered
      14s 8?        -> answering Go(8)
    ");
}

#[test]
fn trouble_ends_a_ramp() {
    assert_snapshot!(play("+5s, failed 1, +3s, failed 2, failed 3, +1s, 50?, ok, 49?, silent 4, silent 5, silent 6, +2s, 45?"), @"
     5s failed 1  -> answering, 1 in trouble
     8s failed 2  -> answering, 2 in trouble
     8s failed 3  -> held for failures, probe at 9s
     9s 50?       -> held for failures, probe at 11s Probe
     9s ok        -> ramping, 0 may go, 1 answered
     9s 49?       -> ramping, 0 may go, 0 answered Go(4)
     9s silent 4  -> ramping, 0 may go, 0 answered
     9s silent 5  -> ramping, 0 may go, 0 answered
     9s silent 6  -> held for silence, probe at 13s
    11s 45?       -> held for silence, probe at 13s Go(0)
    ");
}

#[test]
fn nobody_waits_any_more() {
    assert_snapshot!(play("+5s, failed 1, +3s, failed 2, failed 3, 0?, +1s, 1?, 0?, +9s, 0?, ok, 0?"), @"
     5s failed 1  -> answering, 1 in trouble
     8s failed 2  -> answering, 2 in trouble
     8s failed 3  -> held for failures, probe at 9s
     8s 0?        -> held for failures, probe at 9s Go(0)
     9s 1?        -> held for failures, probe at 11s Probe
     9s 0?        -> held for failures, probe at 11s Go(0)
    18s 0?        -> held for failures, probe at 11s Go(0)
    18s ok        -> ramping, 0 may go, 1 answered
    18s 0?        -> answering Go(0)
    ");
}

#[test]
fn an_operator_pauses_and_resumes() {
    assert_snapshot!(play("ok, pause, ok, 7?, +1h, 7?, pause, resume, 7?, +1s, 6?, ok, +1s, 5?, +1s, 1?, resume"), @"
      0ns ok        -> answering
      0ns pause     -> paused
      0ns ok        -> paused
      0ns 7?        -> paused Go(0)
    3600s 7?        -> paused Go(0)
    3600s pause     -> paused
    3600s resume    -> ramping, 0 may go, 0 answered
    3600s 7?        -> ramping, 0 may go, 0 answered Go(1)
    3601s 6?        -> ramping, 0 may go, 0 answered Go(1)
    3601s ok        -> ramping, 0 may go, 1 answered
    3602s 5?        -> ramping, 0 may go, 0 answered Go(3)
    3603s 1?        -> answering Go(1)
    3603s resume    -> answering
    ");
}

#[test]
fn an_operator_resumes_what_is_held() {
    assert_snapshot!(play("+5s, failed 1, +3s, failed 2, failed 3, resume, 5?, pause, resume"), @"
    5s failed 1  -> answering, 1 in trouble
    8s failed 2  -> answering, 2 in trouble
    8s failed 3  -> held for failures, probe at 9s
    8s resume    -> ramping, 0 may go, 0 answered
    8s 5?        -> ramping, 0 may go, 0 answered Go(1)
    8s pause     -> paused
    8s resume    -> ramping, 0 may go, 0 answered
    ");
}

/// It is there: it is asked at once whether it answers in time. But whoever only answers too late is held.
#[test]
fn what_is_late_brings_the_next_probe() {
    assert_snapshot!(play("silent 1, silent 2, late, silent 3, late, 9?, late, 9?, +1s, 9?, +1s, 9?, +1s, late, 9?, ok, late, pause, late"), @"
    0ns silent 1  -> answering, 1 in trouble
    0ns silent 2  -> answering, 2 in trouble
    0ns late      -> answering, 2 in trouble
    0ns silent 3  -> held for silence, probe at 1s
    0ns late      -> held for silence, probe at 0ns
    0ns 9?        -> held for silence, probe at 2s Probe
    0ns late      -> held for silence, probe at 1s
    0ns 9?        -> held for silence, probe at 1s Go(0)
     1s 9?        -> held for silence, probe at 5s Probe
     2s 9?        -> held for silence, probe at 5s Go(0)
     3s late      -> held for silence, probe at 3s
     3s 9?        -> held for silence, probe at 7s Probe
     3s ok        -> ramping, 0 may go, 1 answered
     3s late      -> ramping, 0 may go, 1 answered
     3s pause     -> paused
     3s late      -> paused
    ");
}

#[test]
fn nobody_is_held_where_it_is_switched_off() {
    let limits = Limits { sagas: 0, ..LIMITS };
    let mut health = Health::default();
    for n in 0..100 {
        health.observe(BEGIN.after(Duration::from_secs(n.into())), Seen::Silent(saga(n)), &limits);
    }
    assert_eq!(health, Health::default());
}

#[test]
fn a_hold_that_nobody_waits_for_ends_when_its_probe_is_due() {
    assert_snapshot!(play("silent 1, silent 2, silent 3, 0?, +1s, 0?, silent 1, +1h, 0?, pause, +1h, 0?"), @"
      0ns silent 1  -> answering, 1 in trouble
      0ns silent 2  -> answering, 2 in trouble
      0ns silent 3  -> held for silence, probe at 1s
      0ns 0?        -> held for silence, probe at 1s Go(0)
       1s 0?        -> answering Go(0)
       1s silent 1  -> answering, 1 in trouble
    3601s 0?        -> answering, 1 in trouble Go(0)
    3601s pause     -> paused
    7201s 0?        -> paused Go(0)
    ");
}

/// One that does 500 in a second, and for which 20,000 wait, never has more before it than it does in four.
#[test]
fn a_participant_that_cannot_keep_up_is_not_buried() {
    let (mut health, mut now) = (Health::default(), BEGIN);
    health.observe(now, Seen::Paused, &LIMITS);
    health.observe(now, Seen::Resumed, &LIMITS);
    let (mut waiting, mut queued, mut most, mut seconds) = (20_000, 0, 0, 0);
    while waiting + queued > 0 {
        let Grant::Go(go) = health.grant(now, waiting, usize::MAX, &LIMITS) else { panic!("not held") };
        (waiting, queued) = (waiting - go, queued + go);
        most = most.max(queued);
        now = now.after(RAMP_INTERVAL);
        for _ in 0..queued.min(500) {
            health.observe(now, Seen::Answered, &LIMITS);
        }
        queued -= queued.min(500);
        seconds += 1;
    }
    assert_eq!((most, seconds, health.is_answering()), (2_000, 45, true));
}
