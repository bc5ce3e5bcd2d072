//! Looking at definitions and publishing them.

use std::fs;

use insta::assert_snapshot;
use tests::process::log_folder;
use tests::recipes::definitions_folder;
use tests::scenario::on_shared_stack;

use crate::ran::sagactl;

#[test]
fn definitions_are_listed_and_shown() {
    on_shared_stack(async |stack| {
        let list = sagactl(stack, &["definition", "list", "-o", "json"]).await?.json()?;
        assert!(
            list["items"]
                .as_array()
                .is_some_and(|items| items.iter().any(|item| item["name"] == "quick-trip"))
        );
        assert_snapshot!(sagactl(stack, &["definition", "show", "brief-trip"]).await?.told(), @r#"
        brief-trip v1
          input  travel.StartTrip
          published  WHEN
          model check  holds, 6,605 states looked at

        # A trip with a deadline that comes before everything else.
        name = "brief-trip"
        version = 1
        deadline = "1500ms"
        input = "travel.StartTrip"

        [[step]]
        name = "book-train"
        participant = "travel"
        kind = "compensatable"
        command = "travel.BookTrain"
        reply = "travel.TrainBooked"
        compensation = "travel.CancelTrain"
        timeout = "10m"
        ---- exit 0
        "#);
        assert_snapshot!(sagactl(stack, &["definition", "show", "brief-trip", "7"]).await?.told(), @r"
        ---- stderr
        error: there is no such definition
        next: sagactl definition list
        ---- exit 5
        ");
        assert_snapshot!(sagactl(stack, &["definition", "show", "no-trip"]).await?.told(), @r"
        ---- stderr
        error: no definition is named `no-trip`
        next: sagactl definition list
        ---- exit 5
        ");
        Ok(())
    });
}

#[test]
fn a_definition_is_published_and_the_next_version_planned() {
    on_shared_stack(async |stack| {
        let folder = log_folder()?;
        let path = folder.join("ctl-trip.toml");
        let file = path.display().to_string();
        let first = fs::read_to_string(definitions_folder().join("patient-trip.toml"))?
            .replace("patient-trip", "ctl-trip");
        fs::write(&path, &first)?;
        assert_snapshot!(sagactl(stack, &["definition", "register", &file]).await?.told(), @r"
        DEFINITION  VERSION  INPUT  STEPS
        ctl-trip  1  travel.StartTrip  book-train, issue-tickets
        ---- exit 0
        ");
        fs::write(&path, first.replace("timeout = \"10m\"", "timeout = \"9m\""))?;
        assert_snapshot!(sagactl(stack, &["definition", "register", &file]).await?.told(), @r"
        ---- stderr
        error: This version is published with other content
          line 3, column 11: ctl-trip version 1 is published with other content, and a published version never changes; give it version 2
        next: raise the version in the file
        ---- exit 1
        ");
        fs::write(
            &path,
            first.replace("version = 1", "version = 2").replace("timeout = \"10m\"", "timeout = \"9m\""),
        )?;
        assert_eq!(sagactl(stack, &["definition", "register", &file]).await?.code, 0);
        let _agency = stack.stand_in("travel").await?;
        let ned = r#"{"traveller": "Ctl-Ned"}"#;
        let start = ["saga", "start", "ctl-trip", "--version", "1", "--wait", "--input", ned];
        assert_eq!(sagactl(stack, &start).await?.code, 0);
        assert_snapshot!(sagactl(stack, &["definition", "plan", "ctl-trip"]).await?.told(), @r"
        ctl-trip v2: 0 sagas open: 0 running, 0 compensating, 0 stuck

        v1: 0 sagas open: 0 running, 0 compensating, 0 stuck; they stay on it
          step book-train: timeout 10m -> 9m
          running: they keep what they began with
          new:  an attempt is in doubt after 9m
          step issue-tickets: timeout 10m -> 9m
          running: they keep what they began with
          new:  an attempt is in doubt after 9m
          recorded runs: 1 would go the same way, 0 another, 0 cannot be played
        ---- exit 0
        ");
        fs::write(
            &path,
            first.replace("kind = \"pivot\"", "kind = \"pivotal\"").replace("reply =", "replies ="),
        )?;
        assert_snapshot!(sagactl(stack, &["definition", "register", &file]).await?.told().replace(&file, "FILE"), @r#"
        ---- stderr
        error: The definition is refused
          line 6, column 1: a step needs `reply`; add e.g. `reply = "booking.BookingReserved"`
          line 11, column 1: a step has no key `replies`; remove it, or use one of name, participant, kind, command, with, reply, compensation, timeout, retry, compensation_retry
          line 16, column 1: a step needs `reply`; add e.g. `reply = "booking.BookingReserved"`
          line 19, column 8: there is no kind `pivotal`; did you mean `pivot`?
          line 21, column 1: a step has no key `replies`; remove it, or use one of name, participant, kind, command, with, reply, compensation, timeout, retry, compensation_retry
        next: correct what is named above and ask again; nothing was done
        ---- exit 1
        "#);
        let nothing = ["definition", "register", "/nowhere/at-all.toml"];
        assert_snapshot!(sagactl(stack, &nothing).await?.told(), @r"
        ---- stderr
        error: /nowhere/at-all.toml cannot be read: No such file or directory (os error 2)
        ---- exit 2
        ");
        Ok(())
    });
}

#[test]
fn definitions_are_checked_and_nothing_is_published() {
    on_shared_stack(async |stack| {
        let folder = log_folder()?;
        let source = fs::read_to_string(definitions_folder().join("brief-trip.toml"))?;
        let (fine, wrong) = (folder.join("fine.toml"), folder.join("wrong.toml"));
        fs::write(&fine, source.replace("brief-trip", "checked-trip"))?;
        fs::write(
            &wrong,
            source.replace("brief-trip", "wrong-trip").replace("travel.TrainBooked", "travel.TrianBooked"),
        )?;
        let same = definitions_folder().join("brief-trip.toml");
        let paths = [&fine, &wrong, &same].map(|path| path.to_string_lossy().into_owned());
        let check = ["definition", "check", &paths[0], &paths[1], &paths[2]];
        let mut told = sagactl(stack, &check).await?.told();
        for path in [&folder, &definitions_folder()] {
            told = told.replace(&*path.to_string_lossy(), "FOLDER");
        }
        assert_snapshot!(told, @r"
        ok FOLDER/fine.toml: checked-trip v1: all runs hold, 6,605 states looked at
        ok FOLDER/brief-trip.toml: brief-trip v1: is published already
        ---- stderr
        error: FOLDER/wrong.toml: The definition is refused
          line 12, column 9: no schema is named `travel.TrianBooked`; did you mean `travel.TrainBooked`?
        next: correct what is named above and ask again; nothing was done
        ---- exit 1
        ");
        let json = sagactl(stack, &["definition", "check", &paths[0], "--json"]).await?.json()?;
        assert_eq!((&json["name"], &json["published"]), (&"checked-trip".into(), &false.into()));
        assert_eq!(sagactl(stack, &["definition", "show", "checked-trip"]).await?.code, 5);
        assert_eq!(sagactl(stack, &["definition", "check", "no-such-file"]).await?.code, 2);
        Ok(())
    });
}
