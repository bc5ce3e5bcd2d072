//! Looking at dead letters and acting on them.

use anyhow::Result;
use insta::assert_snapshot;
use tests::folder::Folder;
use tests::scenario::on_shared_stack;
use tests::stack::Stack;
use tests::stand_in::Manner::{Do, Reject};

use crate::ran::{Ran, program, run, sagactl, travel};

/// A saga that is stuck on its postcard, and the letter of it.
async fn stuck(stack: &Stack, traveller: &str) -> Result<(String, String)> {
    let saga = travel(stack, "quick-trip", traveller, &[("SendPostcard", &[Reject, Do])]).await?;
    stack.api()?.saga_is(saga, "stuck").await?;
    let list = ["dead-letter", "list", "--saga", &saga.to_string(), "-o", "id"];
    Ok((saga.to_string(), sagactl(stack, &list).await?.out.trim().to_owned()))
}

#[test]
fn a_letter_is_listed_shown_and_redriven() {
    on_shared_stack(async |stack| {
        let (saga, letter) = stuck(stack, "Ctl-Jon").await?;
        let list = ["dead-letter", "list", "--saga", &saga, "--status", "open", "--cause", "closed"];
        assert_snapshot!(sagactl(stack, &list).await?.told(), @r"
        DEAD LETTER  STATUS  CAUSE  MESSAGE TYPE  STEP  TRIES  AGE
        ID  open  closed  travel.SendPostcard  send-postcard  1  TIME
        ---- exit 0
        ");
        assert_snapshot!(sagactl(stack, &["dead-letter", "show", &letter]).await?.told(), @r#"
        ID  open
          cause  closed: it is closed for you
          given up by  orchestrator, after 1 try
          failed  WHEN to WHEN
          saga  ID, step send-postcard, forward
          record  travel.commands, partition N
          key  ID

        travel.SendPostcard
        {
          "sagaId": "ID",
          "traveller": "Ctl-Jon"
        }

        what became of it
          WHEN  failed  it is closed for you
        ---- stderr
        next: sagactl dead-letter redrive ID --reason TEXT, or edit, or discard
        ---- exit 0
        "#);
        let redrive = ["dead-letter", "redrive", &letter, "--reason", "the shop is open"];
        assert_eq!(sagactl(stack, &redrive).await?.code, 0);
        stack.api()?.saga_is(saga.parse()?, "completed").await?;
        assert_snapshot!(sagactl(stack, &redrive).await?.told(), @r"
        ---- stderr
        error: the dead letter is resolved; only an open one can be redriven or discarded
        next: sagactl saga show ID
        ---- exit 1
        ");
        assert_snapshot!(sagactl(stack, &["dead-letter", "list", "--saga", &saga, "--cause", "none"]).await?.told(), @r"
        DEAD LETTER  STATUS  CAUSE  MESSAGE TYPE  STEP  TRIES  AGE
        ---- stderr
        no dead letter matches
        ---- exit 0
        ");
        Ok(())
    });
}

/// `dead-letter edit` with an editor of the test's, in a folder of its own for what it keeps.
struct Desk<'a> {
    stack: &'a Stack,
    letter: String,
    folder: Folder,
}

impl<'a> Desk<'a> {
    fn new(stack: &'a Stack, letter: String) -> Result<Self> {
        Ok(Self { stack, letter, folder: Folder::open(None, "edited-")? })
    }

    async fn edit(&self, editor: &str, more: &[&str]) -> Result<Ran> {
        let edit = ["dead-letter", "edit", &self.letter, "--reason", "her name was wrong"];
        let mut command = program(self.stack, &edit)?;
        command.args(more).env("EDITOR", editor).env("PATH", std::env::var("PATH").unwrap_or_default());
        command.env("TMPDIR", &self.folder.path);
        run(command).await
    }

    /// What was typed is kept where nothing came of it: takes it away.
    fn kept(&self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(&self.folder.path)? {
            let path = entry?.path();
            texts.push(std::fs::read_to_string(&path)?);
            std::fs::remove_file(path)?;
        }
        Ok(texts)
    }
}

#[test]
fn a_letter_is_edited() {
    on_shared_stack(async |stack| {
        let (saga, letter) = stuck(stack, "Ctl-Kim").await?;
        let desk = Desk::new(stack, letter)?;
        assert_snapshot!(desk.edit("true", &[]).await?.told(), @r"
        ---- stderr
        nothing was changed, and nothing was sent
        ---- exit 0
        ");
        assert_snapshot!(desk.edit("false", &[]).await?.told(), @r"
        ---- stderr
        error: nothing was sent: the editor ended with exit status: 1
        next: set EDITOR to an editor, or give the value with --value JSON
        ---- exit 1
        ");
        let renamed = "sed -i s/Ctl-Kim/Ctl-Kay/";
        assert_snapshot!(desk.edit(renamed, &["--dry-run"]).await?.told(), @r#"
        ---- stderr
          {
          "sagaId": "ID",
        -  "traveller": "Ctl-Kim"
        +  "traveller": "Ctl-Kay"
          }
        a dry run: nothing was sent
        ---- exit 0
        "#);
        assert_snapshot!(desk.edit(renamed, &[]).await?.told(), @r#"
        ---- stderr
          {
          "sagaId": "ID",
        -  "traveller": "Ctl-Kim"
        +  "traveller": "Ctl-Kay"
          }
        send it in place of the original
        error: nobody can be asked here, and nothing was done
        next: say --yes to go on without being asked
        next: what you typed is in FILE: go on from there with --value @FILE
        ---- exit 2
        "#);
        assert!(matches!(desk.kept()?.as_slice(), [text] if text.contains("Ctl-Kay")));
        assert_eq!(desk.edit(renamed, &["--yes"]).await?.code, 0);
        assert_eq!(desk.kept()?, Vec::<String>::new());
        stack.api()?.saga_is(saga.parse()?, "completed").await?;
        assert!(
            stack.stand_in("travel").await?.ledger(saga.parse()?).await?.contains("SendPostcard for Ctl-Kay")
        );
        Ok(())
    });
}

#[test]
fn what_was_typed_wrongly_is_kept() {
    on_shared_stack(async |stack| {
        let (_, letter) = stuck(stack, "Ctl-Kim").await?;
        let desk = Desk::new(stack, letter)?;
        let mistyped = desk.edit("sed -i s/Ctl-Kim.*/7/", &["--yes"]).await?;
        assert!(mistyped.err.contains("nothing was sent: it is no JSON"), "{mistyped:?}");
        assert!(matches!(desk.kept()?.as_slice(), [text] if text.contains("\"traveller\": \"7\n")));
        assert_snapshot!(desk.edit("sed -i s/\\\"Ctl-Kim\\\"/7/", &["--yes"]).await?.told(), @r#"
        ---- stderr
          {
          "sagaId": "ID",
        -  "traveller": "Ctl-Kim"
        +  "traveller": 7
          }
        send it in place of the original
        error: what was asked for is wrong
          value.traveller: expected a string, found 7
        next: correct what is named above and ask again; nothing was done
        next: what you typed is in FILE: go on from there with --value @FILE
        ---- exit 1
        "#);
        assert!(matches!(desk.kept()?.as_slice(), [text] if text.contains("\"traveller\": 7")));
        Ok(())
    });
}

#[test]
fn letters_are_discarded() {
    on_shared_stack(async |stack| {
        let (_, one) = stuck(stack, "Ctl-Lea").await?;
        let (_, two) = stuck(stack, "Ctl-Max").await?;
        let discard = ["dead-letter", "discard", &one, &two, "--reason", "old"];
        assert_snapshot!(sagactl(stack, &discard).await?.told(), @r"
        ---- stderr
        discard 2 dead letters
        error: nobody can be asked here, and nothing was done
        next: say --yes to go on without being asked
        ---- exit 2
        ");
        let yes: Vec<&str> = discard.iter().copied().chain(["--yes"]).collect();
        assert_snapshot!(sagactl(stack, &yes).await?.told(), @r"
        DEAD LETTER  STATUS  CAUSE  MESSAGE TYPE  STEP  TRIES  AGE
        ID  discarded  closed  travel.SendPostcard  send-postcard  1  TIME
        ID  discarded  closed  travel.SendPostcard  send-postcard  1  TIME
        ---- stderr
        discard 2 dead letters
        ---- exit 0
        ");
        let nobody = "0190a6b0-1c2d-7e3f-8a4b-5c6d7e8f0000";
        assert_snapshot!(sagactl(stack, &["dead-letter", "show", nobody]).await?.told(), @r"
        ---- stderr
        error: no dead letter has the id `ID`
        next: sagactl dead-letter list
        ---- exit 5
        ");
        Ok(())
    });
}
