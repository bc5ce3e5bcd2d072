//! `cargo run --release` at the root of the repository runs this.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// With the system's a saga costs the orchestrator a third more at least (docs/performance.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    local::main(std::env::args_os().collect())
}
