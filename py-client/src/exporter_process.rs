//! Starts the exporter as a child process of the arbiter, and runs it in that child.
//!
//! It is a process and not a thread: the arbiter forks all the time, and runs the user's code when
//! it preloads. Neither process may bring the other down. The child is this same interpreter with
//! only this extension module (`run_exporter.py`) or, if the program has no interpreter to start,
//! the exporter's own binary. Its standard input is its end of the link.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use metrics_store::Process;
use pyo3::prelude::*;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Resource, getrlimit};

/// Environment variables that the exporter needs: for its loader, certificates, time zone and log
/// level. All others belong to the application, and may be secrets.
const KEPT: [&str; 16] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TZDIR",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
];
/// Environment variable that marks an exporter: programs started in it start no exporter of their
/// own.
pub(crate) const MARKER: &str = "GUNICORN_EXPORTER_PROCESS";
/// Maximum number of descriptors that are checked one by one, if the system does not list them.
const MAX_LOOKED_AT: u64 = 1 << 16;

/// The program of the exporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The program and its first words.
    pub(crate) command: Vec<OsString>,
    /// Whether it gives up its privileges by itself after it is loaded, because its user may not be
    /// able to read the program. Other programs are started as that user.
    pub(crate) takes_owner: bool,
}

/// Starts the exporter with its end of the link; standard output and error are the arbiter's. It
/// becomes `owner` (user and group).
pub(crate) fn spawn(
    program: &Program,
    link: OwnedFd,
    owner: Option<(u32, u32)>,
) -> io::Result<Process> {
    let (path, words) = program
        .command
        .split_first()
        .ok_or_else(|| io::Error::other("there is no program to start"))?;
    let mut command = Command::new(path);
    command
        .args(words)
        .env_clear()
        .envs(kept_environment())
        .env(MARKER, "1")
        .current_dir("/")
        .stdin(Stdio::from(link));
    match owner {
        Some((uid, gid)) if program.takes_owner => {
            command.args([uid.to_string(), gid.to_string()]);
        }
        Some((uid, gid)) => {
            command.gid(gid).uid(uid);
        }
        None => {}
    }
    let inherited = inheritable_descriptors();
    let prepare = move || {
        // A new session, so that signals for the arbiter's process group do not reach it.
        rustix::process::setsid()?;
        for fd in &inherited {
            // SAFETY: this only changes a flag of a number; if the number is no descriptor any
            // more, the system returns an error.
            let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(*fd) };
            let _already_closed = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls: it allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    // Gunicorn waits for all its children, so this code does not wait for `child`.
    let pid = child.id();
    Ok(Process::of(pid).unwrap_or(Process { pid, start_time: 0 }))
}

fn kept_environment() -> impl Iterator<Item = (OsString, OsString)> {
    let is_kept = |name: &OsStr| KEPT.iter().any(|kept| name == OsStr::new(kept));
    std::env::vars_os().filter(move |(name, _)| is_kept(name))
}

/// Returns descriptors without close-on-exec, such as Gunicorn's listening sockets, which USR2
/// inherits.
fn inheritable_descriptors() -> Vec<RawFd> {
    let is_inheritable = |fd: &RawFd| {
        // SAFETY: this only reads the flag of a number; if it is no descriptor, the system returns
        // an error.
        let file = unsafe { rustix::fd::BorrowedFd::borrow_raw(*fd) };
        *fd > 2 && fcntl_getfd(file).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
    };
    let Ok(entries) = std::fs::read_dir("/dev/fd") else {
        // Without /proc all possible numbers are checked.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(MAX_LOOKED_AT);
        let limit = limit.min(MAX_LOOKED_AT) as RawFd;
        return (3..limit).filter(is_inheritable).collect();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| name.parse().ok())
        .filter(is_inheritable)
        .collect()
}

/// Kills a process that does not answer. Does nothing if it has ended by itself.
pub(crate) fn kill(process: Process) {
    if let Some(pid) = rustix::process::Pid::from_raw(process.pid.cast_signed())
        && process.is_alive()
    {
        // It may end between the check and the signal; the system does not use its id again so
        // soon.
        let _ended_by_itself = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Runs `gunicorn-prometheus-exporter` with these words, the first of which is its own name;
/// returns its exit status.
#[pyfunction]
pub(crate) fn run_program(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| gunicorn_prometheus_exporter::run_program(words))
}

/// Runs an exporter process, whose standard input is the link; returns its exit code.
#[pyfunction]
pub(crate) fn run_instance(py: Python<'_>) -> PyResult<u8> {
    let link = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(py.detach(|| gunicorn_prometheus_exporter::run_instance(link)))
}
