//! Diagrams of the booking and of hostile definitions, and lines of hostile texts.

use std::sync::Arc;

use insta::assert_snapshot;
use saga_defs::definition::StepKind;
use saga_defs::render::{Columns, Entry, Line, describe, mermaid};
use saga_defs::saga::{Effect, Event, Reason, Refusal, Status};

use crate::BOOKING;
use crate::script::{saga_after, saga_id};

fn diagram(script: &str) -> String {
    mermaid(&BOOKING, Some(&saga_after(&BOOKING, script)))
}

/// The lines of the diagram that carry a class: where the saga is.
fn styled(script: &str) -> String {
    let text = diagram(script);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(":::")).map(str::trim).collect();
    lines.join("\n")
}

#[test]
fn the_recipe() {
    assert_snapshot!(mermaid(&BOOKING, None), @r#"
    flowchart TD
        start(["booking version 1"])
        step0["reserve-booking<br/>compensatable by booking"]
        undo0["undo reserve-booking<br/>booking.CancelBooking"]
        step1["charge-payment<br/>compensatable by payment"]
        undo1["undo charge-payment<br/>payment.RefundPayment"]
        step2["confirm-booking<br/>pivot by booking"]
        all_done(["completed"])
        all_undone(["compensated"])
        start --> step0
        step0 -->|succeeded| step1
        step0 -.->|rejected| all_undone
        step0 -.->|in doubt| undo0
        undo0 --> all_undone
        step1 -->|succeeded| step2
        step1 -.->|rejected| undo0
        step1 -.->|in doubt| undo1
        undo1 --> undo0
        step2 -->|succeeded| all_done
        step2 -.->|rejected| undo1
    "#);
}

#[test]
fn a_saga_in_its_recipe() {
    assert_snapshot!(diagram("reserve ok, charge declined"), @r#"
    flowchart TD
        start(["booking version 1"])
        step0["reserve-booking<br/>compensatable by booking<br/>compensating"]:::compensating
        undo0["undo reserve-booking<br/>booking.CancelBooking<br/>compensating, attempt 1"]:::compensating
        step1["charge-payment<br/>compensatable by payment<br/>rejected, attempt 1<br/>payment_declined"]:::rejected
        undo1["undo charge-payment<br/>payment.RefundPayment"]
        step2["confirm-booking<br/>pivot by booking<br/>pending"]:::pending
        all_done(["completed"])
        all_undone(["compensated"])
        start --> step0
        step0 -->|succeeded| step1
        step0 -.->|rejected| all_undone
        step0 -.->|in doubt| undo0
        undo0 --> all_undone
        step1 -->|succeeded| step2
        step1 -.->|rejected| undo0
        step1 -.->|in doubt| undo1
        undo1 --> undo0
        step2 -->|succeeded| all_done
        step2 -.->|rejected| undo1
        classDef pending fill:#f4f4f5,stroke:#a1a1aa,color:#52525b
        classDef running fill:#dbeafe,stroke:#2563eb,color:#1e3a8a,stroke-width:3px
        classDef succeeded fill:#dcfce7,stroke:#16a34a,color:#14532d
        classDef rejected fill:#fee2e2,stroke:#dc2626,color:#7f1d1d
        classDef in_doubt fill:#fef3c7,stroke:#d97706,color:#78350f,stroke-dasharray:5 3
        classDef compensating fill:#ffedd5,stroke:#ea580c,color:#7c2d12,stroke-width:3px
        classDef compensated fill:#e0e7ff,stroke:#4f46e5,color:#312e81
        classDef stuck fill:#7f1d1d,stroke:#450a0a,color:#ffffff,stroke-width:3px
    "#);
}

#[test]
fn every_status_has_its_class() {
    assert_snapshot!(styled("reserve failed"), @r#"
    step0["reserve-booking<br/>compensatable by booking<br/>running, attempt 1<br/>unavailable"]:::running
    step1["charge-payment<br/>compensatable by payment<br/>pending"]:::pending
    step2["confirm-booking<br/>pivot by booking<br/>pending"]:::pending
    "#);
    assert_snapshot!(styled("reserve ok, charge ok, confirm ok"), @r#"
    step0["reserve-booking<br/>compensatable by booking<br/>succeeded, attempt 1"]:::succeeded
    step1["charge-payment<br/>compensatable by payment<br/>succeeded, attempt 1"]:::succeeded
    step2["confirm-booking<br/>pivot by booking<br/>succeeded, attempt 1"]:::succeeded
    all_done(["completed"]):::succeeded
    "#);
    assert_snapshot!(styled("reserve ok, charge declined, undo reserve ok"), @r#"
    step0["reserve-booking<br/>compensatable by booking<br/>compensated"]:::compensated
    undo0["undo reserve-booking<br/>booking.CancelBooking<br/>compensated, attempt 1"]:::compensated
    step1["charge-payment<br/>compensatable by payment<br/>rejected, attempt 1<br/>payment_declined"]:::rejected
    step2["confirm-booking<br/>pivot by booking<br/>pending"]:::pending
    all_undone(["compensated"]):::compensated
    "#);
    assert_snapshot!(styled("reserve ok, charge timeout x5"), @r#"
    step0["reserve-booking<br/>compensatable by booking<br/>succeeded, attempt 1"]:::succeeded
    step1["charge-payment<br/>compensatable by payment<br/>compensating<br/>timed_out"]:::compensating
    undo1["undo charge-payment<br/>payment.RefundPayment<br/>compensating, attempt 1"]:::compensating
    step2["confirm-booking<br/>pivot by booking<br/>pending"]:::pending
    "#);
    assert_snapshot!(styled("reserve ok, charge timeout x5, undo charge failed x10"), @r#"
    step0["reserve-booking<br/>compensatable by booking<br/>succeeded, attempt 1"]:::succeeded
    step1["charge-payment<br/>compensatable by payment<br/>compensating"]:::compensating
    undo1["undo charge-payment<br/>payment.RefundPayment<br/>stuck, attempt 10<br/>unavailable"]:::stuck
    step2["confirm-booking<br/>pivot by booking<br/>pending"]:::pending
    "#);
    assert_snapshot!(styled("reserve ok, charge ok, confirm timeout x5"), @r#"
    step0["reserve-booking<br/>compensatable by booking<br/>succeeded, attempt 1"]:::succeeded
    step1["charge-payment<br/>compensatable by payment<br/>succeeded, attempt 1"]:::succeeded
    step2["confirm-booking<br/>pivot by booking<br/>stuck, attempt 5<br/>timed_out"]:::stuck
    "#);
}

#[test]
fn hostile_names_stay_in_their_labels() {
    let evil: Arc<str> =
        "x\"] --> y; click a \"javascript:alert(1)\"\n%%{init}%% <img src=x onerror=alert(1)> `b` #quot; end"
            .into();
    let mut definition = BOOKING.clone();
    let mut saga = saga_after(&BOOKING, "reserve sold-out");
    definition.id.name = evil.clone();
    definition.steps.truncate(1);
    definition.steps[0].name = evil.clone();
    definition.steps[0].participant = evil.clone();
    definition.steps[0].kind = StepKind::Compensatable { compensation: evil.clone() };
    saga.steps[0].error = Some(Refusal { code: evil.clone(), message: evil });
    assert_snapshot!(mermaid(&definition, Some(&saga)), @r#"
    flowchart TD
        start(["x#34;#93; --#62; y#59; click a #34;javascript#58;alert#40;1#41;#34; #37;#37;#123;init#125;#37;#37; #60;img src#61;x onerror#61;alert#40;1#41;#62;..."])
        step0["x#34;#93; --#62; y#59; click a #34;javascript#58;alert#40;1#41;#34; #37;#37;#123;init#125;#37;#37; #60;img src#61;x onerror#61;alert#40;1#41;#62;...<br/>compensatable by x#34;#93; --#62; y#59; click a #34;javascript#58;alert#40;1#41;#34; #37;#37;#123;init#125;#37;#37; #60;img src#61;x...<br/>rejected, attempt 1<br/>x#34;#93; --#62; y#59; click a #34;javascript#58;alert#40;1#41;#34; #37;#37;#123;init#125;#37;#37; #60;img src#61;x onerror#61;alert#40;1#41;#62;..."]:::rejected
        undo0["undo x#34;#93; --#62; y#59; click a #34;javascript#58;alert#40;1#41;#34; #37;#37;#123;init#125;#37;#37; #60;img src#61;x onerror#61;aler...<br/>x#34;#93; --#62; y#59; click a #34;javascript#58;alert#40;1#41;#34; #37;#37;#123;init#125;#37;#37; #60;img src#61;x onerror#61;alert#40;1#41;#62;..."]
        all_done(["completed"])
        all_undone(["compensated"]):::compensated
        start --> step0
        step0 -->|succeeded| all_done
        step0 -.->|rejected| all_undone
        step0 -.->|in doubt| undo0
        undo0 --> all_undone
        classDef pending fill:#f4f4f5,stroke:#a1a1aa,color:#52525b
        classDef running fill:#dbeafe,stroke:#2563eb,color:#1e3a8a,stroke-width:3px
        classDef succeeded fill:#dcfce7,stroke:#16a34a,color:#14532d
        classDef rejected fill:#fee2e2,stroke:#dc2626,color:#7f1d1d
        classDef in_doubt fill:#fef3c7,stroke:#d97706,color:#78350f,stroke-dasharray:5 3
        classDef compensating fill:#ffedd5,stroke:#ea580c,color:#7c2d12,stroke-width:3px
        classDef compensated fill:#e0e7ff,stroke:#4f46e5,color:#312e81
        classDef stuck fill:#7f1d1d,stroke:#450a0a,color:#ffffff,stroke-width:3px
    "#);
}

#[test]
fn a_saga_of_another_definition_is_drawn_as_far_as_it_fits() {
    let mut saga = saga_after(&BOOKING, "reserve ok, charge ok");
    saga.steps.truncate(1);
    assert_snapshot!(mermaid(&BOOKING, Some(&saga)).lines().take(7).collect::<Vec<_>>().join("\n"), @r#"
    flowchart TD
        start(["booking version 1"])
        step0["reserve-booking<br/>compensatable by booking<br/>succeeded, attempt 1"]:::succeeded
        undo0["undo reserve-booking<br/>booking.CancelBooking"]
        step1["charge-payment<br/>compensatable by payment"]
        undo1["undo charge-payment<br/>payment.RefundPayment"]
        step2["confirm-booking<br/>pivot by booking"]
    "#);
}

#[test]
fn hostile_texts_stay_on_their_line() {
    let evil = Refusal::new("a\nb\u{1b}[2J\u{202e}c", "");
    let reason = Reason { refusal: evil.clone(), step: None };
    let end = [Effect::AnnounceEnd { status: Status::Compensated }];
    let cancel = Event::Cancel { reason: "because\r\n  of \u{7}".into() };
    let timer = Event::DeadlinePassed;
    let line = |event, effects| {
        let entry =
            Entry { saga: saga_id(1), event, effects, status: Status::Compensated, reason: Some(&reason) };
        describe(&BOOKING, &entry)
    };
    let lines =
        [line(&cancel, &end[..]), line(&timer, &end[..]), line(&Event::Quarantined { cause: evil }, &[])];
    assert_snapshot!(Columns::lines(&lines), @"
    cancel          -> compensated  because of ?
    deadline passed -> compensated  a b?[2J?c
    quarantined     -> back off     a b?[2J?c
    ");
}

#[test]
fn lines_that_come_one_at_a_time_are_aligned_too() {
    let columns = Columns::for_definition(&BOOKING);
    let line = |what: &str, then: &str, note: &str| {
        columns.line(&Line { what: what.to_owned(), then: then.to_owned(), note: note.to_owned() })
    };
    let text = [
        line("start", "reserve-booking #1", ""),
        line("charge-payment rejected", "undo reserve-booking #1", "payment_declined"),
        line("reserve-booking undone", "compensated", "payment_declined"),
    ];
    assert_snapshot!(text.join("\n"), @"
    start                     -> reserve-booking #1
    charge-payment rejected   -> undo reserve-booking #1  payment_declined
    reserve-booking undone    -> compensated              payment_declined
    ");
}
