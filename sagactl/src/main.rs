//! The program `sagactl`.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    sagactl::main(env::args_os())
}
