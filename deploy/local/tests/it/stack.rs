use local_postgres::TestServer;

use crate::support::{Folder, Running, all_gone, descendants, get, on, run};

#[test]
fn a_burst_ends_as_expected_and_a_second_start_finds_its_sagas() {
    let folder = Folder::new();
    run(on(&folder, &["--exit", "--bookings", "50"])).check(&[
        "start                     -> reserve-booking #1",
        "confirm-booking succeeded -> completed",
        "charge-payment rejected   -> undo reserve-booking #1  payment_declined",
        "reserve-booking undone    -> compensated              payment_declined",
        "CANCELLED (payment_declined)",
        "asked for       40 normal, 5 declined, 5 with the gateway unavailable twice",
        "completed       45\n",
        "compensated     5\n",
        "unexpected      0\n",
        "tables          52 bookings ever: 46 completed, 6 compensated; 46 charges, 0 refunds",
        "no effect twice, none missing",
    ]);
    run(on(&folder, &["--exit"])).check(&[
        "found 52 sagas of earlier runs; none was in flight",
        "tables          54 bookings ever: 47 completed, 7 compensated; 47 charges, 0 refunds",
    ]);
}

#[test]
fn it_serves_until_it_is_told_to_stop_and_stops_everything() {
    let folder = Folder::new();
    let mut stack = Running::start(on(&folder, &[]));
    stack.line_with("/history");
    let api = stack.api();
    assert!(get(&api, "/openapi.json").contains("/api/bookings"));
    let started = descendants(stack.pid());
    assert!(started.len() > 4, "{started:?}");

    let second = run(on(&folder, &[]));
    let line = format!(
        "local: {} is in use by process {}; stop that one first, or choose another folder with --data-dir\n",
        folder.path().join("data").display(),
        stack.pid()
    );
    assert_eq!((second.code, second.complained), (Some(1), line));

    stack.signal(libc::SIGINT);
    let ended = stack.end();
    ended.check(&["stopping; once more does not wait for what is in flight", "\nstopped ("]);
    all_gone(&started);
}

#[test]
fn a_postgres_of_the_users_gets_three_schemas() {
    let folder = Folder::new();
    let mut command = on(&folder, &["--exit", "--bookings", "10"]);
    command.env("DATABASE_URL", TestServer::shared().fresh_database());
    run(command).check(&[
        "Postgres of DATABASE_URL answers",
        "completed       9\n",
        "no effect twice, none missing",
    ]);
    assert!(!folder.path().join("data/postgres").exists());
}

#[test]
fn a_service_that_ends_by_itself_is_named_and_ends_the_rest() {
    let folder = Folder::new();
    let mut stack = Running::start(on(&folder, &[]));
    stack.line_with("/history");
    let started = descendants(stack.pid());
    let worker = started.iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("payment-worker")
    });
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::kill(i32::try_from(*worker.unwrap()).unwrap(), libc::SIGKILL) }, 0);
    let ended = stack.end();
    assert_eq!(ended.code, Some(1));
    let expected = "local: payment-worker ended by itself, so everything stops; the end of ";
    assert!(ended.complained.starts_with(expected), "{}", ended.complained);
    all_gone(&started);
}
