//! Shows the progress of long work on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Minimum duration of work that shows its progress.
const LONG: Duration = Duration::from_millis(500);
const BETWEEN: Duration = Duration::from_millis(100);

/// One line on standard error that is rewritten while work goes on, and cleared when it ends. Shows
/// nothing if standard error is not a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    next_at: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Returns the progress of work with `total` steps.
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        let is_watched = total > 1 && std::io::stderr().is_terminal();
        Self {
            what,
            total,
            done: 0,
            next_at: is_watched.then(|| Instant::now() + LONG),
            is_shown: false,
        }
    }

    /// Shows that the next step begins.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        let Some(next_at) = self.next_at else { return };
        let now = Instant::now();
        if now < next_at {
            return;
        }
        self.next_at = Some(now + BETWEEN);
        self.is_shown = true;
        let percent = self.done * 100 / self.total;
        let _ = write!(
            std::io::stderr(),
            "\r{}: {} of {} ({percent} %)\x1b[K",
            self.what,
            self.done,
            self.total
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
