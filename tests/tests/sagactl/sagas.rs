//! Starting sagas and looking at them.

use insta::assert_snapshot;
use serde_json::json;
use tests::scenario::on_shared_stack;
use tests::stand_in::Manner::{LoseReply, Reject};

use crate::ran::{program, run, sagactl, travel};

const INPUT: &str = r#"{"userId": "5c0a3a1e-6d2b-4a55-9f0e-0a7d3b8f1c11", "resourceId": "2f1f6d0a-1b7c-4d1e-8a3a-6f0f4f0b9e22",
    "amountMinor": 4200, "currency": "EUR"}"#;

fn declined() -> String {
    INPUT.replace("\"EUR\"", "\"EUR\", \"forcedPaymentOutcome\": \"declined\"")
}

#[test]
fn a_saga_that_completes() {
    on_shared_stack(async |stack| {
        let start = ["saga", "start", "booking", "--input", INPUT, "--business-key", "ctl-1", "--wait"];
        assert_snapshot!(sagactl(stack, &start).await?.told(), @r"
        SAGA  STATUS  DEFINITION  AGE  AT  REASON
        ID  completed  booking v1  TIME  -  -
        ---- exit 0
        ");
        let found = sagactl(stack, &["saga", "list", "--business-key", "ctl-1", "-o", "id"]).await?;
        let saga = found.out.trim();
        assert_snapshot!(sagactl(stack, &["saga", "show", saga]).await?.told(), @r"
        ID  booking v1  completed
          business key  ctl-1
          started  WHEN, TIME ago
          ended  WHEN, after TIME
          revision  4

          ✔  reserve-booking  compensatable by booking  succeeded #1  after TIME, took TIME
          ✔  charge-payment  compensatable by payment  succeeded #1  after TIME, took TIME
          ✔  confirm-booking  pivot by booking  succeeded #1  after TIME, took TIME
        ---- exit 0
        ");
        assert_snapshot!(sagactl(stack, &["saga", "history", saga]).await?.told(), @r"
          TIME  start  -> reserve-booking #1
          TIME  reserve-booking succeeded -> charge-payment #1
          TIME  charge-payment succeeded  -> confirm-booking #1
          TIME  confirm-booking succeeded -> completed
        ---- exit 0
        ");
        assert_snapshot!(sagactl(stack, &["saga", "watch", saga]).await?.told(), @r"
          TIME  start  -> reserve-booking #1
          TIME  reserve-booking succeeded -> charge-payment #1
          TIME  charge-payment succeeded  -> confirm-booking #1
          TIME  confirm-booking succeeded -> completed
        ---- exit 0
        ");
        let wide = ["saga", "list", "--business-key", "ctl-1", "-o", "wide"];
        assert_snapshot!(sagactl(stack, &wide).await?.told(), @r"
        SAGA  STATUS  DEFINITION  AGE  AT  REASON  BUSINESS KEY  REVISION  TOOK  NEXT
        ID  completed  booking v1  TIME  -  -  ctl-1  4  TIME  -
        ---- exit 0
        ");
        let shown = sagactl(stack, &["saga", "show", saga, "-o", "json"]).await?.json()?;
        assert_eq!(shown["status"], "completed");
        assert_eq!(shown["data"]["amountMinor"], 4200);
        let yaml = sagactl(stack, &["saga", "show", saga, "-o", "yaml"]).await?;
        assert!(yaml.out.contains("\nstatus: completed\n"), "{}", yaml.out);
        Ok(())
    });
}

#[test]
fn a_picture_of_a_saga() {
    on_shared_stack(async |stack| {
        let start = ["saga", "start", "booking", "--input", INPUT, "--wait", "-o", "id"];
        let started = sagactl(stack, &start).await?;
        let saga = started.out.trim();
        // What it draws is held where it is drawn.
        let flowchart = sagactl(stack, &["saga", "diagram", saga]).await?;
        let line = flowchart.out.lines().find(|line| line.contains("step0[")).unwrap_or_default();
        assert_snapshot!(line.trim(), @r#"step0["reserve-booking<br/>compensatable by booking<br/>succeeded, attempt 1"]:::succeeded"#);
        let picture = sagactl(stack, &["saga", "diagram", saga, "--format", "svg"]).await?;
        assert!(
            picture.code == 0 && picture.out.starts_with("<svg ") && picture.out.contains("reserve-booking"),
            "{picture:?}"
        );
        Ok(())
    });
}

#[test]
fn a_saga_that_is_undone() {
    on_shared_stack(async |stack| {
        let input = declined();
        let start = ["saga", "start", "booking", "--input", &input, "--business-key", "ctl-2", "--watch"];
        assert_snapshot!(sagactl(stack, &start).await?.told(), @r"
          TIME  start  -> reserve-booking #1
          TIME  reserve-booking succeeded -> charge-payment #1
          TIME  charge-payment rejected  -> undo reserve-booking #1  payment_declined
          TIME  reserve-booking undone  -> compensated  payment_declined
        ---- exit 3
        ");
        let found =
            sagactl(stack, &["saga", "list", "--business-key", "ctl-2", "-o", "json"]).await?.json()?;
        let saga = found["items"][0]["sagaId"].as_str().unwrap_or_default().to_owned();
        assert_snapshot!(sagactl(stack, &["saga", "show", &saga, "--wait"]).await?.told(), @r"
        ID  booking v1  compensated
          reason  payment_declined at charge-payment: declined, as was asked for
          business key  ctl-2
          started  WHEN, TIME ago
          ended  WHEN, after TIME
          revision  4

          ↶  reserve-booking  compensatable by booking  compensated #1  after TIME, took TIME
          ✘  charge-payment  compensatable by payment  rejected #1  after TIME, took TIME
          payment_declined: declined, as was asked for
          ·  confirm-booking  pivot by booking  pending
        ---- exit 3
        ");
        Ok(())
    });
}

#[test]
fn a_saga_that_is_stuck() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Ctl-Ada", &[("SendPostcard", &[Reject])]).await?.to_string();
        stack.api()?.saga_is(saga.parse()?, "stuck").await?;
        assert_snapshot!(sagactl(stack, &["saga", "show", &saga]).await?.told(), @r"
        ID  quick-trip v1  stuck
          reason  closed at send-postcard: it is closed for you
          started  WHEN, TIME ago
          last moved  WHEN, TIME ago
          revision  5

          ✔  book-train  compensatable by travel  succeeded #1  after TIME, took TIME
          ✔  book-hotel  compensatable by travel  succeeded #1  after TIME, took TIME
          ✔  issue-tickets  pivot by travel  succeeded #1  after TIME, took TIME
          !  send-postcard  retriable by travel  stuck #1  after TIME
          closed: it is closed for you
        ---- stderr
        next: sagactl saga why ID
        next: sagactl dead-letter list --saga ID
        next: sagactl saga redrive ID --reason TEXT, or skip, or (while it goes forward) cancel
        ---- exit 0
        ");
        assert_snapshot!(sagactl(stack, &["saga", "watch", &saga]).await?.told(), @r"
          TIME  start  -> book-train #1
          TIME  book-train succeeded  -> book-hotel #1
          TIME  book-hotel succeeded  -> issue-tickets #1
          TIME  issue-tickets succeeded -> send-postcard #1
          TIME  send-postcard rejected  -> stuck at send-postcard  closed
        ---- stderr
        error: saga ID is stuck: closed at send-postcard: it is closed for you
        next: sagactl saga why ID
        next: sagactl dead-letter list --saga ID
        next: sagactl saga redrive ID --reason TEXT, or skip, or (while it goes forward) cancel
        ---- exit 1
        ");
        assert_snapshot!(sagactl(stack, &["saga", "show", &saga, "--wait", "-o", "id"]).await?.told(), @r"
        ID
        ---- stderr
        error: saga ID is stuck: closed at send-postcard: it is closed for you
        next: sagactl saga why ID
        next: sagactl dead-letter list --saga ID
        next: sagactl saga redrive ID --reason TEXT, or skip, or (while it goes forward) cancel
        ---- exit 1
        ");
        Ok(())
    });
}

#[test]
fn a_saga_that_does_not_end_in_time() {
    on_shared_stack(async |stack| {
        let saga =
            travel(stack, "patient-trip", "Ctl-Bea", &[("BookTrain", &[LoseReply])]).await?.to_string();
        let wait = ["saga", "show", &saga, "--wait", "--timeout", "100ms", "-o", "id"];
        assert_snapshot!(sagactl(stack, &wait).await?.told(), @r"
        ID
        ---- stderr
        error: saga ID is still running
        next: sagactl saga watch ID
        ---- exit 4
        ");
        let watch = ["saga", "watch", &saga, "--timeout", "100ms"];
        assert_snapshot!(sagactl(stack, &watch).await?.told(), @r"
          TIME  start  -> book-train #1
        ---- stderr
        error: saga ID is still running
        next: sagactl saga watch ID
        ---- exit 4
        ");
        Ok(())
    });
}

#[test]
fn what_is_not_there_and_what_is_wrong() {
    on_shared_stack(async |stack| {
        let nobody = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000";
        assert_snapshot!(sagactl(stack, &["saga", "show", nobody]).await?.told(), @r"
        ---- stderr
        error: no saga has the id ID
        next: sagactl saga list
        ---- exit 5
        ");
        assert_snapshot!(sagactl(stack, &["saga", "list", "--business-key", nobody]).await?.told(), @r"
        SAGA  STATUS  DEFINITION  AGE  AT  REASON
        ---- stderr
        no saga matches
        ---- exit 0
        ");
        let wrong = ["saga", "start", "booking", "--input", r#"{"userId": 7}"#];
        assert_snapshot!(sagactl(stack, &wrong).await?.told(), @r"
        ---- stderr
        error: what was asked for is wrong
          input.userId: expected a uuid, found 7
          input.resourceId: missing: expected a uuid
        next: correct what is named above and ask again; nothing was done
        next: sagactl definition show booking tells its input
        ---- exit 1
        ");
        assert_snapshot!(sagactl(stack, &["saga", "start", "booking", "--input", "{"]).await?.told(), @r#"
        ---- stderr
        error: --input is no JSON: EOF while parsing an object at line 1 column 1
        next: --input takes an object such as '{"a": 1}', @FILE, or - for standard input
        ---- exit 2
        "#);
        assert_snapshot!(sagactl(stack, &["saga", "list", "--status", "lost"]).await?.told(), @r"
        ---- stderr
        error: invalid value 'lost' for '--status <STATUS>'
          [possible values: running, compensating, stuck, completed, compensated]

        For more information, try '--help'.
        ---- exit 2
        ");
        Ok(())
    });
}

#[test]
fn the_address_and_the_token_are_settings() {
    on_shared_stack(async |stack| {
        let base = stack.api()?.base().to_owned();
        let mut by_flag = program(stack, &["saga", "list", "--limit", "1", "-o", "json", "--url", &base])?;
        by_flag.env_remove("SAGACTL_URL").env("SAGACTL_TOKEN", "secret");
        assert!(run(by_flag).await?.json()?["items"].is_array());
        let mut nobody = program(stack, &["saga", "list"])?;
        nobody.env("SAGACTL_URL", "http://127.0.0.1:9");
        assert_snapshot!(run(nobody).await?.told(), @r"
        ---- stderr
        error: URL cannot be reached: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
        next: start the orchestrator, or name the address of one with --url or SAGACTL_URL (now URL)
        ---- exit 1
        ");
        let mut no_token = program(stack, &["saga", "list", "--token-file", "/nowhere/token"])?;
        no_token.env("NO_COLOR", "1");
        assert_snapshot!(run(no_token).await?.told(), @r"
        ---- stderr
        error: the token in /nowhere/token cannot be read: No such file or directory (os error 2)
        ---- exit 2
        ");
        Ok(())
    });
}

#[test]
fn tables_fit_the_terminal_and_have_colours_there() {
    on_shared_stack(async |stack| {
        let start = ["saga", "start", "booking", "--input", &declined(), "--business-key", "ctl-3", "--wait"];
        assert_eq!(sagactl(stack, &start).await?.code, 3);
        let list = ["saga", "list", "--business-key", "ctl-3"];
        for columns in [65, 80, 100, 120, 200] {
            let mut narrow = program(stack, &list)?;
            narrow.env("COLUMNS", columns.to_string());
            let narrow = run(narrow).await?.out;
            assert!(narrow.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{narrow}");
            assert!(narrow.lines().count() == 2 && narrow.contains("compensated"), "{columns}:\n{narrow}");
            assert!(!narrow.contains('\u{1b}'), "{narrow}");
        }
        let mut coloured = program(stack, &list)?;
        coloured.args(["--color", "always"]);
        let coloured = run(coloured).await?;
        assert!(coloured.out.contains('\u{1b}'), "{}", coloured.out);
        Ok(())
    });
}

#[test]
fn an_idempotency_key_starts_one_saga() {
    on_shared_stack(async |stack| {
        let start =
            ["saga", "start", "booking", "--input", INPUT, "--idempotency-key", "ctl-4", "-o", "json"];
        let first = sagactl(stack, &start).await?.json()?;
        let again = sagactl(stack, &start).await?.json()?;
        assert_eq!(first["sagaId"], again["sagaId"]);
        let other = ["saga", "start", "booking", "--input", &declined(), "--idempotency-key", "ctl-4"];
        assert_snapshot!(sagactl(stack, &other).await?.told(), @r"
        ---- stderr
        error: this Idempotency-Key was used for another request; use a new key for a new request
        next: give another --idempotency-key, or none
        ---- exit 1
        ");
        assert_eq!(json!("booking"), first["definition"]);
        Ok(())
    });
}
