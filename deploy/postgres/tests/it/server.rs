//! A server on a data directory: start, stop, and everything that can have happened to the one before it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::support::{Folder, Process, eventually, installation, is_running, query, refusal, start, tell};
use local_postgres::{Server, ServerOptions};

/// Says which data directory a process of its own is to use.
const DATA_DIR: &str = "TEST_DATA_DIR";

fn kill_hard(pid: u32) {
    // SAFETY: a plain system call on a process that a test has started.
    assert_eq!(unsafe { libc::kill(pid.try_into().unwrap(), libc::SIGKILL) }, 0);
}

#[test]
fn what_was_written_is_there_after_stop_and_start() {
    let folder = Folder::new();
    let server = Server::start(&installation(), &folder.data_dir(), &ServerOptions::default()).unwrap();
    server.create_database("shop \"one\"").unwrap();
    server.create_database("shop \"one\"").unwrap();
    let url = server.url("shop \"one\"");
    query(&url, "CREATE TABLE stock AS SELECT 7 AS amount");
    let pid = server.pid();
    server.stop().unwrap();
    assert!(!is_running(pid));
    assert!(!folder.data_dir().join("data/postmaster.pid").exists());

    let server = Server::start(&installation(), &folder.data_dir(), &ServerOptions::default()).unwrap();
    assert_eq!(query(&url, "SELECT amount FROM stock"), Some(7));
    assert_eq!(query(&url, "SELECT (current_setting('fsync') = 'on')::int"), Some(1));
    drop(server);
}

#[test]
fn settings_are_passed_on_and_bad_ones_are_explained() {
    let folder = Folder::new();
    let options = ServerOptions::throwaway().with("max_connections", 17).with("listen_addresses", "*");
    let server = Server::start(&installation(), &folder.data_dir(), &options).unwrap();
    let url = server.url("postgres");
    assert_eq!(query(&url, "SELECT current_setting('max_connections')::int"), Some(17));
    assert_eq!(
        query(&url, "SELECT (current_setting('listen_addresses') = '')::int"),
        Some(1),
        "no port is ever taken"
    );
    server.stop().unwrap();

    let options = ServerOptions::throwaway().with("max_conections", 17);
    let error = Server::start(&installation(), &folder.data_dir(), &options).unwrap_err().to_string();
    assert!(error.contains("unrecognized configuration parameter \"max_conections\""), "{error}");
}

#[test]
fn two_servers_run_at_once() {
    let (one, two) = (Folder::new(), Folder::new());
    let (first, second) = (start(&one.data_dir()), start(&two.data_dir()));
    query(&first.url("postgres"), "CREATE TABLE mine AS SELECT 1 AS n");
    query(&second.url("postgres"), "CREATE TABLE mine AS SELECT 2 AS n");
    assert_eq!(query(&first.url("postgres"), "SELECT n FROM mine"), Some(1));
}

#[test]
fn a_second_start_on_the_same_data_is_refused_and_names_the_first() {
    let folder = Folder::new();
    let server = start(&folder.data_dir());
    let error = refusal(&folder.data_dir());
    assert!(error.contains(&format!("is in use by process {}", std::process::id())), "{error}");
    assert_eq!(query(&server.url("postgres"), "SELECT 1"), Some(1), "the first one is unharmed");
}

#[test]
fn a_killed_server_is_noticed_and_recovers_at_the_next_start() {
    let folder = Folder::new();
    let mut server = start(&folder.data_dir());
    server.check_running().unwrap();
    query(&server.url("postgres"), "CREATE TABLE kept AS SELECT 3 AS n");
    kill_hard(server.pid());
    eventually("the end is noticed", || server.check_running().is_err());
    assert!(server.check_running().unwrap_err().to_string().contains("signal: 9"));
    drop(server);

    let server = start(&folder.data_dir());
    assert_eq!(query(&server.url("postgres"), "SELECT n FROM kept"), Some(3));
}

#[test]
fn a_killed_launcher_takes_its_server_along() {
    let folder = Folder::new();
    let mut launcher = Process::run("server::launcher", &[(DATA_DIR, &folder.data_dir())]);
    let pid = launcher.told().parse().unwrap();
    assert!(is_running(pid));
    launcher.kill();
    // at once, while the old server may still be stopping
    let server = start(&folder.data_dir());
    assert!(!is_running(pid));
    assert_eq!(query(&server.url("postgres"), "SELECT 1"), Some(1));
}

