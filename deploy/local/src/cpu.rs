//! How much of the processors each process has used, as Linux counts it. Elsewhere nothing is known.

use std::time::Duration;

/// The processor time of each process so far, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuTimes(Vec<(&'static str, Duration)>);

impl CpuTimes {
    /// Of these processes. A process called `postgres` comes with all its own: it has one for each connection.
    pub(crate) fn now(processes: &[(&'static str, u32)]) -> Self {
        let all = stats();
        let used = processes.iter().filter_map(|(name, pid)| {
            let own = all.iter().find(|stat| stat.pid == *pid)?;
            let mut ticks = own.ticks;
            if *name == "postgres" {
                ticks += own.ticks_of_ended_children;
                ticks += all.iter().filter(|stat| stat.parent == *pid).map(|stat| stat.ticks).sum::<u64>();
            }
            Some((*name, time(ticks)))
        });
        Self(used.collect())
    }

    /// What has been used since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Vec<(&'static str, Duration)> {
        let before = |name| earlier.0.iter().find(|(other, _)| *other == name).map(|(_, time)| *time);
        let used = self.0.iter().filter_map(|(name, now)| Some((*name, now.saturating_sub(before(*name)?))));
        used.collect()
    }
}

/// What is read of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: u32,
    /// The process that started it.
    pub parent: u32,
    /// Processor time so far, in the system's ticks; see [`Stat::time`].
    pub ticks: u64,
    /// The same of children that have ended and were waited for.
    pub ticks_of_ended_children: u64,
}

impl Stat {
    /// Processor time so far.
    pub fn time(&self) -> Duration {
        time(self.ticks)
    }

    /// Processor time of children that have ended.
    pub fn time_of_ended_children(&self) -> Duration {
        time(self.ticks_of_ended_children)
    }
}

/// Every process of the machine; none where it is not Linux.
pub fn stats() -> Vec<Stat> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stat = |entry: std::fs::DirEntry| {
        let is_process = entry.file_name().to_str()?.bytes().all(|byte| byte.is_ascii_digit());
        is_process.then(|| std::fs::read_to_string(entry.path().join("stat")).ok()).flatten()
    };
    entries.filter_map(stat).filter_map(|text| parse(&text)).collect()
}

/// A line of `/proc/PID/stat`: the name in parentheses may hold anything, so fields are counted from behind it.
fn parse(text: &str) -> Option<Stat> {
    let (pid, _) = text.split_once(' ')?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        ticks_of_ended_children: number(13)? + number(14)?,
    })
}

fn time(ticks: u64) -> Duration {
    // SAFETY: asks for a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u32::try_from(per_second).unwrap_or(100).max(1);
    Duration::from_secs(ticks) / per_second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_called_anything() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 5 0 6 7 8";
        let stat = Stat { pid: 42, parent: 7, ticks: 120, ticks_of_ended_children: 7 };
        assert_eq!(parse(line), Some(stat));
        assert_eq!(parse("42 (cut"), None);
    }

    #[test]
    fn what_was_used_is_a_difference() {
        let times = |ms| CpuTimes(vec![("x", Duration::from_millis(ms))]);
        assert_eq!(times(30).since(&times(10)), [("x", Duration::from_millis(20))]);
        assert_eq!(times(30).since(&CpuTimes::default()), []);
    }
}
