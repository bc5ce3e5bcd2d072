//! The shared server of a test binary: there for everybody in it, and gone with it.

use std::path::PathBuf;

use crate::support::{Process, eventually, is_running, query, tell};
use local_postgres::TestServer;

#[test]
fn every_database_is_new() {
    let (one, two) = (TestServer::shared().fresh_database(), TestServer::shared().fresh_database());
    query(&one, "CREATE TABLE mine AS SELECT 1 AS n");
    query(&two, "CREATE TABLE mine AS SELECT 2 AS n");
    assert_eq!(query(&one, "SELECT n FROM mine"), Some(1));
    let names = "SELECT count(*)::int FROM pg_database WHERE datname IN ('test_1', 'test_2')";
    assert_eq!(query(&TestServer::shared().maintenance_url(), names), Some(2));
}

#[test]
fn nothing_is_left_when_the_process_ends() {
    let mut process = Process::run("test_server::user_of_the_server", &[("TEST_THEN", "end".as_ref())]);
    let (pid, folder) = about(&process.told());
    process.finish();
    assert!(!is_running(pid));
    assert!(!folder.exists());
}

#[test]
fn nothing_is_left_when_the_process_is_killed() {
    let mut process = Process::run("test_server::user_of_the_server", &[("TEST_THEN", "wait".as_ref())]);
    let (pid, folder) = about(&process.told());
    process.kill();
    eventually("the server has stopped", || !is_running(pid));
    assert!(folder.exists());

    let mut next = Process::run("test_server::user_of_the_server", &[("TEST_THEN", "end".as_ref())]);
    next.told();
    next.finish();
    assert!(!folder.exists(), "the next one cleans up");
}

/// What the process below tells: the server's process and its folder.
fn about(told: &str) -> (u32, PathBuf) {
    let (pid, folder) = told.split_once(' ').unwrap();
    (pid.parse().unwrap(), PathBuf::from(folder))
}

#[test]
#[ignore = "run as a process of its own by the tests above"]
fn user_of_the_server() {
    let url = TestServer::shared().fresh_database();
    let data_dir = PathBuf::from(url.split_once("host=").unwrap().1.split_once('&').unwrap().0);
    let pid_file = std::fs::read_to_string(data_dir.join("data/postmaster.pid")).unwrap();
    tell(format!("{} {}", pid_file.lines().next().unwrap(), data_dir.parent().unwrap().display()));
    while std::env::var_os("TEST_THEN").unwrap() == "wait" {
        std::thread::park();
    }
}
