//! The services in one program, so that scenarios start real processes of them:
//! `services orchestrator|booking-worker|payment-worker|sagactl ARGUMENTS…`.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    tests::services::main(env::args_os().skip(1).collect())
}
