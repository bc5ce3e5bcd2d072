//! The embedded broker and the port it has to have again.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use messaging::embedded::{self, Broker};

/// While the broker is away, its port may be lent to anybody. librdkafka would end the process.
#[test]
fn a_broker_that_comes_up_waits_for_its_port() {
    let broker = Broker::start(&[]).unwrap();
    broker.down().unwrap();
    let other = TcpListener::bind(broker.address()).unwrap();
    let (up, is_up) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| up.send(broker.up()));
        assert!(matches!(is_up.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout)));
        drop(other);
        is_up.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    });
    // Once it is up there is nothing to wait for.
    broker.up().unwrap();
}

/// A process that is being started has all descriptors of ours for a moment, and with them the port on which the broker
/// must not listen while it goes down. librdkafka would end the process.
#[test]
fn a_broker_goes_down_between_processes_that_are_started() {
    let broker = Broker::start(&[]).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut command = Command::new("true");
                    // SAFETY: does nothing. With it there is a true fork, and the moment is longer.
                    unsafe { command.pre_exec(|| Ok(())) };
                    embedded::starting(|| command.spawn()).unwrap().wait().unwrap();
                }
            });
        }
        for _ in 0..30 {
            broker.down().unwrap();
            broker.up().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
}
