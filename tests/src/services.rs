//! What a process of the services does: it is the one that its first argument names, and goes when its parent goes.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::process::PARENT;

/// Runs the service that the first argument names.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if !tied_to_parent() {
        return ExitCode::FAILURE;
    }
    let role = arguments.first().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    named(&role);
    match &*role {
        "orchestrator" => orchestrator::main(arguments),
        "booking-worker" => booking_worker::main(arguments),
        "payment-worker" => payment_worker::main(arguments),
        "sagactl" => sagactl::main(arguments),
        "broker" => local::broker_process::main(arguments.get(1..).unwrap_or_default()),
        "kafka" => apache_kafka(arguments.get(1..).unwrap_or_default()),
        _ => {
            eprintln!("usage: services orchestrator|booking-worker|payment-worker|sagactl|broker ARGUMENTS");
            ExitCode::from(2)
        }
    }
}

/// Becomes the Apache Kafka of a folder, which so goes with whoever started it.
fn apache_kafka(arguments: &[OsString]) -> ExitCode {
    let error = Command::new("bash").arg(crate::apache_kafka::script()).arg("run").args(arguments).exec();
    eprintln!("services: bash .ci/kafka.sh run: {error}");
    ExitCode::FAILURE
}

/// Tools that list processes and threads show what each is.
fn named(role: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(role) {
        // SAFETY: a system call with a text that lives as long as the call; the kernel copies it.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = role;
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
