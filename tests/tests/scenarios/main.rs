//! End to end: HTTP, Kafka's protocol and Postgres, with the services as processes of their own. README.md in the
//! crate's folder says what is where.
#![cfg(test)]

mod clocks;
mod crashes;
mod defects;
mod definitions;
mod failover;
mod floods;
mod letters;
mod lookers;
mod manager;
mod messages;
mod monitoring;
mod operators;
mod outages;
mod outcomes;
mod participants;
mod redrives;
mod registration;
mod requests;
mod schema_registry;
mod settings;
mod starts;
mod stopped;
mod storm;
mod told;
mod traces;
mod verification;
mod workers;
