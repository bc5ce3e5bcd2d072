//! The booking worker's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    booking_worker::main(std::env::args_os().collect())
}
