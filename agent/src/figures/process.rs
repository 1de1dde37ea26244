//! Reads a process' figures from `/proc`.

use metrics_store::{Process, ProcessStat};
use rustix::param::{clock_ticks_per_second, page_size};

/// The present figures of a process.
pub(super) struct ProcessFigures {
    pub(super) memory_bytes: u64,
    pub(super) cpu_ticks: u64,
    /// `None` if its table of files may not be read.
    pub(super) open_files: Option<u64>,
}

/// Returns the figures; `None` if the process has ended, or is not visible from here.
pub(super) fn measure(process: Process) -> Option<ProcessFigures> {
    let pid = process.pid;
    let stat = ProcessStat::of(pid)?;
    if stat.start_time != process.start_time {
        return None;
    }
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(ProcessFigures {
        memory_bytes: pages * page_size() as u64,
        cpu_ticks: stat.cpu_ticks,
        open_files: open_files(pid),
    })
}

/// Returns how long it has run.
pub(super) fn uptime_seconds(process: Process) -> Option<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let machine: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let ticks_per_second = clock_ticks_per_second() as f64;
    // Rounded to ticks, the resolution of both.
    let ticks = (machine * ticks_per_second).round() - process.start_time as f64;
    Some(ticks.max(0.0) / ticks_per_second)
}

fn open_files(pid: u32) -> Option<u64> {
    let directory = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the directory's size is their number; before that, they are counted.
    match std::fs::metadata(&directory).ok()?.len() {
        0 => Some(std::fs::read_dir(&directory).ok()?.count() as u64),
        files => Some(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files_and_has_run_for_a_while() {
        let me = Process::current();
        let found = measure(me).unwrap();
        assert!(found.memory_bytes > 100_000, "{}", found.memory_bytes);
        assert!(found.open_files.unwrap() >= 3, "{:?}", found.open_files);
        let seconds = uptime_seconds(me).unwrap();
        assert!((0.0..86_400.0).contains(&seconds), "{seconds}");
    }
}
