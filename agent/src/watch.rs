//! Notices the end of processes that are not children of this one.

use std::os::fd::OwnedFd;

use metrics_store::Process;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Sends `number` when the process has ended, or at once if it already has. Returns false if the
/// system cannot report it; then the caller checks from time to time.
pub(crate) fn watch(process: Process, number: u64, ended: mpsc::UnboundedSender<u64>) -> bool {
    let Some(pid) = Pid::from_raw(process.pid.cast_signed()) else {
        return false;
    };
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    // Checked after the descriptor is open, which now cannot belong to another process.
    if !process.is_alive() {
        let _nobody_listens_at_the_end = ended.send(number);
        return true;
    }
    #[expect(
        deprecated,
        reason = "unsound for types that give their descriptor away; this owns it"
    )]
    let watched = AsyncFd::with_interest(descriptor, Interest::READABLE);
    let Ok(descriptor) = watched else {
        return false;
    };
    tokio::task::spawn_local(wait(descriptor, number, ended));
    true
}

async fn wait(descriptor: AsyncFd<OwnedFd>, number: u64, ended: mpsc::UnboundedSender<u64>) {
    // An error here means that the runtime ends.
    if descriptor.readable().await.is_ok() {
        let _nobody_listens_at_the_end = ended.send(number);
    }
}
