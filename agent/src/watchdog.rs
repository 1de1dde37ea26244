//! Ends an exporter that hangs in a system call, for example of a network file system, when no
//! arbiter is left to end it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid, kill_process};

/// Time between two signs of life of the main thread.
const BEAT: Duration = Duration::from_millis(500);
/// Size of the stack in bytes; the thread does nearly nothing.
const STACK: usize = 64 << 10;

/// Kills this process once the other end of `link` is closed and the main thread has been inactive
/// for `patience`. Called on a local task set.
pub fn end_with(link: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let beats = Arc::new(AtomicU64::new(0));
    watch(link, Arc::clone(&beats), patience)?;
    tokio::task::spawn_local(async move {
        loop {
            beats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    });
    Ok(())
}

fn watch(link: BorrowedFd<'_>, beats: Arc<AtomicU64>, patience: Duration) -> io::Result<()> {
    let link = link.try_clone_to_owned()?;
    let run = move || {
        let mut closed = [PollFd::new(&link, PollFlags::empty())];
        while !closed[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
        {
            if poll(&mut closed, None).is_err() {
                // Interrupted, or out of memory for a moment.
                thread::sleep(BEAT);
            }
        }
        let (mut last, mut since) = (beats.load(Ordering::Relaxed), Instant::now());
        while since.elapsed() < patience {
            thread::sleep(patience.min(BEAT));
            let now = beats.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        let _cannot_fail = kill_process(getpid(), Signal::KILL);
    };
    let thread = thread::Builder::new().name("watchdog".to_owned());
    thread.stack_size(STACK).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use metrics_store::ArbiterLink;

    use super::*;

    const PLAY: &str = "METRICS_TEST_HANGS";

    #[test]
    #[ignore = "not a test: the exporter of the other"]
    fn play_exporter() {
        if std::env::var(PLAY).is_err() {
            return;
        }
        let stdin = io::stdin();
        watch(stdin.as_fd(), Arc::default(), Duration::from_millis(100)).unwrap();
        thread::sleep(Duration::from_mins(1));
    }

    #[test]
    fn an_exporter_that_hangs_ends_with_its_arbiter() {
        let (link, theirs) = ArbiterLink::pair().unwrap();
        let mut exporter = Command::new(std::env::current_exe().unwrap())
            .args(["watchdog::tests::play_exporter", "--exact", "--ignored"])
            .env(PLAY, "1")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(500));
        assert!(exporter.try_wait().unwrap().is_none(), "its arbiter lives");
        drop(link);
        let began = Instant::now();
        assert!(!exporter.wait().unwrap().success());
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
