//! What sagas wait for, and what was done to them.

use insta::assert_snapshot;
use tests::scenario::on_shared_stack;
use tests::stand_in::Manner::{LoseReply, Reject};
use tests::wait::{SOON, becomes};

use crate::ran::{sagactl, travel};

#[test]
fn what_a_saga_waits_for() {
    on_shared_stack(async |stack| {
        let stuck = travel(stack, "quick-trip", "Ctl-Ola", &[("SendPostcard", &[Reject])]).await?.to_string();
        stack.api()?.saga_is(stuck.parse()?, "stuck").await?;
        assert_snapshot!(sagactl(stack, &["saga", "why", &stuck]).await?.told(), @r"
        ID  quick-trip v1  stuck
        Since WHEN it is stuck at send-postcard and waits for an operator. Last error: closed. Possible: redrive, skip.

          waits for  operator, for TIME
          command  send-postcard by travel, attempt 1 of 2
          message  travel.SendPostcard
          command id  ID
          dead letter  ID
          last error  closed: it is closed for you at send-postcard
          verb  cancel: not possible: past the point of no return
          verb  redrive: send-postcard #1
          verb  skip: completed
          verb  retry-now: not possible: not in back-off
        ---- exit 0
        ");
        let waiting =
            travel(stack, "patient-trip", "Ctl-Pia", &[("BookTrain", &[LoseReply])]).await?.to_string();
        // A worker commits its offsets a moment after it has acted.
        becomes("whether the group has passed it", "true".to_owned(), SOON, async || {
            let why = sagactl(stack, &["saga", "why", &waiting, "--json"]).await?.json()?;
            Ok(why["command"]["group"]["passed"].to_string())
        })
        .await?;
        assert_snapshot!(sagactl(stack, &["saga", "why", &waiting]).await?.told(), @r"
        ID  patient-trip v1  running
        Since WHEN it waits for travel's reply to book-train, attempt 1 of 3. The command lies at travel.commands/N, offset N; travel-participant has passed it. Next: timeout at WHEN, then back off TIME.

          waits for  reply, for TIME
          command  book-train by travel, attempt 1 of 3
          message  travel.BookTrain
          command id  ID
          lies in  travel.commands, partition N, offset N
          group  travel-participant has passed it
          timeout  in TIME: back off TIME
          deadline  in TIME: undo book-train #1
          remaining  issue-tickets
          verb  cancel: undo book-train #1
          verb  redrive: not possible: not stuck
          verb  skip: not possible: not stuck
          verb  retry-now: not possible: not in back-off
        ---- exit 0
        ");
        let coloured = sagactl(stack, &["saga", "why", &stuck, "--color", "always"]).await?;
        assert!(coloured.out.contains("\u{1b}[1m\u{1b}[31mstuck\u{1b}[0m"), "{:?}", coloured.out);
        assert_snapshot!(sagactl(stack, &["saga", "why", "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000"]).await?.told(), @r"
        ---- stderr
        error: no saga has the id ID
        next: sagactl saga list
        ---- exit 5
        ");
        Ok(())
    });
}

#[test]
fn what_everything_open_waits_for() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Ctl-Pim", &[("SendPostcard", &[Reject])]).await?;
        stack.api()?.saga_is(saga, "stuck").await?;
        let causes = sagactl(stack, &["why", "--json"]).await?.json()?;
        let closed =
            causes["causes"].as_array().into_iter().flatten().find(|cause| cause["error"] == "closed");
        let closed =
            closed.map(|cause| (&cause["step"], &cause["waitsFor"], cause["sagas"].as_u64() >= Some(1)));
        assert_eq!(closed, Some((&"send-postcard".into(), &"operator".into(), true)), "{causes}");
        let table = sagactl(stack, &["why"]).await?;
        assert_eq!(table.code, 0);
        let row =
            |word: &str| table.out.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
        assert_snapshot!(row("SAGAS").split_whitespace().collect::<Vec<_>>().join(" "), @"SAGAS STATUS DEFINITION STEP WAITS FOR ERROR OLDEST OLDEST SAGA PARTICIPANT");
        let words: Vec<String> = row("send-postcard").split_whitespace().map(str::to_owned).collect();
        assert_eq!(words[1..6], ["stuck", "quick-trip", "send-postcard", "operator", "closed"], "{table:?}");
        assert!(
            table.err.contains("open sagas counted") || table.err.contains("open saga counted"),
            "{table:?}"
        );
        Ok(())
    });
}

