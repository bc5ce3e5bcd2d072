//! The orchestrator's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    orchestrator::main(std::env::args_os().collect())
}
