//! Diagrams of the booking and of hostile definitions, and lines of hostile texts.

use std::sync::Arc;

use insta::assert_snapshot;
use saga_defs::definition::StepKind;
use saga_defs::render::{Columns, Entry, Line, describe, mermaid, svg};
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
    let picture = svg(&definition, Some(&saga));
    assert!(picture.contains("&#60;img src=x onerror=alert(1)&#62;"), "{picture}");
    assert!(is_markup_of_ours(&picture), "{picture}");
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

/// Whether a picture has no markup but that of boxes, lines and texts, and fetches nothing.
fn is_markup_of_ours(picture: &str) -> bool {
    let known = ["svg", "title", "defs", "marker", "path", "rect", "line", "g", "text"];
    let mut open = Vec::new();
    for tag in picture.split('<').skip(1) {
        let Some((tag, text)) = tag.split_once('>') else { return false };
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        let quotes = tag.matches('"').count();
        let referred = text.split('&').skip(1).all(|rest| rest.starts_with('#') && rest.contains(';'));
        if !known.contains(&name) || quotes % 2 != 0 || tag.contains("href") || !referred {
            return false;
        }
        if tag.starts_with('/') {
            if open.pop() != Some(name.to_owned()) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
    }
    open.is_empty()
}

/// The boxes of a picture that have a status, with their colour and lines.
fn coloured(picture: &str) -> String {
    let mut lines = Vec::new();
    for group in picture.split("<g class=\"").skip(1) {
        let (class, rest) = group.split_once('"').expect("a class");
        let fill = rest.split("fill=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a colour");
        let end = rest.find("</g>").expect("an end");
        let texts: Vec<&str> = rest[..end]
            .split("</text>")
            .filter_map(|text| text.rsplit('>').next())
            .filter(|t| !t.trim().is_empty())
            .collect();
        if class != "none" {
            lines.push(format!("{class} {fill}: {}", texts.join(", ")));
        }
    }
    lines.join("\n")
}

#[test]
fn a_picture_has_the_colours_of_its_steps() {
    let picture =
        svg(&BOOKING, Some(&saga_after(&BOOKING, "reserve ok, charge timeout x5, undo charge failed x10")));
    assert!(is_markup_of_ours(&picture), "{picture}");
    assert_snapshot!(coloured(&picture), @"
    succeeded #dcfce7: reserve-booking, compensatable by booking, succeeded, attempt 1
    compensating #ffedd5: charge-payment, compensatable by payment, compensating
    stuck #7f1d1d: undo charge-payment, payment.RefundPayment, stuck, attempt 10, unavailable
    pending #f4f4f5: confirm-booking, pivot by booking, pending
    ");
    let ended = svg(&BOOKING, Some(&saga_after(&BOOKING, "reserve ok, charge declined, undo reserve ok")));
    assert_snapshot!(coloured(&ended), @"
    compensated #e0e7ff: reserve-booking, compensatable by booking, compensated
    compensated #e0e7ff: undo reserve-booking, booking.CancelBooking, compensated, attempt 1
    rejected #fee2e2: charge-payment, compensatable by payment, rejected, attempt 1, payment_declined
    pending #f4f4f5: confirm-booking, pivot by booking, pending
    compensated #e0e7ff: compensated
    ");
    assert_eq!(coloured(&svg(&BOOKING, None)), "");
}

#[test]
fn a_picture_is_laid_out_in_two_columns() {
    let mut definition = BOOKING.clone();
    definition.steps.truncate(1);
    assert_snapshot!(svg(&definition, None), @r##"
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 528 220" width="528" height="220" role="img" font-family="system-ui, sans-serif" font-size="13">
    <title>booking version 1</title>
    <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#71717a"/></marker></defs>
    <rect width="528" height="220" fill="#ffffff"/>
    <line x1="122" y1="49" x2="122" y2="83" stroke="#71717a" marker-end="url(#tip)"/>
    <line x1="406" y1="83" x2="406" y2="49" stroke="#71717a" marker-end="url(#tip)"/>
    <line x1="228" y1="108" x2="300" y2="108" stroke="#71717a" stroke-dasharray="4 3" marker-end="url(#tip)"/>
    <line x1="122" y1="133" x2="122" y2="167" stroke="#71717a" marker-end="url(#tip)"/>
    <g class="none"><rect x="16" y="16" width="212" height="33" rx="16" fill="#ffffff" stroke="#a1a1aa"/>
    <text x="122" y="37" text-anchor="middle" fill="#3f3f46" font-weight="600">booking version 1</text>
    </g>
    <g class="none"><rect x="16" y="83" width="212" height="50" rx="6" fill="#ffffff" stroke="#a1a1aa"/>
    <text x="122" y="104" text-anchor="middle" fill="#3f3f46" font-weight="600">reserve-booking</text>
    <text x="122" y="121" text-anchor="middle" fill="#3f3f46">compensatable by booking</text>
    </g>
    <g class="none"><rect x="300" y="83" width="212" height="50" rx="6" fill="#ffffff" stroke="#a1a1aa"/>
    <text x="406" y="104" text-anchor="middle" fill="#3f3f46" font-weight="600">undo reserve-booking</text>
    <text x="406" y="121" text-anchor="middle" fill="#3f3f46">booking.CancelBooking</text>
    </g>
    <g class="none"><rect x="16" y="167" width="212" height="33" rx="16" fill="#ffffff" stroke="#a1a1aa"/>
    <text x="122" y="188" text-anchor="middle" fill="#3f3f46" font-weight="600">completed</text>
    </g>
    <g class="none"><rect x="300" y="16" width="212" height="33" rx="16" fill="#ffffff" stroke="#a1a1aa"/>
    <text x="406" y="37" text-anchor="middle" fill="#3f3f46" font-weight="600">compensated</text>
    </g>
    </svg>
    "##);
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
