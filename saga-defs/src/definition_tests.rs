use super::*;

const BOOKING: &str = include_str!("../definitions/booking.toml");

#[test]
fn the_booking_is_read() {
    let booking = Definition::parse(BOOKING).unwrap();
    assert_eq!(booking.id.to_string(), "booking version 1");
    assert_eq!(booking.id_field(), "bookingId");
    assert_eq!(booking.deadline, Duration::from_secs(900));
    let names: Vec<&str> = booking.steps.iter().map(|step| &*step.name).collect();
    assert_eq!(names, ["reserve-booking", "charge-payment", "confirm-booking"]);
    assert_eq!(booking.steps[0].compensation_retry.max_attempts, 10);
    assert_eq!(booking.steps[1].timeout, Duration::from_secs(5));
    assert_eq!(booking.steps[1].with["reference"], "bookingId");
    assert_eq!(booking.participants(), ["booking".into(), "payment".into()]);
}

#[test]
fn toml_has_several_ways_to_say_the_same() {
    let one = "name = 'n'\nversion = 1_0\ninput = 't.Input'\n[[step]]\nname = 'a'\nparticipant = 'p'\nkind = 'pivot'\n\
               command = 't.Do'\nreply = 't.Done'\nwith = { x = 'y', z = 'y' }\nretry = { max_attempts = 3, multiplier = 2.0 }\n";
    let other = "version = 0xA\n\"name\" = \"n\"\ninput = \"\"\"t.Input\"\"\"\n[[step]]\nreply = \"t.D\\u006fne\"\ncommand = 't.Do'\n\
                 kind = 'pivot'\nname = 'a'\nparticipant = 'p'\nwith.x = 'y'\nwith.z = 'y'\n[step.retry]\nmax_attempts = +3\nmultiplier = 2\n";
    let inline = "name = 'n'\nversion = 10\ninput = 't.Input'\nstep = [{ name = 'a', participant = 'p', kind = 'pivot', command = 't.Do', \
                  reply = 't.Done', with = { x = 'y', z = 'y' }, retry = { max_attempts = 3 } }]";
    let one = Definition::parse(one).unwrap();
    assert!(one.same_recipe(&Definition::parse(other).unwrap()));
    assert!(one.same_recipe(&Definition::parse(inline).unwrap()));
}

/// Published texts leave defaults out and are parsed again at every start: another default would change what was
/// published, under sagas that run.
#[test]
fn defaults_never_change() {
    let text = "name = 'n'\nversion = 1\ninput = 't.Input'\n".to_owned() + &step("a", "compensatable");
    let printed = Definition::parse(&text).unwrap().to_toml();
    for line in [
        "deadline = \"15m\"",
        "timeout = \"5s\"",
        "retry = { max_attempts = 5, initial = \"200ms\", max = \"10s\", multiplier = 2.0, jitter = 0.2 }",
        "compensation_retry = { max_attempts = 10, initial = \"500ms\", max = \"1m\", multiplier = 2.0, jitter = 0.2 }",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in\n{printed}");
    }
}

/// A step of that kind, with a compensation if the kind has one.
fn step(name: &str, kind: &str) -> String {
    let compensation = if kind == "compensatable" { "compensation = \"t.Undo\"\n" } else { "" };
    format!(
        "[[step]]\nname = \"{name}\"\nparticipant = \"p\"\nkind = \"{kind}\"\ncommand = \"t.Do\"\nreply = \"t.Done\"\n{compensation}"
    )
}

/// Whether steps of these kinds are refused for their order, and the recipe is at hand all the same.
#[track_caller]
fn check_order(kinds: &str, faults: usize) {
    let mut text = "name = \"n\"\nversion = 1\ninput = \"t.Input\"\n".to_owned();
    for (at, kind) in kinds.split(' ').enumerate() {
        text.push_str(&step(&at.to_string(), kind));
    }
    match Definition::parse(&text) {
        Ok(_) => assert_eq!(faults, 0, "{kinds} is taken"),
        Err(error) => {
            assert_eq!(error.problems.len(), faults, "{kinds}: {error}");
            assert!(error.problems.iter().all(|problem| text[problem.span.clone()].starts_with('"')));
            let misordered = error.misordered.expect("the order is the only fault");
            assert_eq!(misordered.steps.len(), kinds.split(' ').count());
        }
    }
}