#[test]
#[ignore = "run as a process of its own by the test above"]
fn launcher() {
    let server = start(Path::new(&std::env::var_os(DATA_DIR).unwrap()));
    // a thread that ends must not take the server along
    let server = std::thread::spawn(move || server).join().unwrap();
    tell(server.pid());
    loop {
        std::thread::park();
    }
}

#[test]
fn the_thread_that_starts_a_server_may_end() {
    let folder = Folder::new();
    let data_dir = folder.data_dir();
    let mut server = std::thread::spawn(move || start(&data_dir)).join().unwrap();
    assert_eq!(query(&server.url("postgres"), "SELECT 1"), Some(1));
    server.check_running().unwrap();
}

#[test]
fn a_stale_pid_file_stops_nobody_and_nothing() {
    let (one, two) = (Folder::new(), Folder::new());
    let mut other = start(&one.data_dir());
    start(&two.data_dir()).stop().unwrap();
    // the number now belongs to another process of the same user, which Postgres alone would take for a running server
    let stale = format!("{}\n{}\n1\n5432\n", other.pid(), two.data_dir().join("data").display());
    fs::write(two.data_dir().join("data/postmaster.pid"), &stale).unwrap();
    fs::write(two.data_dir().join(".s.PGSQL.5432.lock"), &stale).unwrap();
    let server = start(&two.data_dir());
    assert_eq!(query(&server.url("postgres"), "SELECT 1"), Some(1));
    other.check_running().unwrap();
}

#[test]
fn an_interrupted_first_start_is_begun_again() {
    let folder = Folder::new();
    fs::create_dir_all(folder.data_dir().join("data.new/base")).unwrap();
    fs::write(folder.data_dir().join("lock"), "").unwrap();
    let server = start(&folder.data_dir());
    assert_eq!(query(&server.url("postgres"), "SELECT 1"), Some(1));
}

#[test]
fn a_path_too_long_for_a_socket_is_no_obstacle() {
    let folder = Folder::new();
    let data_dir = folder.0.join("long".repeat(30));
    let server = start(&data_dir);
    let url = server.url("postgres");
    assert!(url.contains("?host=/tmp/saga-postgres-"), "{url}");
    assert_eq!(query(&url, "SELECT 1"), Some(1));
    let socket_dir = PathBuf::from(url.split_once("host=").unwrap().1.split_once('&').unwrap().0);
    assert_eq!(fs::metadata(&socket_dir).unwrap().permissions().mode() & 0o777, 0o700);
    server.stop().unwrap();
    assert!(!socket_dir.exists());
}

#[test]
fn data_of_another_version_is_explained() {
    let folder = Folder::new();
    start(&folder.data_dir()).stop().unwrap();
    fs::write(folder.data_dir().join("data/PG_VERSION"), "9\n").unwrap();
    let error = refusal(&folder.data_dir());
    assert!(error.contains("was made by Postgres 9 and"), "{error}");
}

#[test]
fn a_folder_with_other_things_is_left_alone() {
    let folder = Folder::new();
    fs::create_dir(folder.data_dir()).unwrap();
    fs::write(folder.data_dir().join("thesis.txt"), "two years of work").unwrap();
    let before = fs::metadata(folder.data_dir()).unwrap().permissions();
    let error = refusal(&folder.data_dir());
    assert!(error.contains("holds other things than a server's data"), "{error}");
    assert_eq!(fs::metadata(folder.data_dir()).unwrap().permissions(), before);
}

#[test]
fn an_unusable_place_is_named() {
    let folder = Folder::new();
    let closed = folder.0.join("closed");
    fs::create_dir(&closed).unwrap();
    // SAFETY: takes nothing, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    // root gets in anywhere, but the user that Postgres runs as does not
    let mode = if root { 0o700 } else { 0o500 };
    fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    let error = refusal(&closed.join("data-dir"));
    let expected =
        if root { format!("cannot enter {}, ", closed.display()) } else { "Permission denied".to_owned() };
    assert!(error.contains(&expected), "{error}");
    assert!(!closed.join("data-dir").exists());
}
