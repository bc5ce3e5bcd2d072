//! The benchmark itself, with next to no load: that it runs, reports, and holds what it did against the invariants.
#![cfg(target_os = "linux")]

use std::process::Command;

#[test]
fn a_tiny_load_is_measured_and_its_invariants_hold() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--rate", "20", "--seconds", "2", "--warm-up", "1"])
        .output()
        .unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A machine that stands still for a second is a finding of the benchmark's, not of this test's.
    let stood_still = report.contains("there was a second without a single end");
    assert!(output.status.success() || stood_still, "{report}\n{errors}");
    assert!(report.contains("All invariants hold, looked at over all") || stood_still, "{report}");
    assert!(errors.contains("NOT A RELEASE BUILD") || !cfg!(debug_assertions), "{errors}");
    for figure in [
        "| sagas ended, /s | ",
        "| p99.9, ms | ",
        "| orchestrator, µs | ",
        "| all databases: per saga, bytes | ",
    ] {
        assert!(report.contains(figure), "no {figure:?} in {report}");
    }
}
