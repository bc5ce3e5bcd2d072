//! Asking before something is done to many.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anstream::AutoStream;

use crate::failure::Failure;
use crate::output::note;

/// Says what is about to be done, and asks whether to go on unless `yes`.
pub(crate) fn go_on(what: &str, yes: bool) -> Result<(), Failure> {
    note(what);
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody can be asked here, and nothing was done")
            .next("say --yes to go on without being asked"));
    }
    let _ = write!(AutoStream::auto(io::stderr().lock()), "Go on? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && is_yes(&answer) { Ok(()) } else { Err(Failure::error("nothing was done")) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        for (answer, yes) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yeah\n", false), ("n\n", false)]
        {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
