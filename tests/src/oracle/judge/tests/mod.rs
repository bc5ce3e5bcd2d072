//! Each thing that must be found is broken into a healthy world, alone, and must be found there.

mod town;

use messaging::Received;
use messaging::headers::name;
use saga_defs::ids::SagaId;
use saga_defs::time::Timestamp;
use uuid::Uuid;

use super::judge;
use crate::load::End;
use crate::oracle::evidence::{Evidence, Start, Tolerance, Units, Used};
use town::{A, B, C, Town, begun};

/// Breaks something and says what is found, with names in place of ids; long lines are cut.
fn found(spoil: impl FnOnce(&mut Evidence)) -> String {
    let mut town = Town::healthy();
    spoil(&mut town.evidence);
    let lines = judge(&town.evidence).iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut lines: Vec<String> = lines.iter().map(|line| town.in_words(line)).collect();
    lines.sort();
    lines.join("\n")
}

fn commands<'e>(evidence: &'e mut Evidence, topic: &str) -> &'e mut Vec<Received> {
    &mut evidence.topics.get_mut(topic).unwrap().records
}

fn line(evidence: &Evidence, saga: SagaId, revision: i32) -> usize {
    let is_it = |line: &super::Line| line.row.saga == saga.as_uuid() && line.row.revision == revision;
    evidence.journal.iter().position(is_it).unwrap()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(found(|_| {}), "");
}

