//! Editing JSON in the operator's own editor, and showing what was changed.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};
use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::output::{json, note};
use crate::style::{BAD, GOOD, painted};
use crate::words::plain_lines;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// What was typed into an editor. Its file goes with it, unless it is [kept](Edited::kept).
pub(crate) struct Edited {
    pub(crate) fields: Map<String, Value>,
    file: NamedTempFile,
}

impl Edited {
    /// What was typed is not lost with this failure.
    pub(crate) fn kept(self, failure: Failure) -> Failure {
        kept(self.file, failure)
    }
}

/// Opens an object in the editor; what it has become, or nothing if it was left as it was.
pub(crate) fn edited(before: &Map<String, Value>) -> Result<Option<Edited>, Failure> {
    let text = json(before)? + "\n";
    let mut file = tempfile::Builder::new()
        .prefix("sagactl-")
        .suffix(".json")
        .tempfile()
        .map_err(|error| Failure::error(format!("no file for the editor can be made: {error}")))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.flush())
        .map_err(|error| Failure::error(format!("{} cannot be written: {error}", file.path().display())))?;
    open(file.path())?;
    let after = std::fs::read_to_string(file.path())
        .map_err(|error| Failure::error(format!("what was edited cannot be read: {error}")))?;
    let fields = match serde_json::from_str(&after) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(kept(file, Failure::error("nothing was sent: it must be a JSON object"))),
        Err(error) => {
            return Err(kept(file, Failure::error(format!("nothing was sent: it is no JSON: {error}"))));
        }
    };
    Ok((fields != *before).then_some(Edited { fields, file }))
}

fn kept(file: NamedTempFile, failure: Failure) -> Failure {
    match file.keep() {
        Ok((_, path)) => {
            let path = path.display();
            failure.next(format!("what you typed is in {path}: go on from there with --value @{path}"))
        }
        Err(error) => failure.detail(format!("what you typed cannot be kept: {error}")),
    }
}

fn open(path: &Path) -> Result<(), Failure> {
    let editor =
        ["VISUAL", "EDITOR"].into_iter().find_map(|name| env::var_os(name).filter(|text| !text.is_empty()));
    let editor = editor.unwrap_or_else(|| OsString::from("vi"));
    // By a shell, as others do: the variable may have arguments.
    let mut line = editor.clone();
    line.push(" \"$1\"");
    let status = Command::new("sh").arg("-c").arg(line).arg("sagactl").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::error(format!("nothing was sent: the editor ended with {status}"))
            .next("set EDITOR to an editor, or give the value with --value JSON")),
        Err(error) => Err(Failure::error(format!("{} cannot be started: {error}", editor.display()))
            .next("set EDITOR to an editor, or give the value with --value JSON")),
    }
}

/// Says what is different.
pub(crate) fn tell_difference(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Result<(), Failure> {
    let (before, after) = (json(before)?, json(after)?);
    let difference = TextDiff::from_lines(&before, &after);
    for group in difference.grouped_ops(CONTEXT) {
        for change in group.iter().flat_map(|op| difference.iter_changes(op)) {
            let line = plain_lines(change.value().trim_end());
            note(&match change.tag() {
                ChangeTag::Delete => painted(BAD, &format!("- {line}")),
                ChangeTag::Insert => painted(GOOD, &format!("+ {line}")),
                ChangeTag::Equal => format!("  {line}"),
            });
        }
    }
    Ok(())
}
