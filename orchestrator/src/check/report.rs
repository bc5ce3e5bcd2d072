//! What `orchestrator check` says to people: problems as rustc shows them, colours included; who prints may strip them.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use saga_defs::definition::Problem;

use super::{Checked, Outcome, right};

/// Every file, then the sum.
pub(super) fn print(files: &[Checked]) -> String {
    let mut text = String::new();
    for file in files {
        match &file.outcome {
            Outcome::Right { definition, model_check } => match &file.against {
                Some(against) => {
                    text.push_str(&right::headline(&file.name, definition));
                    text.push_str(&against.text());
                }
                None => text.push_str(&right::shown(&file.name, definition, *model_check)),
            },
            Outcome::Wrong(_) | Outcome::Unusable(_) => text.push_str(&problems([file])),
        }
    }
    text.push_str(&sum(files));
    text
}

/// What is wrong with these files.
pub(super) fn problems<'a>(files: impl IntoIterator<Item = &'a Checked>) -> String {
    let mut text = String::new();
    for file in files {
        match &file.outcome {
            Outcome::Right { .. } => {}
            Outcome::Wrong(refusal) => {
                for problem in &refusal.problems {
                    text.push_str(&shown(&file.name, &file.source, problem));
                    text.push_str("\n\n");
                }
                if let Some(run) = &refusal.run {
                    let run = run.lines().map(|line| format!("  {line}\n")).collect::<String>();
                    text.push_str(&format!("{}: a run of it that ends wrong:\n{run}\n", file.name));
                }
            }
            Outcome::Unusable(why) => {
                let title = Level::ERROR.primary_title(format!("{}: {why}", file.name));
                text.push_str(&Renderer::styled().render(&[Group::with_title(title)]));
                text.push_str("\n\n");
            }
        }
    }
    text
}

fn shown(name: &str, source: &str, problem: &Problem) -> String {
    let annotation = AnnotationKind::Primary.span(problem.span.clone());
    let snippet = Snippet::source(source).path(name).annotation(annotation);
    let mut group = Level::ERROR.primary_title(problem.message.as_str()).element(snippet);
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::styled().render(&[group])
}

fn sum(files: &[Checked]) -> String {
    let wrong = files.iter().filter(|file| !file.is_right()).count();
    match (wrong, files.len()) {
        (0, 1) => "1 file is right\n".to_owned(),
        (0, all) => format!("all {all} files are right\n"),
        (wrong, all) => format!("{wrong} of {all} files wrong\n"),
    }
}
