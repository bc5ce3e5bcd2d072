//! How fast a journal is verified. Not a test of every day:
//! `cargo test --release -p orchestrator --test verify -- --ignored --nocapture throughput`
//! (`VERIFY_TRANSITIONS` says how many; the figures are of this process and of the server it reads from).

use std::time::Instant;

use crate::world::{Says, World};

const TRANSITIONS: u64 = 400_000;
/// Sagas that go on at once.
const TOGETHER: u64 = 500;

/// Fills a journal by the engine's own batches: of four sagas two complete, one is compensated, one has to be asked twice.
async fn fill(world: &mut World, transitions: u64) {
    let courses: [&[Says]; 4] = [
        &[Says::Done, Says::Done, Says::Done],
        &[Says::Done, Says::Rejected, Says::Done],
        &[Says::Done, Says::Done, Says::Done],
        &[Says::Done, Says::Done, Says::Rejected, Says::Done, Says::Done],
    ];
    let each: u64 = courses.iter().map(|course| course.len() as u64 + 1).sum::<u64>() / 4;
    for slice in 0..transitions.div_ceil(each * TOGETHER) {
        let mut inputs = Vec::new();
        let mut ids = Vec::new();
        for n in 0..TOGETHER {
            let (id, input) = world.starting(slice * TOGETHER + n);
            ids.push(id);
            inputs.push(input);
        }
        world.commit(&inputs).await;
        for round in 0..5 {
            let replies = ids
                .iter()
                .zip(courses.iter().cycle())
                .filter_map(|(&id, course)| course.get(round).and_then(|&says| world.answer(id, says)));
            let replies: Vec<_> = replies.collect();
            world.commit(&replies).await;
        }
    }
}

#[tokio::test]
#[ignore = "takes a minute, and its figures mean something in the release profile only"]
async fn throughput() {
    let wanted = std::env::var("VERIFY_TRANSITIONS").ok().and_then(|text| text.parse().ok());
    let mut world = World::new().await;
    let began = Instant::now();
    fill(&mut world, wanted.unwrap_or(TRANSITIONS)).await;
    println!("filled in {:.1} s", began.elapsed().as_secs_f64());
    world.sql("VACUUM ANALYZE").await;
    for _ in 0..3 {
        let cpu = cpu_seconds();
        let report = world.verify().await;
        let cpu = cpu_seconds() - cpu;
        assert_eq!(report.kept, []);
        println!(
            "{} transitions of {} sagas in {:.2} s: {:.0}/s; {cpu:.2} s of this process' CPU: {:.0} a CPU second; {} MiB at most",
            report.transitions,
            report.sagas,
            report.took.as_secs_f64(),
            report.rate(),
            report.transitions as f64 / cpu,
            peak_mib(),
        );
    }
}

/// User and system time so far, from the kernel's ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// The most memory that was ever resident.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
