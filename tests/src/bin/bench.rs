//! The benchmark: `cargo run --release -p tests --bin bench -- --help`. See tests/README.md.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// With the system's a saga costs the orchestrator a third more at least (docs/performance.md).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    return tests::bench::main(std::env::args_os().collect());
    #[cfg(not(target_os = "linux"))]
    {
        eprintln!("bench: it reads what processes use from /proc, which is there on Linux only");
        ExitCode::from(2)
    }
}
