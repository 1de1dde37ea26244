//! Which process: its id, and when it started, because ids are given again.

use serde::{Deserialize, Serialize};

/// A process of this machine, told apart from later ones of the same id.
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
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        // Without /proc there are no start times; then ids alone must do.
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// The process that has this id now; `None` when there is none, or it has ended and waits to
    /// be reaped.
    pub fn of(pid: u32) -> Option<Self> {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return Self::without_proc(pid);
        };
        // The second field is the command in parentheses, and may itself contain anything.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, start_time })
    }

    /// Where there is no `/proc`, a process is its id alone.
    fn without_proc(pid: u32) -> Option<Self> {
        let id = rustix::process::Pid::from_raw(pid.cast_signed())?;
        let has_proc = std::path::Path::new("/proc/self/stat").exists();
        let is_there = matches!(
            rustix::process::test_kill_process(id),
            Ok(()) | Err(rustix::io::Errno::PERM)
        );
        (!has_proc && is_there).then_some(Self { pid, start_time: 0 })
    }

    /// Whether it is still running.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// In one word, so that it can be compared and swapped; the two highest bits stay free, and
    /// zero is no process. Linux gives ids below 2^22; 2^40 ticks are 348 years.
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
}
