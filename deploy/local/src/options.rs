//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::Parser;

const AFTER_HELP: &str = "\
Environment:
  DATABASE_URL          A Postgres of your own instead of one that is started here; the schemas
                        orchestrator, booking and payment are made in that database
  LOCAL_POSTGRES        Where the Postgres started here comes from: installed, or fetch
  KAFKA_PROPERTIES      With --kafka: a file of librdkafka properties, for TLS and SASL
  RUST_LOG, LOG_FORMAT  What the services log, and how: text or json
  NO_COLOR              Set to anything: no colours

Examples, each after `cargo run --release --`:
  --exit --bookings 1000                           A burst, its checks, and out
  --http 127.0.0.1:0 --data-dir /var/tmp/second    A second stack beside the first";

/// Runs the whole stack on this machine: Postgres, an embedded Kafka-protocol broker, the orchestrator and both workers;
/// shows one booking that completes and one that is undone, then serves until Ctrl-C.
#[derive(Parser, Debug, Clone)]
#[command(name = "local", version, after_help = AFTER_HELP)]
pub struct Options {
    /// Where the API listens; port 0 is any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub http: SocketAddr,

    /// Start N bookings as well and sum up how they went: of ten, eight are normal, one is declined, and for one the
    /// payment gateway is unavailable at first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub bookings: Option<u32>,

    /// Stop when all bookings have ended; the exit code is 1 if any did not end as expected
    #[arg(long)]
    pub exit: bool,

    /// Use this Kafka instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT", value_parser = servers)]
    pub kafka: Option<String>,

    /// A folder of further definitions (*.toml)
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub definitions: Option<PathBuf>,

    /// A folder of further Avro schemas (*.avsc)
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub schemas: Option<PathBuf>,

    /// Where data and logs are kept; the next start finds them there [default: a folder of the user's, or below /var/lib
    /// for root]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|_| "an address and a port are needed, e.g. 127.0.0.1:8080".to_owned())?
        .collect();
    // A name such as localhost often has both kinds; most people mean the one with dots.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| "no such host".to_owned())
}

fn servers(text: &str) -> Result<String, String> {
    let is_server = |server: &str| {
        server
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
    };
    let all = text.split(',').all(|server| is_server(server.trim()));
    all.then(|| text.to_owned()).ok_or_else(|| "HOST:PORT is needed, several with commas".to_owned())
}

fn folder(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    if path.is_dir() { Ok(path) } else { Err("there is no such folder".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str], expected: Result<&str, &str>) {
        let parsed = Options::try_parse_from(["local"].iter().chain(args));
        match (parsed, expected) {
            (Ok(options), Ok(shown)) => assert_eq!(format!("{options:?}"), shown),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (parsed, expected) => panic!("{args:?}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_command_line_is_read() {
        check(
            &[],
            Ok(
                "Options { http: 127.0.0.1:8080, bookings: None, exit: false, kafka: None, definitions: None, \
                schemas: None, data_dir: None }",
            ),
        );
        check(
            &["--exit", "--bookings", "5", "--http", "[::1]:0", "--kafka", "a:1,b:2", "--data-dir", "x"],
            Ok("Options { http: [::1]:0, bookings: Some(5), exit: true, kafka: Some(\"a:1,b:2\"), \
                definitions: None, schemas: None, data_dir: Some(\"x\") }"),
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        check(&["--http", "8080"], Err("an address and a port are needed"));
        check(&["--bookings", "0"], Err("0 is not in 1..=10000000"));
        check(&["--kafka", "somewhere"], Err("HOST:PORT is needed"));
        check(&["--definitions", "/does/not/exist"], Err("there is no such folder"));
        check(&["--bogus"], Err("unexpected argument '--bogus'"));
    }
}
