//! What `orchestrator check --format json` says to programs. Fields are added, never changed.

use saga_defs::definition::Problem;
use saga_defs::rehearsal::{Rehearsal, rehearsals};
use saga_defs::render::Columns;
use serde::Serialize;

use super::against::Against;
use super::{Checked, Outcome};
use crate::registration::examine::ModelCheck;

#[derive(Serialize)]
struct FileView<'a> {
    file: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<DefinitionView<'a>>,
    problems: Vec<ProblemView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a Against>,
    /// A run that ends wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(rename = "modelCheck", skip_serializing_if = "Option::is_none")]
    model_check: Option<ModelCheck>,
    /// The baseline runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rehearsals: Vec<RehearsalView>,
}

#[derive(Serialize)]
struct RehearsalView {
    title: String,
    transcript: Vec<String>,
    ended: &'static str,
}

#[derive(Serialize)]
struct DefinitionView<'a> {
    name: &'a str,
    version: u32,
}

#[derive(Serialize)]
struct ProblemView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

/// An array with an object for each file.
///
/// # Errors
/// None that is known: there are only texts and numbers.
pub(super) fn print(files: &[Checked]) -> serde_json::Result<String> {
    let views: Vec<FileView> = files.iter().map(view).collect();
    Ok(serde_json::to_string_pretty(&views)? + "\n")
}

fn view(file: &Checked) -> FileView<'_> {
    let mut view = FileView {
        file: &file.name,
        ok: file.is_right(),
        definition: None,
        problems: Vec::new(),
        run: None,
        model_check: None,
        rehearsals: Vec::new(),
        against: file.against.as_ref(),
    };
    match &file.outcome {
        Outcome::Right { definition, model_check } => {
            let id = &definition.id;
            view.definition = Some(DefinitionView { name: &id.name, version: id.version });
            view.model_check = *model_check;
            // Compared with another one, its runs are told by what is different about them.
            if file.against.is_none() {
                view.rehearsals = rehearsals(definition).map(rehearsal).collect();
            }
        }
        Outcome::Wrong(refusal) => {
            view.problems = refusal.problems.iter().map(problem).collect();
            view.run = refusal.run.as_deref();
        }
        Outcome::Unusable(why) => {
            view.problems.push(ProblemView { line: None, column: None, message: why, help: None });
        }
    }
    view
}

fn problem(problem: &Problem) -> ProblemView<'_> {
    ProblemView {
        line: Some(problem.line),
        column: Some(problem.column),
        message: &problem.message,
        help: problem.help.as_deref(),
    }
}

fn rehearsal(rehearsal: Rehearsal) -> RehearsalView {
    let transcript = Columns::lines(&rehearsal.transcript).lines().map(str::to_owned).collect();
    RehearsalView { transcript, ended: rehearsal.ended.as_str(), title: rehearsal.title }
}