#[test]
fn a_lost_saga() {
    insta::assert_snapshot!(found(|all| {
        all.sagas.retain(|row| row.id != A.as_uuid());
        all.journal.retain(|line| line.row.saga != A.as_uuid());
    }), @r#"
    I1 lost saga: A was accepted and is not there
    I11 no progress: nothing completed: that nothing works would not be seen
    I5 journal gap: shard 3: sequence: expected a journal that begins with seq 1, found 5; journal rows were lost or changed by hand; restore them from a backup
    I6 record not accounted for: saga.inbox 3/0 led to nothing: command A's reserve-booking of saga A
    I6 record not accounted for: saga.inbox 3/1 led to nothing: command A's charge-payment of saga A
    I6 record not accounted for: saga.inbox 3/2 led to nothing: command A's confirm-booking of saga A
    I8 command nobody decided: booking.commands: A's confirm-booking of A
    I8 command nobody decided: booking.commands: A's reserve-booking of A
    I8 command nobody decided: payment.commands: A's charge-payment of A
    I8 effect of no saga: a participant knows A: Trace { booking: Some("confirmed"), payments: ["completed"], charges: 1, refunds: 0, refunded_at: None, cancelled_at: None }
    "#);
}

#[test]
fn a_saga_without_an_end() {
    insta::assert_snapshot!(found(|all| {
        all.sagas.iter_mut().find(|row| row.id == A.as_uuid()).unwrap().status = "running".into();
    }), @r"
    I1 saga without an end: A is running at no step
    I11 no progress: nothing completed: that nothing works would not be seen
    I5 journal and rows differ: saga A: row: expected status completed, found status running; the row was changed by hand, or a commit was torn; the journal is what happened
    ");
}

#[test]
fn an_end_that_was_not_asked_for() {
    insta::assert_snapshot!(found(|all| all.starts[0].end = Some(End::Compensated)), @"I1 wrong end: A should have been Some(Compensated), but is completed because of nothing");
}

#[test]
fn a_key_that_acted_twice() {
    insta::assert_snapshot!(found(|all| all.starts[0].accepted.push(B)), @r"
    I1 wrong end: B should have been Some(Completed), but is compensated because of payment_declined
    I2 another's saga: the client of [SagaId(A)] was told B
    I2 key acted twice: one key was answered with {SagaId(A), SagaId(B)}
    I2 one saga for several starts: B is the answer to 2
    ");
    insta::assert_snapshot!(found(|all| {
        // B was started by the request of A, once more.
        let first = line(all, B, 1);
        let users = [1, 0].map(|start: usize| all.starts[start].user.unwrap().to_string());
        let event = String::from_utf8_lossy(&all.journal[first].row.event).replace(&users[0], &users[1]);
        all.journal[first].row.event = event.into();
        all.starts.remove(1);
    }), @r#"
    I2 key acted twice: one key made [SagaId(A), SagaId(B)]
    I5 journal and rows differ: saga B: body: expected data.userId "01900000-0000-7000-8000-00000000010a", found data.userId "01900000-0000-7000-8000-00000000010b"; the row was changed by hand, or a commit was torn; the journal is what happened
    "#);
}

#[test]
fn a_saga_that_nobody_asked_for() {
    insta::assert_snapshot!(found(|all| {
        all.starts.remove(2);
        all.keys.retain(|saga| *saga != C);
    }), @"I2 nobody's saga: C was asked for by nobody");
}

/// Timeouts and failures are excuses where something was disturbed, and for a few.
#[test]
fn an_excuse_that_does_not_hold() {
    let declined = |all: &mut Evidence| {
        all.tolerance = Tolerance::Failures;
        let spoilt = all.starts.iter_mut().filter(|start| start.accepted.contains(&B));
        spoilt.for_each(|start| start.end = Some(End::Completed));
    };
    assert_eq!(found(declined), "");
    insta::assert_snapshot!(found(|all| {
        declined(all);
        all.calm.push((begun(), begun().after(std::time::Duration::from_secs(4))));
    }), @"I1 wrong end: B should have been Some(Completed), but is compensated because of payment_declined");
    insta::assert_snapshot!(found(|all| {
        declined(all);
        let starts = vec![all.starts.iter().find(|start| start.accepted.contains(&B)).unwrap().clone(); 21];
        all.starts.extend(starts);
    }), @r#"
    I1 too many given up: of 24 bookings 22 ended otherwise than asked for: {"payment_declined": 22}
    I2 one saga for several starts: B is the answer to 22
    "#);
    // What was cancelled was cancelled by somebody.
    let cancelled = found(|all| {
        declined(all);
        let row = all.sagas.iter_mut().find(|row| row.id == B.as_uuid()).unwrap();
        row.body = String::from_utf8_lossy(&row.body).replace("payment_declined", "cancelled").into();
    });
    insta::assert_snapshot!(cancelled.lines().next().unwrap(), @"I1 wrong end: B should have been Some(Completed), but is compensated because of cancelled");
}

#[test]
fn an_answer_that_no_client_expects() {
    insta::assert_snapshot!(found(|all| {
        all.starts.push(Start { odd: vec!["500: it broke".to_owned()], ..Start::default() });
    }), @"I1 odd answer: 500: it broke");
}

#[test]
fn a_doubled_charge() {
    insta::assert_snapshot!(found(|all| all.traces.get_mut(&A).unwrap().charges = 2), @r#"I3 doubled charge: A is completed with Trace { booking: Some("confirmed"), payments: ["completed"], charges: 2, refunds: 0, refunded_at: None, cancelled_at: None }"#);
    insta::assert_snapshot!(found(|all| {
        all.traces.get_mut(&A).unwrap().payments.push("completed".to_owned());
    }), @r#"I3 doubled charge: A is completed with Trace { booking: Some("confirmed"), payments: ["completed", "completed"], charges: 1, refunds: 0, refunded_at: None, cancelled_at: None }"#);
}

#[test]
fn an_effect_that_is_missing() {
    insta::assert_snapshot!(found(|all| drop(all.traces.remove(&A))), @"I4 effect missing: A is completed with Trace { booking: None, payments: [], charges: 0, refunds: 0, refunded_at: None, cancelled_at: None }");
}

#[test]
fn a_compensation_that_is_missing() {
    insta::assert_snapshot!(found(|all| {
        all.traces.get_mut(&B).unwrap().booking = Some("reserved".to_owned());
    }), @r#"I4 compensation missing: B is compensated with Trace { booking: Some("reserved"), payments: ["failed"], charges: 0, refunds: 0, refunded_at: None, cancelled_at: Some(Timestamp(1700000006090)) }"#);
    insta::assert_snapshot!(found(|all| all.traces.get_mut(&C).unwrap().refunds = 0), @r#"I4 compensation missing: C is compensated with Trace { booking: Some("cancelled"), payments: ["refunded"], charges: 1, refunds: 0, refunded_at: Some(Timestamp(1700000000000)), cancelled_at: Some(Timestamp(1700000006090)) }"#);
}

#[test]
fn a_compensation_in_the_wrong_order() {
    insta::assert_snapshot!(found(|all| {
        all.traces.get_mut(&C).unwrap().refunded_at = Some(begun().after(std::time::Duration::from_secs(900)));
    }), @r#"I4 wrong order of compensation: C is compensated with Trace { booking: Some("cancelled"), payments: ["refunded"], charges: 1, refunds: 1, refunded_at: Some(Timestamp(1700000900000)), cancelled_at: Some(Timestamp(1700000006090)) }"#);
    // As the journal has it: the two undoings change places.
    insta::assert_snapshot!(found(|all| {
        let lines: Vec<usize> = (1..20)
            .filter(|revision| *revision <= all.sagas.iter().find(|row| row.id == C.as_uuid()).unwrap().revision)
            .map(|revision| line(all, C, revision))
            .filter(|at| String::from_utf8_lossy(&all.journal[*at].row.effects).contains("compensation"))
            .collect();
        let [first, second] = lines[..] else { panic!("two are undone: {lines:?}") };
        let effects = all.journal[first].row.effects.clone();
        all.journal[first].row.effects = all.journal[second].row.effects.clone();
        all.journal[second].row.effects = effects;
        all.topics.clear();
    }), @r#"
    I4 wrong order of compensation: saga C revision 6 (shard 3, seq 14): undone_wrongly: expected compensations from last to first, found charge-payment undone after a step before it; see the saga's history and ask its participants; report it, …
    I5 journal and rows differ: saga C revision 5 (shard 3, seq 13): effects: expected [{"type":"send","step":1,"direction":"compensation","attempt":1}], found [{"type":"send","step":0,"direction":"compensation","attempt":1}]; the journal was c…
    I5 journal and rows differ: saga C revision 6 (shard 3, seq 14): effects: expected [{"type":"send","step":0,"direction":"compensation","attempt":1}], found [{"type":"send","step":1,"direction":"compensation","attempt":1}]; the journal was c…
    "#);
}

#[test]
fn units_that_no_booking_has() {
    insta::assert_snapshot!(found(|all| {
        all.units.push(Units { resource: Uuid::nil(), taken: 3, bookings: 2 });
    }), @"I3 units and bookings differ: Units { resource: 00000000-0000-0000-0000-000000000000, taken: 3, bookings: 2 }");
}

#[test]
fn a_journal_gap() {
    insta::assert_snapshot!(found(|all| {
        let at = line(all, A, 2);
        all.journal.remove(at);
    }), @r"
    I5 journal gap: saga A revision 3 (shard 3, seq 3): revision: expected revision 2, found revision 3; journal rows were lost or changed by hand; restore them from a backup
    I5 journal gap: shard 3: after seq comes [1, 3]
    I8 command nobody decided: payment.commands: A's charge-payment of A
    ");
}

#[test]
fn a_transition_after_the_end() {
    insta::assert_snapshot!(found(|all| {
        let last = line(all, A, 4);
        let mut again = all.journal[last].clone();
        again.row.revision = 5;
        again.row.seq = 16;
        all.journal.insert(last + 1, again);
        all.small.shards[3].next_seq = 17;
        all.sagas.iter_mut().find(|row| row.id == A.as_uuid()).unwrap().revision = 5;
    }), @r#"I5 transition after the end: saga A revision 5 (shard 3, seq 16): after_end: expected no transition after the end, found {"type":"replied","commandId":"A's confirm-booking","outcome":"succeeded","fields":{}}; the journal was changed by hand…"#);
}

#[test]
fn two_epochs_interleaved() {
    insta::assert_snapshot!(found(|all| {
        let mut late = all.updates.last().unwrap().clone();
        "orchestrator-1".clone_into(&mut late.process);
        late.seq.0 = late.seq.1;
        all.updates.push(late);
    }), @"I9 epochs interleave: shard 3, epoch 2: orchestrator-1 commits while orchestrator-2 owns it");
    insta::assert_snapshot!(found(|all| {
        let mut late = all.updates.last().unwrap().clone();
        late.epoch -= 1;
        late.published -= 1;
        all.updates.push(late);
    }), @r"
    I9 epoch went back: shard 3: epoch 1 of orchestrator-2 after 2
    I9 sequence not taken on: shard 3: orchestrator-2 went on from seq 15, not 16
    I9 watermark went back: shard 3: from 14 to 13
    ");
}

#[test]
fn copies_of_a_command_that_differ() {
    insta::assert_snapshot!(found(|all| {
        let mut copy = commands(all, "payment.commands")[0].clone();
        copy.offset = 100;
        copy.value = Some(b"another amount".to_vec());
        commands(all, "payment.commands").push(copy);
    }), @r"
    I3 command copies differ: payment.commands: A's charge-payment is not what the journal has
    I3 command copies differ: payment.commands: the values of A's charge-payment
    ");
    insta::assert_snapshot!(found(|all| {
        let mut copy = commands(all, "payment.commands")[0].clone();
        copy.offset = 100;
        copy.headers.push("x-new", "1");
        commands(all, "payment.commands").push(copy);
    }), @"I3 command copies differ: payment.commands: the headers of A's charge-payment");
}

#[test]
fn a_command_that_was_never_published_or_never_decided() {
    insta::assert_snapshot!(found(|all| drop(commands(all, "payment.commands").remove(0))), @"I8 command never published: payment.commands: A's charge-payment attempt 1 of A");
    insta::assert_snapshot!(found(|all| {
        let mut forged = commands(all, "payment.commands")[0].clone();
        forged.offset = 100;
        forged.headers.remove(name::ATTEMPT);
        forged.headers.push(name::ATTEMPT, "7");
        commands(all, "payment.commands").push(forged);
    }), @"I8 command nobody decided: payment.commands: A's charge-payment of A");
}

#[test]
fn commands_out_of_order() {
    insta::assert_snapshot!(found(|all| {
        // The reservation and the confirmation of A: the first and the third of its partition.
        let records = commands(all, "booking.commands");
        let of_a: Vec<usize> =
            (0..records.len()).filter(|at| records[*at].headers.text(name::SAGA_ID) == Some(&A.to_string())).collect();
        records.swap(of_a[0], of_a[1]);
    }), @"I8 commands out of order: booking.commands: revision 3 before 1: A's reserve-booking attempt 1 of A");
}

#[test]
fn an_end_that_was_announced_wrongly_and_an_event_that_was_not_told() {
    insta::assert_snapshot!(found(|all| drop(commands(all, "saga.events").pop())), @r#"I8 announced wrongly: saga.events says of C, which is compensated: ["started"]"#);
    insta::assert_snapshot!(found(|all| commands(all, booking_worker::CONFIRMED).clear()), @"I8 event never told: booking.confirmed says nothing of A");
    insta::assert_snapshot!(found(|all| {
        let mut again = commands(all, payment_worker::COMPLETED)[0].clone();
        again.offset = 1;
        again.headers.remove("event-id");
        again.headers.push("event-id", "another");
        commands(all, payment_worker::COMPLETED).push(again);
    }), @"I3 event happened twice: payment.completed of A has 2 ids");
}

#[test]
fn a_record_that_is_not_accounted_for() {
    insta::assert_snapshot!(found(|all| {
        all.kept.clear();
        all.topics.get_mut("saga.dead-letters").unwrap().records.clear();
        all.planted.clear();
    }), @"I6 record not accounted for: saga.inbox 3/9 led to nothing: command ? of saga ?");
    insta::assert_snapshot!(found(|all| all.recorded.get_mut("payment").unwrap().clear()), @r"
    I6 record not accounted for: payment.commands 3/0 led to nothing: command A's charge-payment of saga A
    I6 record not accounted for: payment.commands 3/1 led to nothing: command B's charge-payment of saga B
    I6 record not accounted for: payment.commands 3/2 led to nothing: command C's charge-payment of saga C
    I6 record not accounted for: payment.commands 3/3 led to nothing: command C's charge-payment of saga C
    I6 record not accounted for: payment.commands 3/4 led to nothing: command C's undoing of charge-payment of saga C
    ");
    insta::assert_snapshot!(found(|all| *all.read.get_mut(&3).unwrap() -= 1), @"I6 records not read: shard 3 has read 9 of 10");
}

#[test]
fn an_altered_dead_letter() {
    insta::assert_snapshot!(found(|all| all.kept[0].value = Some(b"garbaGe".to_vec())), @"I7 altered dead letter: 00000000-0000-0000-0000-000000000077 as it is kept is not the record at saga.inbox 3/9");
    insta::assert_snapshot!(found(|all| {
        commands(all, "saga.dead-letters")[0].timestamp_ms = Some(7);
    }), @"I7 altered dead letter: 00000000-0000-0000-0000-000000000077 on saga.dead-letters is not the record at saga.inbox 3/9");
    insta::assert_snapshot!(found(|all| commands(all, "saga.dead-letters")[1].key = None), @"I7 altered dead letter: 00000000-0000-0000-0000-000000000078 on saga.dead-letters is not what is kept");
    insta::assert_snapshot!(found(|all| commands(all, "saga.dead-letters").clear()), @r"
    I7 dead letter not told: 00000000-0000-0000-0000-000000000078 is not on the topic
    I7 dead letter not told: saga.inbox 3/9 is not on the topic
    ");
}

#[test]
fn a_stray_record_of_another_reason() {
    insta::assert_snapshot!(found(|all| "mismatch".clone_into(&mut all.kept[0].reason)), @r#"I6 stray record: the letter of saga.inbox 3/9 should be one of ["undecodable"], it is Some("mismatch")"#);
}

#[test]
fn no_progress() {
    insta::assert_snapshot!(found(|all| {
        let later = |s| begun().after(std::time::Duration::from_secs(s));
        all.calm.push((later(1_000), later(1_012)));
    }), @r"
    I11 no progress: nothing ended in the 5 s from 2023-11-14T22:30:00.000Z
    I11 no progress: nothing ended in the 5 s from 2023-11-14T22:30:05.000Z
    ");
    insta::assert_snapshot!(found(|all| {
        *all = Evidence { starts: Vec::new(), sagas: Vec::new(), journal: Vec::new(), keys: Vec::new(), ..all.clone() };
        all.traces.clear();
        all.topics.clear();
        all.kept.clear();
        all.planted.clear();
        for shard in &mut all.small.shards {
            (shard.next_seq, shard.published_seq) = (1, 0);
        }
    }), @"I11 no progress: nothing completed: that nothing works would not be seen");
}

#[test]
fn a_process_beyond_its_bounds() {
    insta::assert_snapshot!(found(|all| {
        all.used.push(Used { process: "orchestrator-1".to_owned(), resident_mib: 4_000, files: 30 });
    }), @r#"I10 beyond its bounds: Used { process: "orchestrator-1", resident_mib: 4000, files: 30 }"#);
}

/// The windows of a calm time begin where it begins; an end in each of them is enough.
#[test]
fn progress_is_an_end_in_each_window() {
    let later = |ms| Timestamp::from_unix_millis(begun().unix_millis() + ms);
    assert_eq!(found(|all| all.calm.push((later(0), later(4_999)))), "");
}
