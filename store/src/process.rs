//! Identifies a process by its id and its start time, because ids are used again.

use serde::{Deserialize, Serialize};

/// A process of this machine, distinct from later ones with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did (field 22 of `/proc/<pid>/stat`).
    pub start_time: u64,
}

const START_BITS: u32 = 40;
const START_MASK: u64 = (1 << START_BITS) - 1;

impl Process {
    /// Returns this process.
    pub fn current() -> Self {
        let pid = std::process::id();
        // Without /proc there are no start times, so ids alone have to do.
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// Returns the process that has this id now; `None` if there is none, or it has ended and waits
    /// to be reaped.
    pub fn of(pid: u32) -> Option<Self> {
        let Some(stat) = ProcessStat::of(pid) else {
            return Self::without_proc(pid);
        };
        let start_time = stat.start_time;
        (!stat.has_ended).then_some(Self { pid, start_time })
    }

    /// Returns a process by its id alone, for systems without `/proc`.
    fn without_proc(pid: u32) -> Option<Self> {
        let id = rustix::process::Pid::from_raw(pid.cast_signed())?;
        let has_proc = std::path::Path::new("/proc/self/stat").exists();
        let is_there = matches!(
            rustix::process::test_kill_process(id),
            Ok(()) | Err(rustix::io::Errno::PERM)
        );
        (!has_proc && is_there).then_some(Self { pid, start_time: 0 })
    }

    /// Returns whether it is still running.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Packs it into one word, for compare-and-swap; the two highest bits stay free, and zero is no
    /// process. Linux ids are below 2^22; 2^40 ticks are 348 years.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.pid) << START_BITS | (self.start_time & START_MASK)
    }

    pub(crate) fn unpack(word: u64) -> Option<Self> {
        let pid = (word >> START_BITS) as u32 & ((1 << 22) - 1);
        (pid != 0).then_some(Self {
            pid,
            start_time: word & START_MASK,
        })
    }
}

/// The fields of Linux' `/proc/<pid>/stat` (`proc_pid_stat(5)`) that the exporter uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// Whether it has ended and waits to be reaped (field 3).
    pub has_ended: bool,
    /// CPU time of all its threads, in user and system mode, in clock ticks (fields 14 and 15).
    pub cpu_ticks: u64,
    /// When it started, in clock ticks since the machine did (field 22).
    pub start_time: u64,
}

impl ProcessStat {
    /// Reads it; `None` if there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The second field is the command in parentheses, which may contain anything.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?;
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let start_time = fields.nth(6)?.parse().ok()?;
        Some(Self {
            has_ended: matches!(state, "Z" | "X"),
            cpu_ticks: user + system,
            start_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_namesake_of_another_time_is_not() {
        let me = Process::current();
        assert!(me.is_alive());
        assert_eq!(Process::unpack(me.pack()), Some(me));
        let namesake = Process {
            start_time: me.start_time + 1,
            ..me
        };
        assert!(!namesake.is_alive());
    }
    #[test]
    fn the_fields_of_a_process_are_found_behind_any_command() {
        let of = |state: &str| {
            let stat = format!(
                "42 (a) S (b) {state} 1 3 4 5 6 7 8 9 10 11 140 25 16 17 20 0 1 0 22000 23"
            );
            ProcessStat::parse(&stat)
        };
        let running = ProcessStat {
            has_ended: false,
            cpu_ticks: 165,
            start_time: 22_000,
        };
        let ended = ProcessStat {
            has_ended: true,
            ..running
        };
        assert_eq!([of("R"), of("Z")], [Some(running), Some(ended)]);
        assert_eq!(ProcessStat::parse("42 (a) S 1 2"), None);
    }
}
