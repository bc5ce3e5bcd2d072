//! The fault campaign: the whole stack as real processes, clients that book all the time, a nemesis that does harm at
//! moments which follow from a printed seed, and in the end the oracle over everything that is left.
//!
//! [`run`] is the story of one run; [`faults`] is what may happen, [`nemesis`] when; [`clients`] remember what they were
//! told; [`figures`] is what is reported beside the verdict.

mod base;
mod clients;
mod faults;
mod field;
mod figures;
mod nemesis;
mod options;
mod report;
mod run;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use uuid::Uuid;

use base::Base;
use faults::Fault;
use options::Options;
use report::Report;

use crate::process::PARENT;

/// Runs the program with a command line, whose first part is the program's own name. Under a service's name it is that
/// service: Cargo builds only the program that it runs.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if std::env::var_os(PARENT).is_some() {
        return crate::services::main(arguments.into_iter().skip(1).collect());
    }
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            // Nobody may be reading: no reason for another error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if options.list {
        print!("{}", faults::list());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(campaign(&options)) {
        Ok(report) => {
            print!("{}", report.markdown());
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("campaign: {error:#}");
    ExitCode::FAILURE
}

async fn campaign(options: &Options) -> Result<Report> {
    let seed = options.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 16);
    let base = Arc::new(Base::start(options, seed).await?);
    let mut report = Report::new(options, base.broker_name());
    let mut plans: Vec<(&str, Vec<Fault>)> = Vec::new();
    if options.mix {
        let possible = Fault::ALL.into_iter().filter(|fault| base.allows(*fault));
        plans.push(("mix", possible.collect()));
    }
    let named = if options.all { Fault::ALL.to_vec() } else { options.fault.clone() };
    plans.extend(named.into_iter().map(|fault| (fault.name(), vec![fault])));
    for (number, (name, faults)) in plans.into_iter().enumerate() {
        if let Some(fault) = faults.iter().find(|fault| !base.allows(**fault)) {
            report.skipped(*fault);
            continue;
        }
        let plan = run::Plan {
            number,
            name,
            faults,
            seed: seed.wrapping_add(number as u64),
            time: Duration::from_secs_f64(options.minutes * 60.0),
        };
        eprintln!("campaign: {name}, seed {}", plan.seed);
        let outcome = run::run(&base, options, &plan).await.with_context(|| format!("the run of {name}"))?;
        eprintln!("campaign: {}", outcome.line());
        report.runs.push(outcome);
        if let Some(folder) = &options.report {
            report.write(folder)?;
        }
    }
    // Stopping takes its time, and blocks.
    tokio::task::spawn_blocking(move || drop(base)).await?;
    Ok(report)
}
