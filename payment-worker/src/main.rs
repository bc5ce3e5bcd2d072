//! The payment worker's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    payment_worker::main(std::env::args_os().collect())
}
