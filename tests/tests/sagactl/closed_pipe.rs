//! A reader that goes away early.

use std::process::Command;

use tests::process::services_program;
use tests::scenario::on_shared_stack;

use crate::ran::run;

/// Whatever is printed to a reader that is gone, the program says nothing of it and ends well.
#[test]
fn a_closed_pipe_ends_quietly() {
    on_shared_stack(async |stack| {
        let program = services_program()?;
        for arguments in ["completions bash", "man", "definition list -o json", "saga list -o yaml"] {
            let script = format!("{{ \"$0\" sagactl {arguments}; echo \"exit $?\" >&2; }} | true");
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(script).arg(&program).env_clear();
            shell
                .env("PATH", std::env::var("PATH").unwrap_or_default())
                .env("SAGACTL_URL", stack.api()?.base());
            let ran = run(shell).await?;
            assert_eq!(ran.err, "exit 0\n", "{arguments}");
        }
        Ok(())
    });
}