#[test]
fn what_was_done() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Ctl-Pat", &[("SendPostcard", &[Reject])]).await?.to_string();
        stack.api()?.saga_is(saga.parse()?, "stuck").await?;
        let of = ["audit", "list", "--saga", &saga];
        assert_snapshot!(sagactl(stack, &of).await?.told(), @r"
        AT  ACTION  ACTOR  SAGA  DEAD LETTER  REASON
        ---- stderr
        nothing was done that matches
        ---- exit 0
        ");
        for reason in ["the shop is open", "no postcards left"] {
            let verb = if reason == "the shop is open" { "redrive" } else { "skip" };
            let act = ["saga", verb, &saga, "--reason", reason, "--wait"];
            sagactl(stack, &act).await?;
        }
        assert_snapshot!(sagactl(stack, &of).await?.told(), @r"
        AT  ACTION  ACTOR  SAGA  DEAD LETTER  REASON
        WHEN  skip  anonymous  ID  -  no postcards left
        WHEN  redrive  anonymous  ID  -  the shop is open
        ---- exit 0
        ");
        let newest = ["audit", "list", "--saga", &saga, "--limit", "1", "-o", "wide"];
        let newest = sagactl(stack, &newest).await?;
        assert!(newest.out.contains(r#""status":"stuck""#) && newest.out.contains(r#""status":"completed""#));
        assert_snapshot!(newest.err, @"these are the newest 1; there are more: --all, or --limit
");
        let which = ["--action", "redrive", "--actor", "anonymous", "--after", "1h", "--json"];
        let some: Vec<&str> = of.iter().copied().chain(which).collect();
        let page = sagactl(stack, &some).await?.json()?;
        assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
        assert_eq!(page["items"][0]["reason"], "the shop is open");
        let all = sagactl(stack, &["audit", "list", "--saga", &saga, "--all", "-o", "id"]).await?;
        assert_eq!((all.code, all.out.lines().count()), (0, 2));
        let none = ["audit", "list", "--saga", &saga, "--before", "2020-01-01T00:00:00Z"];
        assert_eq!(sagactl(stack, &none).await?.out.lines().count(), 1);
        Ok(())
    });
}

#[test]
fn what_has_moved_on_is_left_alone() {
    on_shared_stack(async |stack| {
        let saga = travel(stack, "quick-trip", "Ctl-Pol", &[("SendPostcard", &[Reject])]).await?.to_string();
        stack.api()?.saga_is(saga.parse()?, "stuck").await?;
        let skip = ["saga", "skip", &saga, "--reason", "no postcards left", "--if-revision"];
        let seen = |revision| skip.iter().copied().chain([revision]).collect::<Vec<_>>();
        assert_snapshot!(sagactl(stack, &seen("4")).await?.told(), @r"
        ---- stderr
        error: the saga has moved on: it is at revision 5, and --if-revision names another; look at it again
        next: sagactl saga show ID, and ask again with its revision if it still fits
        ---- exit 6
        ");
        assert_eq!(stack.api()?.saga(saga.parse()?).await?["status"], "stuck");
        assert_snapshot!(sagactl(stack, &seen("5")).await?.told(), @r"
        SAGA  STATUS  DEFINITION  AGE  AT  REASON
        ID  completed  quick-trip v1  TIME  -  -
        ---- exit 0
        ");
        let several = ["saga", "cancel", &saga, &saga, "--reason", "x", "--if-revision", "5", "--yes"];
        assert_snapshot!(sagactl(stack, &several).await?.told(), @r"
        ---- stderr
        error: --if-revision is of one saga, and several are named
        ---- exit 2
        ");
        let several = ["saga", "cancel", &saga, &saga, "--reason", "x", "--watch", "--yes"];
        assert_snapshot!(sagactl(stack, &several).await?.told(), @r"
        ---- stderr
        error: --watch shows one saga, and several are named
        next: say --wait to wait for all of them, or `sagactl saga watch` to watch one
        ---- exit 2
        ");
        Ok(())
    });
}

#[test]
fn all_sagas_are_watched() {
    on_shared_stack(async |stack| {
        let agency = [("BookTrain", &[Reject][..])];
        let watch = ["saga", "watch", "--definition", "quick-trip", "--status", "compensated"];
        let watch: Vec<&str> = watch.into_iter().chain(["--timeout", "5s", "-o", "json"]).collect();
        let watched = sagactl(stack, &watch);
        let starts = async {
            let mut sagas = Vec::new();
            // From when on is told is not known from outside: some are before it, some after it.
            for n in 0..40 {
                let saga = travel(stack, "quick-trip", &format!("Ctl-Sam-{n}"), &agency).await?;
                stack.api()?.saga_is(saga, "compensated").await?;
                sagas.push(saga.to_string());
            }
            anyhow::Ok(sagas)
        };
        let (watched, sagas) = tokio::join!(watched, starts);
        let (watched, sagas) = (watched?, sagas?);
        assert_eq!(watched.code, 0, "{watched:?}");
        let told: Vec<serde_json::Value> =
            watched.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let of_ours = |told: &&serde_json::Value| sagas.iter().any(|saga| told["sagaId"] == saga.as_str());
        assert!(told.iter().filter(of_ours).count() >= 1, "{told:?}");
        assert!(
            told.iter().all(|told| told["definition"] == "quick-trip" && told["status"] == "compensated")
        );
        Ok(())
    });
}