#[test]
fn the_order_of_kinds_is_held() {
    check_order("compensatable pivot retriable", 0);
    check_order("compensatable compensatable", 0);
    check_order("retriable retriable", 0);
    check_order("pivot pivot", 1);
    check_order("pivot compensatable", 1);
    check_order("retriable compensatable", 1);
    check_order("retriable pivot", 1);
    check_order("retriable compensatable compensatable", 2);
    check_order("pivot compensatable pivot", 2);
    check_order("compensatable pivot retriable compensatable", 1);
}

#[test]
fn the_recipe_is_withheld_when_more_is_wrong_than_the_order() {
    let text = format!(
        "name = \"n\"\nversion = 0\ninput = \"t.Input\"\n{}{}",
        step("a", "pivot"),
        step("b", "compensatable")
    );
    let error = Definition::parse(&text).unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    assert_eq!(error.misordered, None);
}

#[test]
fn a_problem_of_the_version_is_at_the_version() {
    let at = |text: &str| {
        let problem = Problem::at_version(text, "it is taken".to_owned(), "take another".to_owned());
        format!("{problem} [{}]", &text[problem.span.clone()])
    };
    insta::assert_snapshot!(at(BOOKING), @"line 3, column 11: it is taken; take another [1]");
    insta::assert_snapshot!(at("# version\n  \"version\"   =  7\nname = 1"), @"line 2, column 18: it is taken; take another [7]");
    insta::assert_snapshot!(at("name = \"n\""), @"line 1, column 1: it is taken; take another []");
}

#[test]
fn problems_are_told_up_to_a_limit() {
    let many: String = (0..1_000).map(|n| format!("key{n} = 1\n")).collect();
    let error = Definition::parse(&many).unwrap_err();
    assert_eq!(error.problems.len(), MAX_PROBLEMS);
    let error = Definition::parse(&" ".repeat(MAX_SOURCE_BYTES + 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the definition is refused: line 1, column 1: the text has 262145 bytes; shorten it to at most 262144"
    );
    let mut long = "name = \"n\"\nversion = 1\ninput = \"t.Input\"\n".to_owned();
    (0..=MAX_STEPS).for_each(|at| long.push_str(&step(&at.to_string(), "retriable")));
    let error = Definition::parse(&long).unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    assert_eq!(error.problems[0].message, "the definition has 65 steps");
}

#[test]
fn what_is_printed_is_the_same_recipe() {
    let booking = Definition::parse(BOOKING).unwrap();
    let printed = booking.to_toml();
    insta::assert_snapshot!(printed, @r#"
    name = "booking"
    version = 1
    deadline = "15m"
    deadline_stands_while_held = false
    input = "booking.StartBooking"

    [[step]]
    name = "reserve-booking"
    participant = "booking"
    kind = "compensatable"
    command = "booking.ReserveBooking"
    reply = "booking.BookingReserved"
    compensation = "booking.CancelBooking"
    timeout = "5s"
    retry = { max_attempts = 5, initial = "200ms", max = "10s", multiplier = 2.0, jitter = 0.2 }
    compensation_retry = { max_attempts = 10, initial = "500ms", max = "1m", multiplier = 2.0, jitter = 0.2 }

    [[step]]
    name = "charge-payment"
    participant = "payment"
    kind = "compensatable"
    command = "payment.ChargePayment"
    with = { reference = "bookingId" }
    reply = "payment.PaymentCompleted"
    compensation = "payment.RefundPayment"
    timeout = "5s"
    retry = { max_attempts = 5, initial = "200ms", max = "10s", multiplier = 2.0, jitter = 0.2 }
    compensation_retry = { max_attempts = 10, initial = "500ms", max = "1m", multiplier = 2.0, jitter = 0.2 }

    [[step]]
    name = "confirm-booking"
    participant = "booking"
    kind = "pivot"
    command = "booking.ConfirmBooking"
    reply = "booking.BookingConfirmed"
    timeout = "5s"
    retry = { max_attempts = 5, initial = "200ms", max = "10s", multiplier = 2.0, jitter = 0.2 }
    "#);
    let again = Definition::parse(&printed).unwrap();
    assert!(again.same_recipe(&booking));
    assert_eq!(again.to_toml(), printed);
}
