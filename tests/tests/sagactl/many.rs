//! Acting on many at a pace.

use anyhow::Result;
use insta::assert_snapshot;
use serde_json::json;
use tests::scenario::{on_own_stack, on_shared_stack};
use tests::stack::{Options, Stack};
use tests::stand_in::Manner::{self, Do, Reject, Wait};
use tests::wait::{SOON, becomes};

use crate::ran::{sagactl, travel};

/// Sagas that are stuck on their postcards, and the group of their letters.
async fn stuck(stack: &Stack, travellers: &[&str], manner: &[Manner]) -> Result<Vec<String>> {
    let mut sagas = Vec::new();
    for traveller in travellers {
        let saga = travel(stack, "quick-trip", traveller, &[("SendPostcard", manner)]).await?;
        stack.api()?.saga_is(saga, "stuck").await?;
        sagas.push(saga.to_string());
    }
    Ok(sagas)
}

async fn letters(stack: &Stack, sagas: &[String]) -> Result<Vec<String>> {
    let mut letters = Vec::new();
    for saga in sagas {
        let list = sagactl(stack, &["dead-letter", "list", "--saga", saga, "-o", "id"]).await?;
        letters.push(list.out.trim().to_owned());
    }
    Ok(letters)
}

#[test]
fn many_letters_are_redriven() {
    on_shared_stack(async |stack| {
        let sagas = stuck(stack, &["Ctl-Tea", "Ctl-Uli", "Ctl-Vic"], &[Reject, Do]).await?;
        let letters = letters(stack, &sagas).await?;
        let mut start = vec!["redrive", "start", "--reason", "the shop is open"];
        start.extend(letters.iter().map(String::as_str));
        let with =
            |more: &[&'static str]| start.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
        assert_snapshot!(sagactl(stack, &with(&["--dry-run"])).await?.told(), @r#"
        ID  redrive of 3 dead letters  completed
          reason  the shop is open, by anonymous
          filter  {"ids":["ID","ID","ID"]}
          begun  WHEN, TIME ago
          dry run  nothing is sent
          would be sent  3
          fit the schema  3; 0 do not
        ---- exit 0
        "#);
        assert_snapshot!(sagactl(stack, &start).await?.told(), @r"
        ---- stderr
        redrive 3 dead letters as of now
        error: nobody can be asked here, and nothing was done
        next: say --yes to go on without being asked
        ---- exit 2
        ");
        let done = sagactl(stack, &with(&["--yes", "--ramp", "0", "--watch", "-o", "json"])).await?.json()?;
        assert_eq!((&done["status"], &done["succeeded"]), (&"completed".into(), &3.into()), "{done}");
        let id = done["id"].as_str().unwrap_or_default();
        assert_snapshot!(sagactl(stack, &["redrive", "show", id]).await?.told(), @r#"
        ID  redrive of 3 dead letters  completed
          reason  the shop is open, by anonymous
          filter  {"ids":["ID","ID","ID"]}
          begun  WHEN, TIME ago
          pace  50 a second, first steps []
          sent  3
          succeeded  3
          failed again  0
          waiting  0
          remaining  0
        ---- exit 0
        "#);
        assert_snapshot!(sagactl(stack, &["redrive", "items", id, "--outcome", "succeeded"]).await?.told(), @r"
        DEAD LETTER  OUTCOME  PLACE  CODE  NOTE
        ID  succeeded  1  -  -
        ID  succeeded  2  -  -
        ID  succeeded  3  -  -
        ---- exit 0
        ");
        let listed = sagactl(stack, &["redrive", "list", "-o", "id"]).await?;
        assert!(listed.out.lines().any(|line| line == id), "{listed:?}");
        let cancel = ["redrive", "cancel", id, "--reason", "too late"];
        assert_snapshot!(sagactl(stack, &cancel).await?.told(), @r"
        ---- stderr
        error: the action is completed; only a running one can be cancelled
        ---- exit 1
        ");
        Ok(())
    });
}

/// With a first step of two and a participant that waits, exactly two are sent when it is cancelled. What was sent is followed
/// to its outcome all the same.
#[test]
fn a_redrive_is_cancelled_in_the_middle() {
    let no_workers = Options { workers: false, ..Options::default() };
    on_own_stack(no_workers, async |stack| {
        let travellers = ["Ctl-Zoe", "Ctl-Abe", "Ctl-Bea", "Ctl-Cem"];
        let letters = letters(stack, &stuck(stack, &travellers, &[Reject, Wait]).await?).await?;
        let mut start = vec!["redrive", "start", "--reason", "the shop is open", "--yes", "--ramp", "2"];
        start.extend(letters.iter().map(String::as_str));
        start.extend(["-o", "json"]);
        let started = sagactl(stack, &start).await?.json()?;
        let id = started["id"].as_str().unwrap_or_default();
        let shown = async || sagactl(stack, &["redrive", "show", id, "-o", "json"]).await?.json();
        becomes("sent", json!(2), SOON, async || Ok(shown().await?["sent"].clone())).await?;
        let cancel = ["redrive", "cancel", id, "--reason", "the shop is closing"];
        assert_eq!(sagactl(stack, &cancel).await?.code, 0);
        let agency = stack.stand_in("travel").await?;
        agency.go_on();
        agency.go_on();
        becomes("succeeded", json!(2), SOON, async || Ok(shown().await?["succeeded"].clone())).await?;
        assert_snapshot!(sagactl(stack, &["redrive", "show", id]).await?.told(), @r#"
        ID  redrive of 4 dead letters  cancelled
          reason  the shop is open, by anonymous
          filter  {"ids":["ID","ID","ID","ID"]}
          begun  WHEN, TIME ago
          pace  50 a second, first steps [2]
          sent  2
          succeeded  2
          failed again  0
          waiting  0
          remaining  2
        ---- exit 0
        "#);
        let open = ["dead-letter", "list", "--status", "open", "-o", "id"];
        assert_eq!(
            sagactl(stack, &open).await?.out.lines().count(),
            2,
            "those that were not sent are as they were"
        );
        Ok(())
    });
}

#[test]
fn letters_in_groups() {
    on_shared_stack(async |stack| {
        let sagas = stuck(stack, &["Ctl-Wim"], &[Reject]).await?;
        let groups =
            sagactl(stack, &["dead-letter", "groups", "--cause", "closed", "-o", "json"]).await?.json()?;
        let group = groups["items"]
            .as_array()
            .and_then(|groups| groups.iter().find(|one| one["step"] == "send-postcard"));
        let group = group.and_then(|group| group["group"].as_str()).unwrap_or_default();
        let list = ["dead-letter", "list", "--group", group, "--saga", &sagas[0]];
        assert_snapshot!(sagactl(stack, &list).await?.told(), @r"
        DEAD LETTER  STATUS  CAUSE  MESSAGE TYPE  STEP  TRIES  AGE
        ID  open  closed  travel.SendPostcard  send-postcard  1  TIME
        ---- exit 0
        ");
        let table = sagactl(stack, &["dead-letter", "groups"]).await?;
        assert!(table.out.starts_with("GROUP") && table.out.contains("send-postcard"), "{table:?}");
        Ok(())
    });
}

#[test]
fn one_verb_on_many_sagas() {
    on_shared_stack(async |stack| {
        let sagas = stuck(stack, &["Ctl-Xia", "Ctl-Yan"], &[Reject]).await?;
        let mut start = vec!["saga-action", "start", "skip", "--reason", "no postcards left"];
        start.extend(sagas.iter().map(String::as_str));
        assert_snapshot!(sagactl(stack, &start).await?.told(), @r"
        ---- stderr
        skip 2 sagas as of now
        error: nobody can be asked here, and nothing was done
        next: say --yes to go on without being asked
        ---- exit 2
        ");
        start.extend(["--yes", "--watch", "-o", "json"]);
        let done = sagactl(stack, &start).await?.json()?;
        assert_eq!(done["selected"], 2, "{done}");
        for saga in &sagas {
            stack.api()?.saga_is(saga.parse()?, "completed").await?;
        }
        let id = done["id"].as_str().unwrap_or_default();
        assert_snapshot!(sagactl(stack, &["saga-action", "show", id]).await?.told(), @r#"
        ID  skip of 2 sagas  completed
          reason  no postcards left, by anonymous
          filter  {"ids":["ID","ID"]}
          begun  WHEN, TIME ago
          pace  50 a second, first steps []
          sent  2
          succeeded  2
          failed again  0
          waiting  0
          remaining  0
        ---- exit 0
        "#);
        let everything = ["saga-action", "start", "cancel", "--reason", "all of them", "--yes"];
        assert_snapshot!(sagactl(stack, &everything).await?.told(), @r"
        ---- stderr
        error: what was asked for is wrong
          filter: names no condition; one at least is expected
        next: correct what is named above and ask again; nothing was done
        ---- exit 1
        ");
        Ok(())
    });
}
