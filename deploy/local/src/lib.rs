//! The local stack: Postgres, an embedded Kafka-protocol broker, the orchestrator and both workers in one process group.
//!
//! # What it promises
//! - **Nothing is left running**: after the end, a panic, a second Ctrl-C, or a `kill -9` of this program (Linux).
//! - **Nothing is lost**: whatever ended it, the next start on the same data directory goes on with every saga.
//! - **One stack per data directory**, any number of stacks side by side.
//!
//! Cargo builds only the program that it runs, so the services are linked in as libraries; each runs as a process of its
//! own, which is this program again under a sub-command that `--help` does not show.
//!
//! Read `run.rs` first: it is the whole story of one start.

mod broker;
mod burst;
mod checks;
mod children;
mod client;
mod cpu;
mod data_dir;
mod databases;
mod demo;
mod options;
mod run;
mod signals;
mod stack;
mod summary;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use checks::{Report, run as check};
pub use cpu::{Stat, stats};
pub use databases::{Databases, Urls};
pub use options::Options;

/// The embedded broker as a process of its own, for programs that start a stack of their own.
pub mod broker_process {
    pub use crate::broker::{
        SHARDS, TOPIC_PARTITIONS, arguments, command_partitions, main, settings, topics,
    };
}

/// Runs the program with a command line, whose first part is the program's own name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let service = args.get(1).and_then(|name| name.to_str());
    match service {
        Some("orchestrator") => orchestrator::main(args.into_iter().skip(1).collect()),
        Some("booking-worker") => booking_worker::main(args.into_iter().skip(1).collect()),
        Some("payment-worker") => payment_worker::main(args.into_iter().skip(1).collect()),
        Some("broker") => broker::main(args.get(2..).unwrap_or_default()),
        _ => match Options::try_parse_from(args) {
            Ok(options) => run::run(&options),
            Err(error) => {
                // Nobody may be reading: no reason for another error.
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
        },
    }
}
