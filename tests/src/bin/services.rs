//! The three services in one program, so that scenarios start real processes of them:
//! `services orchestrator|booking-worker|payment-worker ARGUMENTS…`.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use tests::process::PARENT;

fn main() -> ExitCode {
    if !tied_to_parent() {
        return ExitCode::FAILURE;
    }
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match arguments.first().and_then(|name| name.to_str()) {
        Some("orchestrator") => orchestrator::main(arguments),
        Some("booking-worker") => booking_worker::main(arguments),
        Some("payment-worker") => payment_worker::main(arguments),
        _ => {
            eprintln!("usage: services orchestrator|booking-worker|payment-worker ARGUMENTS");
            ExitCode::from(2)
        }
    }
}

/// Whoever started this process takes it along when it goes, however it goes. False if it has gone already.
fn tied_to_parent() -> bool {
    let Some(parent) = env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok()) else { return true };
    #[cfg(target_os = "linux")]
    // SAFETY: a system call with plain numbers.
    let told = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0;
    #[cfg(not(target_os = "linux"))]
    let told = true;
    // SAFETY: a system call without arguments.
    told && unsafe { libc::getppid() } == parent
}
