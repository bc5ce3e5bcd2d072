//! `cargo run --release` at the root of the repository runs this.

use std::process::ExitCode;

fn main() -> ExitCode {
    local::main(std::env::args_os().collect())
}
