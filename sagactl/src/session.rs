//! What every command has at hand.

use std::fs;

use saga_client::{Client, Error};

use crate::cli::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// The variable that may have the token.
const TOKEN: &str = "SAGACTL_TOKEN";

/// An orchestrator, and where results go.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) output: Output,
}

impl Session {
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let mut builder = Client::builder(&global.url);
        if let Some(token) = token(global)? {
            builder = builder.token(token);
        }
        if let Some(actor) = global.acting_as.as_deref().filter(|actor| !actor.trim().is_empty()) {
            builder = builder.actor(actor.trim());
        }
        Ok(Self { client: builder.build()?, output: Output::new(global.format()) })
    }

    /// What a failed request means. A route that this orchestrator does not have is told from a thing that is not there.
    pub(crate) async fn failed(&self, error: Error) -> Failure {
        if let Error::Problem { route, .. } = &error
            && error.is_not_found()
            && let Ok(document) = self.client.openapi().await
            && let Some((method, path)) = route.split_once(' ')
            && document["paths"][path][method.to_lowercase()].is_null()
        {
            let text = format!("the orchestrator at {} does not serve {route}", self.client.url());
            return Failure::new(Exit::Error, text)
                .next("it is older than this sagactl: bring it up to date");
        }
        error.into()
    }
}

/// The token: from a file, else from the environment. An argument would be seen by everybody on the machine.
fn token(global: &Global) -> Result<Option<String>, Failure> {
    let Some(path) = &global.token_file else {
        return Ok(std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty()));
    };
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("the token in {} cannot be read: {error}", path.display()))
    })?;
    Ok(Some(text.trim().to_owned()))
}
