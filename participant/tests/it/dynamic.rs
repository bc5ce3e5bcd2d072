//! Commands that no Rust type stands for.

use async_trait::async_trait;
use participant::testing::new_saga;
use participant::{BuildError, Command, DynamicHandler, DynamicMessage, HandlerError, Outcome, Participant};
use saga_defs::ids::Direction;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::stack::{Stack, put, take};

/// Answers `Put` and `Take` as the note of the command says.
struct Clerk;

#[async_trait]
impl DynamicHandler for Clerk {
    async fn handle_one(
        &self,
        transaction: &DatabaseTransaction,
        command: &Command<DynamicMessage>,
    ) -> Result<Outcome<DynamicMessage>, HandlerError> {
        let kind = match (command.direction, &*command.body.name) {
            (Direction::Forward, "shop.Put") => "put",
            (Direction::Compensation, "shop.Take") => "take",
            (_, other) => return Err(HandlerError::Failed(format!("{other} is not mine"))),
        };
        let insert = "INSERT INTO effects (saga_id, kind, note) VALUES ($1, $2, '')";
        let values = [command.saga_id.as_uuid().into(), kind.into()];
        transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, insert, values)).await?;
        Ok(match command.body.fields["note"].as_str() {
            Some("panic") => panic!("as it was told"),
            Some("unfit") => Outcome::succeeded(message("shop.Done", json!({"note": 7}))),
            Some("unknown") => Outcome::succeeded(message("shop.NoSuchRecord", json!({}))),
            _ => Outcome::succeeded(message("shop.Done", json!({"note": kind}))),
        })
    }

    fn nothing_to_undo(&self, _command: &Command<DynamicMessage>) -> Option<DynamicMessage> {
        Some(message("saga.Undone", json!({})))
    }
}

fn message(name: &str, fields: serde_json::Value) -> DynamicMessage {
    DynamicMessage { name: name.into(), fields: fields.as_object().cloned().unwrap_or_default() }
}

#[tokio::test]
async fn a_handler_of_several_types_answers_by_name() {
    let stack = Stack::start().await;
    let clerk = Participant::builder("shop", stack.catalog.clone());
    let clerk = clerk.dynamic_handler(["shop.Put", "shop.Take"], Clerk).build().unwrap();
    let (kafka, database, stop) = (stack.kafka.clone(), stack.database.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let running = tokio::spawn(async move { clerk.run(&kafka, database, stopped).await });

    let (done, undone) = (new_saga(), new_saga());
    let (put_done, take_done, take_undone) = (put(done, ""), take(done), take(undone));
    let wrong = ["panic", "unfit", "unknown"].map(|note| put(new_saga(), note));
    stack.send_commands([&put_done, &take_done, &take_undone]).await;
    stack.send_commands(&wrong).await;

    assert_eq!(stack.replies_to(&put_done, 1).await[0].fields["note"], "put");
    assert_eq!(stack.reply_to(&take_done).await, "succeeded");
    assert_eq!(&*stack.replies_to(&take_undone, 1).await[0].headers.message_type, "saga.Undone");
    assert_eq!(stack.reply_to(&wrong[0]).await, "failed: handler_panicked");
    assert_eq!(stack.reply_to(&wrong[1]).await, "failed: reply_not_encodable");
    assert_eq!(stack.reply_to(&wrong[2]).await, "failed: reply_not_encodable");
    assert_eq!((stack.effects(done).await, stack.effects(undone).await), ((1, 1), (0, 0)));
    assert_eq!(stack.count("SELECT count(*) FROM effects").await, 2);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn each_of_its_commands_has_a_schema_and_no_other_handler() {
    let stack = Stack::start().await;
    let build = |names: [&str; 2]| {
        Participant::builder("shop", stack.catalog.clone()).dynamic_handler(names, Clerk).build().err()
    };
    let (participant, message_type) = ("shop".to_owned(), "shop.Put".to_owned());
    assert_eq!(build(["shop.Put", "shop.Put"]), Some(BuildError::TwoHandlers { participant, message_type }));
    let (participant, message_type) = ("shop".to_owned(), "shop.NoSuchRecord".to_owned());
    assert_eq!(
        build(["shop.Put", "shop.NoSuchRecord"]),
        Some(BuildError::NoSchema { participant, message_type })
    );
}
