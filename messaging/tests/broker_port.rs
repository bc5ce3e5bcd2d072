//! The embedded broker and the port it has to have again.

use std::net::TcpListener;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use messaging::embedded::Broker;

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
