//! A healthy database has no differences; alter one thing in it, and that thing is named.

use anstream::adapter::strip_str;
use insta::assert_snapshot;
use orchestrator::engine::handle::Verb;
use saga_defs::ids::SagaId;

use crate::world::{Says, World};

/// Every table, in an order in which they can be filled again.
const TABLES: [&str; 9] = [
    "journal",
    "saga",
    "shard",
    "dead_letter",
    "audit",
    "audit_chain",
    "definition",
    "request_key",
    "cluster",
];

/// Sagas in every status, and a journal row of none.
struct Healthy {
    world: World,
    completed: SagaId,
    compensated: SagaId,
    waiting: SagaId,
    backing_off: SagaId,
    stuck: SagaId,
    redriven: SagaId,
}

impl Healthy {
    async fn new() -> Self {
        let mut world = World::new().await;
        let mut started = Vec::new();
        for n in 1..=6 {
            started.push(world.start(n).await);
        }
        let [completed, compensated, waiting, backing_off, stuck, redriven] = started[..] else { panic!() };
        for _ in 0..3 {
            world.reply(completed, Says::Done).await;
        }
        for says in [Says::Done, Says::Done, Says::Rejected, Says::Done, Says::Done] {
            world.reply(compensated, says).await;
        }
        world.reply(waiting, Says::Done).await;
        world.reply(backing_off, Says::Failed).await;
        world.act(backing_off, Verb::RetryNow).await;
        world.reply(backing_off, Says::Failed).await;
        world.garbage().await;
        for saga in [stuck, redriven] {
            world.reply(saga, Says::Done).await;
            world.act(saga, Verb::Cancel).await;
            world.refuse(saga).await;
        }
        world.act(redriven, Verb::Redrive { input: None }).await;
        world.refuse(redriven).await;
        let letter = world.letter_of(redriven).await;
        world.redrive_letter(letter).await;
        world.reply(redriven, Says::Done).await;
        // Else the database would refuse what is altered here.
        world.sql("ALTER TABLE audit DISABLE TRIGGER USER").await;
        for table in TABLES {
            world.sql(&format!("CREATE TABLE saved_{table} AS TABLE {table}")).await;
        }
        Self { world, completed, compensated, waiting, backing_off, stuck, redriven }
    }

    /// What is named after this was done to the database, which is as before afterwards.
    async fn altered(&self, sql: &str) -> String {
        assert!(self.world.sql(sql).await > 0, "nothing was altered: {sql}");
        let differences = self.world.differences().await;
        // What becomes of the audit's chains has tests of its own.
        let differences: Vec<&str> =
            differences.lines().filter(|line| !line.starts_with("audit chain ")).collect();
        let differences = differences.join("\n");
        for table in TABLES {
            self.world.sql(&format!("TRUNCATE {table}; INSERT INTO {table} TABLE saved_{table}")).await;
        }
        self.named(differences)
    }

    /// Sagas by what they are rather than by their ids.
    fn named(&self, mut text: String) -> String {
        for (saga, name) in [
            (self.completed, "completed"),
            (self.compensated, "compensated"),
            (self.waiting, "waiting"),
            (self.backing_off, "backing-off"),
            (self.stuck, "stuck"),
            (self.redriven, "redriven"),
        ] {
            text = text.replace(&saga.to_string(), &format!("<{name}>"));
        }
        text
    }
}

