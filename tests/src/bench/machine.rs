//! What the kernel knows: processor time and memory of processes, the machine, and how long its disk takes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use local::{Stat, stats};
use serde::Serialize;

/// How long the disk is tried out.
const TRIED: Duration = Duration::from_secs(1);
/// What is written each time: a page of Postgres' WAL.
const PAGE_BYTES: usize = 8192;

/// Processor time of every process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    processes: BTreeMap<u32, Stat>,
    /// Of all processors.
    busy: f64,
    /// Busy or not.
    all: f64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        let (busy, all) = machine().unwrap_or_default();
        Self { processes: stats().into_iter().map(|stat| (stat.pid, stat)).collect(), busy, all }
    }

    /// What a process has used since `earlier`.
    pub(crate) fn of(&self, pid: u32, earlier: &Self) -> Duration {
        let time = |usage: &Self| usage.processes.get(&pid).map(Stat::time).unwrap_or_default();
        time(self).saturating_sub(time(earlier))
    }

    /// What its children have used since `earlier` that have ended since then. The kernel adds the time of a child's whole
    /// life when it ends; what it had used before `earlier` was told then.
    pub(crate) fn of_ended_children(&self, pid: u32, earlier: &Self) -> Duration {
        let time =
            |usage: &Self| usage.processes.get(&pid).map(Stat::time_of_ended_children).unwrap_or_default();
        let gone = earlier.children(pid).filter(|child| !self.processes.contains_key(child));
        let told = gone.filter_map(|child| earlier.processes.get(&child)).map(Stat::time).sum();
        time(self).saturating_sub(time(earlier)).saturating_sub(told)
    }

    /// The children that a process has now.
    pub(crate) fn children(&self, pid: u32) -> impl Iterator<Item = u32> {
        self.processes.values().filter(move |stat| stat.parent == pid).map(|stat| stat.pid)
    }

    /// The share of all processors that was busy since `earlier`, from 0 to 1.
    pub(crate) fn busy(&self, earlier: &Self) -> f64 {
        (self.busy - earlier.busy) / (self.all - earlier.all).max(1.0)
    }
}

/// The busy and all ticks of the machine.
fn machine() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> =
        text.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    let all: f64 = fields.iter().sum();
    Some((all - fields.get(3)? - fields.get(4)?, all))
}

/// The processes whose command line has this word in it.
pub(crate) fn processes_named(word: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    };
    stats().into_iter().map(|stat| stat.pid).filter(has).collect()
}

/// The most memory that a process has had since [`forget_peak`], in MiB.
pub(crate) fn peak_mib(pid: u32) -> Option<f64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:").map(|kib| kib / 1024.0)
}

/// The memory that a process has now, in MiB.
pub(crate) fn resident_mib(pid: u32) -> Option<f64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:").map(|kib| kib / 1024.0)
}

/// Its share of the memory that it has together with others, in MiB: Postgres' processes share most of theirs.
pub(crate) fn share_mib(pid: u32) -> Option<f64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:").map(|kib| kib / 1024.0)
}

/// From now on the peak is looked for anew.
pub(crate) fn forget_peak(pid: u32) {
    // If it is not allowed, the peak is that since its start.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn kib(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// What everything runs on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processors: usize,
    pub(crate) model: String,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Write a page and force it to the disk, again and again for a second.
    pub(crate) fsync: Fsync,
}

/// How long the disk takes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fsync {
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Machine {
    /// Looks around; the disk is that of `folder`. Blocks for a second.
    pub(crate) fn look(folder: &Path) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            processors: std::thread::available_parallelism()?.get(),
            model: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
            memory_gib: kib(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0.0) / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            fsync: fsync(folder)?,
        })
    }
}

fn fsync(folder: &Path) -> Result<Fsync> {
    let path = folder.join("fsync");
    let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut times = Histogram::<u64>::new_with_bounds(1, 10_000_000, 3)?;
    let begun = Instant::now();
    while begun.elapsed() < TRIED {
        let at = Instant::now();
        file.write_all(&[7; PAGE_BYTES])?;
        file.sync_data()?;
        times.saturating_record(u64::try_from(at.elapsed().as_micros())?);
    }
    fs::remove_file(&path)?;
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    let per_s = times.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Fsync { per_s, p50_ms: ms(0.5), p99_ms: ms(0.99) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(stats: &[Stat]) -> Usage {
        Usage { processes: stats.iter().map(|stat| (stat.pid, *stat)).collect(), busy: 0.0, all: 0.0 }
    }

    /// A connection of a pool ends after half an hour.
    #[test]
    fn the_time_of_a_long_life_is_told_once() {
        let server = |ended| Stat { pid: 1, parent: 0, ticks: 5, ticks_of_ended_children: ended };
        let old = |ticks| Stat { pid: 2, parent: 1, ticks, ticks_of_ended_children: 0 };
        let hundred = Stat { pid: 9, parent: 0, ticks: 100, ticks_of_ended_children: 0 }.time();
        let before = usage(&[server(50), old(20_000)]);
        let after = usage(&[server(50 + 20_100)]);
        assert_eq!(after.of_ended_children(1, &before), hundred);
        assert_eq!(usage(&[server(150), old(20_001)]).of_ended_children(1, &before), hundred);
    }
}
