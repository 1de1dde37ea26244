//! The exporter as a child process of the arbiter, and as what runs in that child.
//!
//! A process and not a thread: the arbiter forks all the time and runs the user's code when it
//! preloads, and neither must the exporter endanger it nor die with it. The child is this same
//! interpreter with nothing but this extension module in it (`run_exporter.py`), or, of a program that
//! has no interpreter to start, the exporter's own binary. Its standard input is its end of the link.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use metrics_store::Process;
use pyo3::prelude::*;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Resource, getrlimit};

/// What the exporter needs of the environment: its loader, certificates, time zone and log level. All
/// else is the application's, its secrets among it.
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
/// In the environment of an exporter: whatever is started there starts no exporter of its own.
pub(crate) const MARKER: &str = "GUNICORN_EXPORTER_PROCESS";
/// Descriptors that are looked at one by one, where the system does not list them.
const MAX_LOOKED_AT: u64 = 1 << 16;

/// What is started as the exporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The program, and the words before those that are said here.
    pub(crate) command: Vec<OsString>,
    /// It gives up its privileges by itself once it is loaded: the user that it becomes need not be
    /// able to read it. Others are started as that user.
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
        // A group of its own: what is sent to the arbiter's whole group is not meant for it.
        rustix::process::setsid()?;
        for fd in &inherited {
            // SAFETY: only a flag of a number is changed; where the number is no descriptor any
            // more, the system says so.
            let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(*fd) };
            let _already_closed = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only: it allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    // Gunicorn waits for all its children, so `child` is not waited for here.
    let pid = child.id();
    Ok(Process::of(pid).unwrap_or(Process { pid, start_time: 0 }))
}

fn kept_environment() -> impl Iterator<Item = (OsString, OsString)> {
    let is_kept = |name: &OsStr| KEPT.iter().any(|kept| name == OsStr::new(kept));
    std::env::vars_os().filter(move |(name, _)| is_kept(name))
}

/// Gunicorn's listening sockets among them: it lets them be inherited, for USR2.
fn inheritable_descriptors() -> Vec<RawFd> {
    let is_inheritable = |fd: &RawFd| {
        // SAFETY: only the flag of a number is read; where it is no descriptor, the system says so.
        let file = unsafe { rustix::fd::BorrowedFd::borrow_raw(*fd) };
        *fd > 2 && fcntl_getfd(file).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
    };
    let Ok(entries) = std::fs::read_dir("/dev/fd") else {
        // Without /proc the numbers that there may be are looked at.
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

/// Ends a process that does not answer. Nothing happens when it has ended by itself.
pub(crate) fn kill(process: Process) {
    if let Some(pid) = rustix::process::Pid::from_raw(process.pid.cast_signed())
        && process.is_alive()
    {
        // It may end between the look and the signal; its id is not given to another so soon.
        let _ended_by_itself = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// The program `gunicorn-prometheus-exporter` with these words, of which the first is its own name;
/// answers its exit status.
#[pyfunction]
pub(crate) fn run_program(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| gunicorn_prometheus_exporter::run_program(words))
}

/// The whole life of an exporter process, whose standard input is the link; answers its exit code.
#[pyfunction]
pub(crate) fn run_instance(py: Python<'_>) -> PyResult<u8> {
    let link = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(py.detach(|| gunicorn_prometheus_exporter::run_instance(link)))
}