#[tokio::test]
async fn a_healthy_database_has_no_differences() {
    let healthy = Healthy::new().await;
    let report = healthy.world.verify().await;
    assert_eq!(report.kept, []);
    assert_eq!((report.sagas, report.replayed, report.not_replayable), (6, 6, 0));
    let mut text = strip_str(&report.text()).to_string();
    text.replace_range(text.find(" in ").unwrap()..text.find('\n').unwrap(), "");
    assert_snapshot!(text, @"
    6 sagas, 29 transitions
    no differences
    ");
}

#[tokio::test]
async fn what_is_altered_in_the_journal_is_named() {
    let healthy = Healthy::new().await;
    let Healthy { completed, compensated, waiting, .. } = &healthy;
    let at = |saga: &SagaId, revision: u32| format!("WHERE saga_id = '{saga}' AND revision = {revision}");

    let event = format!(
        "UPDATE journal SET event = replace(event::text, 'succeeded', 'rejected')::json {}",
        at(completed, 3)
    );
    assert_snapshot!(healthy.altered(&event).await, @r#"saga <completed> revision 3 (shard 2, seq 5): unreadable_event: expected an event, found {"type":"replied","commandId":"01a3185c-5000-8d1b-a794-3dcd18fb6ee3","outcome":"rejected","fields":{"bookingId":"<completed>","paymentId":"<completed>","reference":"<completed>"}} (missing field `refusal`); it was changed by hand, or a newer version wrote it; verify with the version that serves"#);

    let event = format!("UPDATE journal SET event = '{{\"type\":\"deadline_passed\"}}' {}", at(completed, 2));
    assert_snapshot!(healthy.altered(&event).await, @r#"
    saga <completed> revision 2 (shard 2, seq 4): status: expected compensating, found running; the journal was changed by hand, or the definition or the machine is another; see the saga's history
    saga <completed> revision 2 (shard 2, seq 4): effects: expected [{"type":"send","step":0,"direction":"compensation","attempt":1}], found [{"type":"send","step":1,"direction":"forward","attempt":1}]; the journal was changed by hand, or the definition or the machine is another; see the saga's history
    saga <completed> revision 3 (shard 2, seq 5): ignored_event: expected an event that moves the saga, found {"type":"replied","commandId":"01a3185c-5000-8d1b-a794-3dcd18fb6ee3","outcome":"succeeded","fields":{"bookingId":"<completed>","paymentId":"<completed>","reference":"<completed>"}}, ignored (late); the journal was changed by hand, or the definition or the machine is another; see the saga's history
    "#);

    let event = format!(
        "UPDATE journal SET event = '{{\"type\":\"retry_due\",\"step\":0,\"direction\":\"forward\",\"attempt\":9}}' {}",
        at(completed, 2)
    );
    assert_snapshot!(healthy.altered(&event).await, @r#"saga <completed> revision 2 (shard 2, seq 4): ignored_event: expected an event that moves the saga, found {"type":"retry_due","step":0,"direction":"forward","attempt":9}, ignored (stale); the journal was changed by hand, or the definition or the machine is another; see the saga's history"#);

    let event = format!(
        "UPDATE journal SET event = (SELECT event FROM journal j {}) {}",
        at(completed, 1).replace("WHERE ", "WHERE j."),
        at(completed, 2)
    );
    assert_snapshot!(healthy.altered(&event).await, @r#"saga <completed> revision 2 (shard 2, seq 4): ignored_event: expected an event that moves the saga, found {"type":"started","input":{"amountMinor":5,"currency":"EUR","resourceId":"00000000-0000-0000-0000-000000000000","userId":"00000000-0000-0000-0000-000000000000"},"businessKey":"order-1"}, ignored (begun); the journal was changed by hand, or the definition or the machine is another; see the saga's history"#);

    let effects = format!("UPDATE journal SET effects = '[]' {}", at(waiting, 2));
    assert_snapshot!(healthy.altered(&effects).await, @r#"saga <waiting> revision 2 (shard 3, seq 3): effects: expected [{"type":"send","step":1,"direction":"forward","attempt":1}], found []; the journal was changed by hand, or the definition or the machine is another; see the saga's history"#);

    let effects = format!("UPDATE journal SET effects = 'null' {}", at(waiting, 2));
    assert_snapshot!(healthy.altered(&effects).await, @r#"saga <waiting> revision 2 (shard 3, seq 3): effects: expected [{"type":"send","step":1,"direction":"forward","attempt":1}], found null (invalid type: null, expected a sequence at line 1 column 4); the journal was changed by hand, or the definition or the machine is another; see the saga's history"#);

    let bytes = format!("UPDATE journal SET body = NULL {}", at(waiting, 2));
    assert_snapshot!(healthy.altered(&bytes).await, @"saga <waiting> revision 2 (shard 3, seq 3): command: expected the command of charge-payment, found none; if it was not published, a take-over cannot; the saga's timeout asks again");

    let status = format!("UPDATE journal SET status = 'stuck' {}", at(waiting, 2));
    assert_snapshot!(healthy.altered(&status).await, @"saga <waiting> revision 2 (shard 3, seq 3): status: expected running, found stuck; the journal was changed by hand, or the definition or the machine is another; see the saga's history");

    let order = format!(
        "UPDATE journal SET effects = replace(effects::text, '\"step\":1', '\"step\":0')::json {0}; \
         UPDATE journal SET effects = '[{{\"type\":\"send\",\"step\":1,\"direction\":\"compensation\",\"attempt\":1}}]' {1}",
        at(compensated, 4),
        at(compensated, 5)
    );
    assert_snapshot!(healthy.altered(&order).await, @r#"
    saga <compensated> revision 4 (shard 2, seq 9): effects: expected [{"type":"send","step":1,"direction":"compensation","attempt":1}], found [{"type":"send","step":0,"direction":"compensation","attempt":1}]; the journal was changed by hand, or the definition or the machine is another; see the saga's history
    saga <compensated> revision 5 (shard 2, seq 10): effects: expected [{"type":"send","step":0,"direction":"compensation","attempt":1}], found [{"type":"send","step":1,"direction":"compensation","attempt":1}]; the journal was changed by hand, or the definition or the machine is another; see the saga's history
    saga <compensated> revision 5 (shard 2, seq 10): undone_wrongly: expected compensations from last to first, found charge-payment undone after a step before it; see the saga's history and ask its participants; report it, for the machine must not allow it
    "#);
}

#[tokio::test]
async fn what_is_lost_or_repeated_is_named() {
    let healthy = Healthy::new().await;
    let Healthy { completed, waiting, stuck, .. } = &healthy;
    let at = |saga: &SagaId, revision: u32| format!("WHERE saga_id = '{saga}' AND revision = {revision}");

    let lost = format!("DELETE FROM journal {}", at(completed, 2));
    assert_snapshot!(healthy.altered(&lost).await, @"
    saga <completed> revision 3 (shard 2, seq 5): revision: expected revision 2, found revision 3; journal rows were lost or changed by hand; restore them from a backup
    shard 2, seq 5: sequence: expected a sequence without gap or repetition, found 1 rows missing after seq 3; journal rows were lost or changed by hand; restore them from a backup
    ");

    let lost = format!("DELETE FROM journal {}", at(waiting, 1));
    assert_snapshot!(healthy.altered(&lost).await, @"
    saga <waiting> revision 2 (shard 3, seq 3): revision: expected revision 1, found revision 2; journal rows were lost or changed by hand; restore them from a backup
    shard 3: sequence: expected a journal that begins with seq 1, found 2; journal rows were lost or changed by hand; restore them from a backup
    ");

    let lost = format!("DELETE FROM journal {}", at(stuck, 4));
    assert_snapshot!(healthy.altered(&lost).await, @r#"
    saga <stuck>: row: expected revision 3, found revision 4; the row was changed by hand, or a commit was torn; the journal is what happened
    saga <stuck>: row: expected status compensating, found status stuck; the row was changed by hand, or a commit was torn; the journal is what happened
    saga <stuck>: row: expected wake_at 2027-01-15T08:00:05.020Z, found wake_at none; the row was changed by hand, or a commit was torn; the journal is what happened
    saga <stuck>: row: expected updated_at 2027-01-15T08:00:00.020Z, found updated_at 2027-01-15T08:00:00.021Z; the row was changed by hand, or a commit was torn; the journal is what happened
    saga <stuck>: body: expected state {"awaiting":{"step":1,"direction":"compensation","attempt":1}}, found state {"stuck":{"at":{"step":1,"direction":"compensation","attempt":1},"cause":{"code":"too_large","message":"the broker says so"}}}; the row was changed by hand, or a commit was torn; the journal is what happened
    saga <stuck>: body: expected step 2 {"s":"compensating","a":1,"b":1800000000019,"e":{"code":"cancelled","message":"as asked"}}, found step 2 {"s":"stuck","a":1,"b":1800000000019,"e":{"code":"too_large","message":"the broker says so"}}; the row was changed by hand, or a commit was torn; the journal is what happened
    shard 0: next_seq: expected next_seq 4, one above the journal's last, found next_seq 5; stop the service and restore the shard table together with the journal
    "#);

    let lost = format!("DELETE FROM journal WHERE saga_id = '{waiting}'");
    assert_snapshot!(healthy.altered(&lost).await, @"
    saga <waiting>: no_journal: expected a journal of 2 revisions, found none; journal rows were lost or changed by hand; restore them from a backup
    shard 3: sequence: expected a journal that begins with seq 1, found 2; journal rows were lost or changed by hand; restore them from a backup
    shard 3, seq 4: sequence: expected a sequence without gap or repetition, found 1 rows missing after seq 2; journal rows were lost or changed by hand; restore them from a backup
    ");

    let repeated = format!(
        "INSERT INTO journal SELECT shard, seq, saga_id, revision, at + interval '1 ms', status, event, effects, body FROM journal {}",
        at(completed, 2)
    );
    assert_snapshot!(healthy.altered(&repeated).await, @"
    saga <completed> revision 2 (shard 2, seq 4): revision: expected revision 3, found revision 2; journal rows were lost or changed by hand; restore them from a backup
    shard 2, seq 4: sequence: expected a sequence without gap or repetition, found seq 4 twice; journal rows were lost or changed by hand; restore them from a backup
    ");

    let after_the_end = format!(
        "INSERT INTO journal SELECT shard, (SELECT next_seq FROM shard s WHERE s.id = journal.shard), saga_id, 5, at, status, event, effects, body FROM journal {}; \
         UPDATE shard SET next_seq = next_seq + 1 WHERE id = (SELECT shard FROM saga WHERE id = '{completed}'); \
         UPDATE saga SET revision = 5 WHERE id = '{completed}'",
        at(completed, 4)
    );
    assert_snapshot!(healthy.altered(&after_the_end).await, @r#"saga <completed> revision 5 (shard 2, seq 15): after_end: expected no transition after the end, found {"type":"replied","commandId":"01a3185c-5000-8ec6-849b-d3cfbf9132c5","outcome":"succeeded","fields":{"bookingId":"<completed>"}}; the journal was changed by hand, or the definition or the machine is another; see the saga's history"#);

    assert_snapshot!(healthy.altered(&format!("DELETE FROM saga WHERE id = '{waiting}'")).await, @"
    saga <waiting>: no_saga_row: expected a saga row, found a journal of 2 rows; restore the saga row from a backup; until then the saga stands still
    saga <waiting>: key_without_saga: expected a saga row, found an idempotency key of it; a saga row was lost; restore it, or a repeated request is answered with 404
    ");

    assert_snapshot!(healthy.altered("DELETE FROM definition").await, @"
    saga <completed>: no_definition: expected a definition booking version 1, found none; publish the definition again as it was
    saga <compensated>: no_definition: expected a definition booking version 1, found none; publish the definition again as it was
    saga <waiting>: no_definition: expected a definition booking version 1, found none; publish the definition again as it was
    saga <backing-off>: no_definition: expected a definition booking version 1, found none; publish the definition again as it was
    saga <stuck>: no_definition: expected a definition booking version 1, found none; publish the definition again as it was
    saga <redriven>: no_definition: expected a definition booking version 1, found none; publish the definition again as it was
    ");

    // What is wrong with the text is the parser's to say.
    let unreadable = healthy.altered("UPDATE definition SET source = 'name = 1'").await;
    let (line, _) = unreadable.split_once(", found").unwrap();
    assert_snapshot!(line, @"saga <completed>: unreadable_definition: expected a definition booking version 1");
}

#[tokio::test]
async fn what_is_altered_in_a_saga_row_is_named() {
    let healthy = Healthy::new().await;
    let Healthy { completed, compensated, waiting, backing_off, .. } = &healthy;
    let row = |set: &str, saga: &SagaId| format!("UPDATE saga SET {set} WHERE id = '{saga}'");

    assert_snapshot!(healthy.altered(&row("status = 'completed'", waiting)).await, @"saga <waiting>: row: expected status running, found status completed; the row was changed by hand, or a commit was torn; the journal is what happened");
    assert_snapshot!(healthy.altered(&row("revision = revision + 1", completed)).await, @"saga <completed>: row: expected revision 4, found revision 5; the row was changed by hand, or a commit was torn; the journal is what happened");
    assert_snapshot!(healthy.altered(&row("step = NULL", waiting)).await, @"saga <waiting>: row: expected step charge-payment, found step none; the row was changed by hand, or a commit was torn; the journal is what happened");
    assert_snapshot!(healthy.altered(&row("wake_at = NULL", backing_off)).await, @"saga <backing-off>: row: expected wake_at 2027-01-15T08:00:00.463Z, found wake_at none; the row was changed by hand, or a commit was torn; the journal is what happened");
    assert_snapshot!(healthy.altered(&row("business_key = 'another'", completed)).await, @"saga <completed>: row: expected business_key order-1, found business_key another; the row was changed by hand, or a commit was torn; the journal is what happened");
    assert_snapshot!(healthy.altered(&row("finished_at = NULL", completed)).await, @"saga <completed>: row: expected finished_at 2027-01-15T08:00:00.008Z, found finished_at none; the row was changed by hand, or a commit was torn; the journal is what happened");
    assert_snapshot!(healthy.altered(&row("updated_at = updated_at + interval '1 s', started_at = started_at - interval '1 s'", completed)).await, @"
    saga <completed>: row: expected started_at 2027-01-15T08:00:00.000Z, found started_at 2027-01-15T07:59:59.000Z; the row was changed by hand, or a commit was torn; the journal is what happened
    saga <completed>: row: expected updated_at 2027-01-15T08:00:00.008Z, found updated_at 2027-01-15T08:00:01.008Z; the row was changed by hand, or a commit was torn; the journal is what happened
    ");
    assert_snapshot!(healthy.altered(&row("shard = (shard + 1) % 4", completed)).await, @"saga <completed>: shard: expected shard 2, found 3; the row was changed by hand, or a commit was torn; the journal is what happened");
    assert_snapshot!(healthy.altered(&row("version = 7", completed)).await, @"saga <completed>: no_definition: expected a definition booking version 7, found none; publish the definition again as it was");
    assert_snapshot!(healthy.altered(&row("body = replace(body::text, 'EUR', 'USD')::json", completed)).await, @r#"saga <completed>: body: expected data.currency "EUR", found data.currency "USD"; the row was changed by hand, or a commit was torn; the journal is what happened"#);
    assert_snapshot!(healthy.altered(&row(r#"body = replace(body::text, '"s":"compensated"', '"s":"succeeded"')::json"#, compensated)).await, @r#"
    saga <compensated>: body: expected step 1 {"s":"compensated","a":1,"b":1800000000001,"f":1800000000013}, found step 1 {"s":"succeeded","a":1,"b":1800000000001,"f":1800000000013}; the row was changed by hand, or a commit was torn; the journal is what happened
    saga <compensated>: body: expected step 2 {"s":"compensated","a":1,"b":1800000000009,"f":1800000000012}, found step 2 {"s":"succeeded","a":1,"b":1800000000009,"f":1800000000012}; the row was changed by hand, or a commit was torn; the journal is what happened
    "#);
    assert_snapshot!(healthy.altered(&row(r#"body = replace(body::text, '"attempt":1', '"attempt":2')::json"#, waiting)).await, @r#"saga <waiting>: body: expected state {"awaiting":{"step":1,"direction":"forward","attempt":1}}, found state {"awaiting":{"step":1,"direction":"forward","attempt":2}}; the row was changed by hand, or a commit was torn; the journal is what happened"#);
    assert_snapshot!(healthy.altered(&row("body = '{}'", waiting)).await, @"saga <waiting>: unreadable_row: expected a saga, found {} (missing field `state` at line 1 column 2); restore the saga row from a backup; until then the saga stands still");
    // Another writer may order and space the same JSON otherwise.
    assert_snapshot!(healthy.altered(&row("body = body::jsonb::text::json", compensated)).await, @"");
}

#[tokio::test]
async fn what_is_altered_about_operators_is_named() {
    let healthy = Healthy::new().await;
    let Healthy { completed, backing_off, stuck, redriven, .. } = &healthy;

    assert_snapshot!(healthy.altered(&format!("DELETE FROM dead_letter WHERE saga_id = '{stuck}'")).await, @"saga <stuck>: no_letter: expected the dead letter 01a3185c-5004-8bfc-ac69-00dfd92bb56f of step charge-payment, found none; nobody sees that this saga waits; redrive, skip or cancel it through its own verbs");
    let resolved = format!("UPDATE dead_letter SET status = 'resolved' WHERE saga_id = '{stuck}'");
    assert_snapshot!(healthy.altered(&resolved).await, @"saga <stuck>: letter_resolved: expected the dead letter 01a3185c-5004-8bfc-ac69-00dfd92bb56f of step charge-payment, open, found resolved; nobody sees that this saga waits; redrive, skip or cancel it through its own verbs");
    // An operator may put it aside, and has said why.
    let discarded = format!("UPDATE dead_letter SET status = 'discarded' WHERE saga_id = '{stuck}'");
    assert_snapshot!(healthy.altered(&discarded).await, @"");

    assert_snapshot!(healthy.altered(&format!("DELETE FROM audit WHERE saga_id = '{backing_off}'")).await, @"saga <backing-off> revision 3 (shard 2, seq 13): no_audit: expected the verb retry-now in the audit, found none; the audit was changed; compare it with a backup");
    let another = format!("UPDATE audit SET verb = 'skip' WHERE saga_id = '{redriven}' AND verb = 'redrive'");
    assert_snapshot!(healthy.altered(&another).await, @"
    saga <redriven> revision 5 (shard 3, seq 7): no_audit: expected the verb redrive in the audit, found none; the audit was changed; compare it with a backup
    saga <redriven>: audit_only: expected a transition for each verb, found the audit of skip at 2027-01-15T08:00:00.025Z; the audit was changed; compare it with a backup
    ");
    let moved = format!("UPDATE audit SET saga_id = '{completed}' WHERE saga_id = '{backing_off}'");
    assert_snapshot!(healthy.altered(&moved).await, @"
    saga <completed>: audit_only: expected a transition for each verb, found the audit of retry-now at 2027-01-15T08:00:00.016Z; the audit was changed; compare it with a backup
    saga <backing-off> revision 3 (shard 2, seq 13): no_audit: expected the verb retry-now in the audit, found none; the audit was changed; compare it with a backup
    ");
    assert_snapshot!(healthy.altered(&format!("UPDATE request_key SET saga_id = id FROM dead_letter WHERE request_key.saga_id = '{completed}' AND dead_letter.saga_id = '{stuck}'")).await, @"saga 01a3185c-5004-8bfc-ac69-00dfd92bb56f: key_without_saga: expected a saga row, found an idempotency key of it; a saga row was lost; restore it, or a repeated request is answered with 404");
}

#[tokio::test]
async fn what_is_altered_in_a_shard_is_named() {
    let healthy = Healthy::new().await;
    let Healthy { completed, .. } = &healthy;
    let of = format!("WHERE id = (SELECT shard FROM saga WHERE id = '{completed}')");

    assert_snapshot!(healthy.altered("DELETE FROM journal WHERE saga_id = '00000000-0000-0000-0000-000000000000'").await, @"shard 1: sequence: expected 1 journal rows, found none; journal rows were lost or changed by hand; restore them from a backup");
    assert_snapshot!(healthy.altered(&format!("UPDATE shard SET next_seq = next_seq - 1, published_seq = 0 {of}")).await, @"shard 2: next_seq: expected next_seq 15, one above the journal's last, found next_seq 14; stop the service and restore the shard table together with the journal");
    assert_snapshot!(healthy.altered(&format!("UPDATE shard SET published_seq = next_seq {of}")).await, @"shard 2: published_seq: expected published_seq below next_seq 15, found published_seq 15; stop the service and restore the shard table together with the journal");
    assert_snapshot!(healthy.altered("UPDATE shard SET open_from = 'ffffffff-ffff-ffff-ffff-ffffffffffff' WHERE id = 3").await, @"
    saga <waiting>: open_from: expected open_from of shard 3 not above this waiting saga, found ffffffff-ffff-ffff-ffff-ffffffffffff; stop the service and restore the shard table together with the journal
    saga <redriven>: open_from: expected open_from of shard 3 not above this waiting saga, found ffffffff-ffff-ffff-ffff-ffffffffffff; stop the service and restore the shard table together with the journal
    ");
    assert_snapshot!(healthy.altered("DELETE FROM shard WHERE id = 3").await, @"shard 3: shards: expected a row in the shard table, found none; stop the service and restore the shard table together with the journal");
    assert_snapshot!(healthy.altered("UPDATE journal SET shard = 9 WHERE saga_id = '00000000-0000-0000-0000-000000000000'").await, @"
    shard 9: shards: expected shards below 4, found 1 journal rows of this shard; stop the service and restore the shard table together with the journal
    shard 1: sequence: expected 1 journal rows, found none; journal rows were lost or changed by hand; restore them from a backup
    ");
    assert_snapshot!(healthy.altered("DELETE FROM cluster").await, @"shard 0: shards: expected the number of shards in the cluster table, found none; stop the service and restore the shard table together with the journal");
    let elsewhere =
        format!("UPDATE journal SET shard = 1, seq = 2 WHERE saga_id = '{completed}' AND revision = 4");
    assert_snapshot!(healthy.altered(&elsewhere).await, @"
    saga <completed> revision 4 (shard 1, seq 2): shard: expected shard 2, found 1; the row was changed by hand, or a commit was torn; the journal is what happened
    shard 1: next_seq: expected next_seq 3, one above the journal's last, found next_seq 2; stop the service and restore the shard table together with the journal
    shard 2, seq 7: sequence: expected a sequence without gap or repetition, found 1 rows missing after seq 5; journal rows were lost or changed by hand; restore them from a backup
    ");
}
