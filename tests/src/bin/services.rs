//! The services in one program, so that scenarios start real processes of them:
//! `services orchestrator|booking-worker|payment-worker|sagactl ARGUMENTS…`.

use std::env;
use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// With the system's a saga costs the orchestrator a third more at least (docs/performance.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    tests::services::main(env::args_os().skip(1).collect())
}
