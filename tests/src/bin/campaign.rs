//! The fault campaign: `cargo run -p tests --bin campaign -- --help`. See tests/README.md.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// With the system's a saga costs the orchestrator a third more at least (docs/performance.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    return tests::campaign::main(std::env::args_os().collect());
    #[cfg(not(target_os = "linux"))]
    {
        eprintln!("campaign: it needs what /proc says of processes, which is there on Linux only");
        ExitCode::from(2)
    }
}
