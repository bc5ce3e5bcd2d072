//! The campaign's command line. What a campaign does takes longer than a test may: tests/README.md says how to run one.
#![cfg(target_os = "linux")]

use std::process::Command;

#[test]
fn every_fault_is_listed_with_its_numbers() {
    let output = Command::new(env!("CARGO_BIN_EXE_campaign")).arg("--list").output().unwrap();
    let list = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let kill = list.lines().find(|line| line.starts_with("kill-orchestrator "));
    assert!(kill.is_some_and(|line| line.contains(" 1 2 3 ") && line.contains("kill -9")), "{list}");
}

#[test]
fn a_wrong_command_line_is_told_from_a_violation() {
    let output = Command::new(env!("CARGO_BIN_EXE_campaign")).args(["--fault", "no-such"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
