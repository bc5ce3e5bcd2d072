//! What is written about a saga into its row is the saga: on random courses of random definitions.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use saga_defs::saga::Saga;

use orchestrator::store::body::{SagaRow, body_of, saga_from_row};

/// The random courses of the core's own laws.
#[path = "../../saga-defs/tests/laws/course.rs"]
#[expect(dead_code, reason = "the core's laws ask more of it")]
mod course;
#[path = "../../saga-defs/tests/laws/recipe.rs"]
mod recipe;

fn row_of(saga: &Saga) -> SagaRow {
    SagaRow {
        id: saga.id.as_uuid(),
        definition: saga.definition.name.to_string(),
        version: saga.definition.version.try_into().expect("a small number"),
        business_key: saga.business_key.as_deref().map(str::to_owned),
        revision: saga.revision.0.try_into().expect("a small number"),
        started_at: saga.started_at.to_utc(),
        updated_at: saga.updated_at.to_utc(),
        finished_at: saga.finished_at.map(saga_defs::time::Timestamp::to_utc),
        body: body_of(saga),
    }
}

#[test]
fn a_saga_read_back_from_its_row_is_the_same() {
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let law = |course: course::Course| {
        for step in &course.steps {
            let read =
                saga_from_row(row_of(&step.after)).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&read, &step.after);
        }
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&course::courses(), law) {
        panic!("{error}");
    }
}
