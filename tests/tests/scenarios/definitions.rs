//! Every definition with stand-ins for its participants: nothing here is written for one of them.

use anyhow::{Context, Result, ensure};
use insta::assert_snapshot;
use saga_defs::definition::{Definition, Step, StepKind};
use saga_defs::ids::SagaId;
use serde_json::Value;
use tests::made_up;
use tests::scenario::on_shared_stack;
use tests::stack::Stack;
use tests::stand_in::Manner::{self, Do, Reject};
use tests::story::transcript;

/// Participants with programs of their own.
const SHIPPED: [&str; 2] = ["booking", "payment"];

/// The shipped definitions whose participants may have stand-ins.
fn definitions() -> impl Iterator<Item = Definition> {
    let shipped = saga_defs::shipped().iter().map(|shipped| shipped.definition());
    shipped.filter(|definition| definition.steps.iter().all(|step| !SHIPPED.contains(&&*step.participant)))
}

/// The last part of a full name.
fn short(message: &str) -> &str {
    message.rsplit('.').next().unwrap_or(message)
}

/// A saga among stand-ins, for somebody whose name is in every text of its input.
struct Run<'a> {
    stack: &'a Stack,
    definition: &'a Definition,
    who: String,
    saga: SagaId,
}

impl<'a> Run<'a> {
    /// Starts one in which the command of a step is treated so.
    async fn start(
        stack: &'a Stack,
        definition: &'a Definition,
        scene: &str,
        trouble: Option<(&Step, &str, Manner)>,
    ) -> Result<Self> {
        let who = format!("{} {scene}", definition.id.name);
        for participant in definition.participants() {
            stack.stand_in(&participant).await?;
        }
        if let Some((step, command, manner)) = trouble {
            stack.stand_in(&step.participant).await?.handle(&who, short(command), &[manner]);
        }
        let shape = stack.catalog().record(&definition.input).context("the input has a schema")?;
        let input = Value::Object(made_up::record(shape, &who));
        let saga = stack.api()?.start_saga(&definition.id.name, input).await?;
        Ok(Self { stack, definition, who, saga })
    }

    async fn becomes(&self, status: &str) -> Result<()> {
        self.stack.api()?.saga_is(self.saga, status).await.map(drop)
    }

    /// The operator's word, now that the participant is well again.
    async fn redrive(&self, step: &Step, command: &str) -> Result<()> {
        self.stack.stand_in(&step.participant).await?.handle(&self.who, short(command), &[Do]);
        self.stack.api()?.act(self.saga, "redrive").await?.expect(200).map(drop)
    }

    /// Each step is done this often, in the ledgers of all participants.
    async fn all_are_done(&self, times: usize) -> Result<()> {
        let mut left = Vec::new();
        for participant in self.definition.participants() {
            left.extend(self.stack.stand_in(&participant).await?.left(self.saga).await?);
        }
        left.sort();
        let steps = self.definition.steps.iter().filter(|_| times > 0);
        let mut expected: Vec<String> = steps.map(|step| format!("{}: {times}", step.name)).collect();
        expected.sort();
        ensure!(left == expected, "{}: {left:?} are done, {expected:?} should be", self.who);
        Ok(())
    }

    /// Its story, for the stories of all definitions.
    async fn story(&self) -> Result<String> {
        let told = transcript(self.stack, &self.stack.api()?, self.saga).await?;
        Ok(format!("{}\n{told}\n", self.definition.id.name))
    }
}

