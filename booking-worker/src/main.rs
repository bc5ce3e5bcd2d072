//! The booking worker's program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// The system's costs a saga a quarter more of the orchestrator (docs/performance.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    booking_worker::main(std::env::args_os().collect())
}
