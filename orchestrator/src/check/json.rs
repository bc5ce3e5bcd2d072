//! What `orchestrator check --format json` says to programs. Fields are added, never changed.

use serde::Serialize;

use super::against::Against;
use super::{Checked, Outcome};

#[derive(Serialize)]
struct FileView<'a> {
    file: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<DefinitionView<'a>>,
    problems: Vec<ProblemView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a Against>,
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
    let (definition, problems) = match &file.outcome {
        Outcome::Right { definition, .. } => {
            let id = &definition.id;
            (Some(DefinitionView { name: &id.name, version: id.version }), Vec::new())
        }
        Outcome::Wrong(refusal) => {
            let all = refusal.problems.iter().map(|problem| ProblemView {
                line: Some(problem.line),
                column: Some(problem.column),
                message: &problem.message,
                help: problem.help.as_deref(),
            });
            (None, all.collect())
        }
        Outcome::Unusable(why) => {
            (None, vec![ProblemView { line: None, column: None, message: why, help: None }])
        }
    };
    FileView { file: &file.name, ok: file.is_right(), definition, problems, against: file.against.as_ref() }
}