#[test]
fn each_completes() {
    on_shared_stack(async |stack| {
        let mut stories = String::new();
        for definition in definitions() {
            let run = Run::start(stack, &definition, "completes", None).await?;
            run.becomes("completed").await?;
            run.all_are_done(1).await?;
            stories.push_str(&run.story().await?);
        }
        assert_snapshot!(stories, @r"
        erasure
        start                   -> erase-account #1
        erase-account succeeded -> completed

        stock-transfer
        start                       -> set-goods-aside #1
        set-goods-aside succeeded   -> book-carrier #1
        book-carrier succeeded      -> announce-delivery #1
        announce-delivery succeeded -> completed

        trip
        start                    -> hold-flight #1
        hold-flight succeeded    -> reserve-room #1
        reserve-room succeeded   -> buy-ticket #1
        buy-ticket succeeded     -> confirm-room #1
        confirm-room succeeded   -> send-itinerary #1
        send-itinerary succeeded -> completed
        ");
        Ok(())
    });
}

/// The last step that may refuse does: everything before it is undone.
#[test]
fn each_is_undone_when_it_is_refused() {
    on_shared_stack(async |stack| {
        let mut stories = String::new();
        for definition in definitions() {
            let refusing = definition.steps.iter().rfind(|step| step.kind != StepKind::Retriable);
            let Some(step) = refusing else { continue };
            let trouble = Some((step, &*step.command, Reject));
            let run = Run::start(stack, &definition, "is refused", trouble).await?;
            run.becomes("compensated").await?;
            run.all_are_done(0).await?;
            stories.push_str(&run.story().await?);
        }
        assert_snapshot!(stories, @r"
        stock-transfer
        start                      -> set-goods-aside #1
        set-goods-aside succeeded  -> book-carrier #1
        book-carrier succeeded     -> announce-delivery #1
        announce-delivery rejected -> undo book-carrier #1     closed
        book-carrier undone        -> undo set-goods-aside #1
        set-goods-aside undone     -> compensated              closed

        trip
        start                  -> hold-flight #1
        hold-flight succeeded  -> reserve-room #1
        reserve-room succeeded -> buy-ticket #1
        buy-ticket rejected    -> undo reserve-room #1  closed
        reserve-room undone    -> undo hold-flight #1
        hold-flight undone     -> compensated           closed
        ");
        Ok(())
    });
}

#[test]
fn each_retriable_step_is_redriven_when_it_is_stuck() {
    on_shared_stack(async |stack| {
        let mut stories = String::new();
        for definition in definitions() {
            for step in definition.steps.iter().filter(|step| step.kind == StepKind::Retriable) {
                let scene = format!("is stuck at {}", step.name);
                let trouble = Some((step, &*step.command, Reject));
                let run = Run::start(stack, &definition, &scene, trouble).await?;
                run.becomes("stuck").await?;
                run.redrive(step, &step.command).await?;
                run.becomes("completed").await?;
                run.all_are_done(1).await?;
                stories.push_str(&run.story().await?);
            }
        }
        assert_snapshot!(stories, @r"
        erasure
        start                   -> erase-account #1
        erase-account rejected  -> stuck at erase-account  closed
        redrive                 -> erase-account #1        to see redrive work
        erase-account succeeded -> completed               letter resolved

        trip
        start                    -> hold-flight #1
        hold-flight succeeded    -> reserve-room #1
        reserve-room succeeded   -> buy-ticket #1
        buy-ticket succeeded     -> confirm-room #1
        confirm-room rejected    -> stuck at confirm-room  closed
        redrive                  -> confirm-room #1        to see redrive work
        confirm-room succeeded   -> send-itinerary #1      letter resolved
        send-itinerary succeeded -> completed

        trip
        start                    -> hold-flight #1
        hold-flight succeeded    -> reserve-room #1
        reserve-room succeeded   -> buy-ticket #1
        buy-ticket succeeded     -> confirm-room #1
        confirm-room succeeded   -> send-itinerary #1
        send-itinerary rejected  -> stuck at send-itinerary  closed
        redrive                  -> send-itinerary #1        to see redrive work
        send-itinerary succeeded -> completed                letter resolved
        ");
        Ok(())
    });
}

/// The first step's compensation is refused, after the second step was.
#[test]
fn each_compensation_is_redriven_when_it_is_stuck() {
    on_shared_stack(async |stack| {
        let mut stories = String::new();
        for definition in definitions() {
            let [first, second, ..] = &*definition.steps else { continue };
            let StepKind::Compensatable { compensation } = &first.kind else { continue };
            let participant = stack.stand_in(&second.participant).await?;
            let who = format!("{} is stuck undoing", definition.id.name);
            participant.handle(&who, short(&second.command), &[Reject]);
            let trouble = Some((first, &**compensation, Reject));
            let run = Run::start(stack, &definition, "is stuck undoing", trouble).await?;
            run.becomes("stuck").await?;
            run.redrive(first, compensation).await?;
            run.becomes("compensated").await?;
            run.all_are_done(0).await?;
            stories.push_str(&run.story().await?);
        }
        assert_snapshot!(stories, @r"
        stock-transfer
        start                         -> set-goods-aside #1
        set-goods-aside succeeded     -> book-carrier #1
        book-carrier rejected         -> undo set-goods-aside #1        closed
        undo set-goods-aside rejected -> stuck at undo set-goods-aside  closed
        redrive                       -> undo set-goods-aside #1        to see redrive work
        set-goods-aside undone        -> compensated                    closed, letter resolved

        trip
        start                     -> hold-flight #1
        hold-flight succeeded     -> reserve-room #1
        reserve-room rejected     -> undo hold-flight #1        closed
        undo hold-flight rejected -> stuck at undo hold-flight  closed
        redrive                   -> undo hold-flight #1        to see redrive work
        hold-flight undone        -> compensated                closed, letter resolved
        ");
        Ok(())
    });
}
