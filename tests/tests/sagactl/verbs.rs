//! Acting on sagas.

use insta::assert_snapshot;
use tests::scenario::on_shared_stack;
use tests::stand_in::Manner::{Do, Fail, LoseReply, Reject};
use tests::wait::{SOON, becomes};

use crate::ran::{sagactl, travel};

#[test]
fn a_stuck_saga_is_redriven() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Ctl-Cid", &[("SendPostcard", &[Reject])]).await?.to_string();
        stack.api()?.saga_is(saga.parse()?, "stuck").await?;
        let wrong = ["saga", "redrive", &saga, "--reason", "typed badly", "--input", r#"{"traveller": 7}"#];
        assert_snapshot!(sagactl(stack, &wrong).await?.told(), @r"
        ---- stderr
        error: what was asked for is wrong
          input.traveller: expected a string, found 7
        next: correct what is named above and ask again; nothing was done
        ---- exit 1
        ");
        let right = [
            "saga",
            "redrive",
            &saga,
            "--reason",
            "her friend pays",
            "--input",
            r#"{"traveller": "Ctl-Dan"}"#,
            "--wait",
        ];
        assert_snapshot!(sagactl(stack, &right).await?.told(), @r"
        SAGA  STATUS  DEFINITION  AGE  AT  REASON
        ID  completed  quick-trip v1  TIME  -  -
        ---- exit 0
        ");
        Ok(())
    });
}

#[test]
fn a_stuck_step_is_skipped() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Ctl-Eve", &[("SendPostcard", &[Reject])]).await?.to_string();
        stack.api()?.saga_is(saga.parse()?, "stuck").await?;
        let skip = ["saga", "skip", &saga, "--reason", "no postcards left", "-o", "json"];
        assert_eq!(sagactl(stack, &skip).await?.json()?["status"], "completed");
        assert_snapshot!(sagactl(stack, &skip).await?.told(), @r"
        ---- stderr
        error: skip is not possible: the saga is completed and it has ended. It is possible only while the saga is stuck.
        next: sagactl saga show ID
        ---- exit 1
        ");
        Ok(())
    });
}

#[test]
fn a_running_saga_is_cancelled() {
    on_shared_stack(async |stack| {
        let saga =
            travel(stack, "patient-trip", "Ctl-Fay", &[("BookTrain", &[LoseReply])]).await?.to_string();
        becomes("the ledger", "BookTrain for Ctl-Fay".to_owned(), SOON, async || {
            stack.stand_in("travel").await?.ledger(saga.parse()?).await
        })
        .await?;
        let cancel = ["saga", "cancel", &saga, "--reason", "she is ill", "--watch"];
        assert_snapshot!(sagactl(stack, &cancel).await?.told(), @r"
          TIME  start  -> book-train #1
          TIME  cancel  -> undo book-train #1  she is ill
          TIME  book-train undone  -> compensated  cancelled
        ---- exit 3
        ");
        Ok(())
    });
}

#[test]
fn a_back_off_is_cut_short() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "patient-trip", "Ctl-Gus", &[("BookTrain", &[Fail, Do])]).await?.to_string();
        becomes("the revision", 2.into(), SOON, async || {
            Ok(stack.api()?.saga(saga.parse()?).await?["revision"].take())
        })
        .await?;
        let retry = ["saga", "retry-now", &saga, "--reason", "they are back", "--wait"];
        assert_snapshot!(sagactl(stack, &retry).await?.told(), @r"
        SAGA  STATUS  DEFINITION  AGE  AT  REASON
        ID  completed  patient-trip v1  TIME  -  -
        ---- exit 0
        ");
        Ok(())
    });
}

#[test]
fn several_are_counted_and_asked_for() {
    on_shared_stack(async |stack| {
        let mut stuck = Vec::new();
        for traveller in ["Ctl-Hal", "Ctl-Ida"] {
            let manners = [("SendPostcard", &[Reject, Do][..])];
            let saga = travel(stack, "quick-trip", traveller, &manners).await?;
            stack.api()?.saga_is(saga, "stuck").await?;
            stuck.push(saga.to_string());
        }
        let nobody = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000";
        let redrive = ["saga", "redrive", &stuck[0], nobody, &stuck[1], "--reason", "the shop is open"];
        assert_snapshot!(sagactl(stack, &redrive).await?.told(), @r"
        ---- stderr
        redrive 3 sagas
        error: nobody can be asked here, and nothing was done
        next: say --yes to go on without being asked
        ---- exit 2
        ");
        assert_eq!(stack.api()?.saga(stuck[0].parse()?).await?["status"], "stuck");
        let yes: Vec<&str> = redrive.iter().copied().chain(["--yes", "--wait"]).collect();
        assert_snapshot!(sagactl(stack, &yes).await?.told(), @r"
        SAGA  STATUS  DEFINITION  AGE  AT  REASON
        ID  completed  quick-trip v1  TIME  -  -
        ID  completed  quick-trip v1  TIME  -  -
        ---- stderr
        redrive 3 sagas
        error: no saga has the id ID
        next: sagactl saga list
        ---- exit 1
        ");
        Ok(())
    });
}
