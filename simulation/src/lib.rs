//! Engine and participants in one process, in memory and in virtual time, on schedules that follow from a seed.
//!
//! The orchestrators are the real thing: [`::orchestrator::engine::lane::Lane`], with its batches, its fence, its
//! watermark, its timers, its take-over and its publisher, over a database ([`store`]) and a bus ([`broker`], [`producer`],
//! [`group`]) in memory that implement the engine's own traits. Workers ([`worker`]) decide by the pure rule of
//! `saga_defs::participant`; their loop is this crate's. Clients and operators ([`clients`]) ask the engine's handle.
//!
//! **What goes wrong** before any task of a process goes on: it is held up, or its whole process dies ([`process`]). A
//! statement is slow, its answer is lost whether it happens or not, it happens after its asker has given up or died, or
//! it cannot be carried out now. Records are lost, doubled up to 20 s later, or written without a report; a producer is
//! full or fails for good; a command is refused. Processes are killed, stopped, frozen for longer than their session, or
//! replaced under their own name while they live; the group reassigns or is not heard of; the database or the broker is
//! away; the broker is another one, and empty ([`nemesis`]). Then all of it ends, operators help what is stuck, and time
//! passes until nothing waits.
//!
//! **Long outages** of the broker or the database, under steady load and with nothing else that goes wrong, are runs of
//! their own ([`outage`]): minutes there are seconds here.
//!
//! **What is asked then**: the oracle of the end-to-end tests ([`tests::oracle::judge`]) over evidence from memory
//! ([`evidence`]), and what it knows of bookings only, for every recipe ([`ledger`]).
//!
//! **What is not in it**: the consumer's thread, librdkafka, SQL, HTTP, the ingest of dead letters and the retention.
//!
//! A schedule is a function of its seed: one thread, one sequence of random numbers, biased selections, and time that
//! moves when nothing else can. [`wrong`] has worlds in which a rule is broken, to see that it is found.

pub mod broker;
pub mod clients;
pub mod dice;
pub mod evidence;
pub mod group;
pub mod ledger;
pub mod nemesis;
pub mod orchestrator;
pub mod outage;
pub mod process;
pub mod producer;
pub mod recipes;
pub mod schedule;
pub mod store;
pub mod trace;
pub mod worker;
pub mod world;
pub mod wrong;

pub use schedule::{Report, Setting, run};
