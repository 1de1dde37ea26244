//! The exporter as a child process of the arbiter, and as what runs in that child.
//!
//! A process and not a thread: the arbiter forks all the time and runs the user's code when it
//! preloads, and neither must the exporter endanger it nor die with it. The child is this same
//! interpreter with nothing but this extension module in it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use metrics_store::Process;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::io::{FdFlags, fcntl_setfd};

/// Loads the extension by its path (`-I -S`: no site, no environment, no current directory).
/// Not by `importlib.util`, which brings 25 modules and a megabyte that nobody here needs.
const BOOTSTRAP: &str = "\
import sys
sys.path.insert(0, sys.argv[1].rpartition('/')[0])
import _native
del sys.path[0]
if len(sys.argv) > 3:
    import posix
    uid, gid = map(int, sys.argv[3:])
    posix.setgroups([gid])
    posix.setgid(gid)
    posix.setuid(uid)
sys.exit(_native.run_instance(int(sys.argv[2])))
";

/// Starts the exporter with its end of the link; standard output and error are the arbiter's. It
/// becomes `owner` (user and group) once it is loaded: that user need not be able to read this file.
pub(crate) fn spawn(
    interpreter: &OsStr,
    extension: &Path,
    link: &OwnedFd,
    owner: Option<(u32, u32)>,
) -> io::Result<Process> {
    let link = link.as_fd().try_clone_to_owned()?;
    let mut command = Command::new(interpreter);
    command
        .args(["-I", "-S", "-c", BOOTSTRAP])
        .arg(extension)
        .arg(link.as_raw_fd().to_string())
        .args(
            owner
                .map(|(uid, gid)| [uid.to_string(), gid.to_string()])
                .iter()
                .flatten(),
        )
        .current_dir("/")
        .stdin(Stdio::null());
    let inherited = inheritable_descriptors()?;
    let prepare = move || {
        // A group of its own: what is sent to the arbiter's whole group is not meant for it.
        rustix::process::setsid()?;
        for fd in &inherited {
            // SAFETY: only a flag of a number is changed; where the number is no descriptor any
            // more, the system says so.
            let fd = unsafe { rustix::fd::BorrowedFd::borrow_raw(*fd) };
            let _already_closed = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        Ok(fcntl_setfd(&link, FdFlags::empty())?)
    };
    // SAFETY: between fork and exec the closure makes system calls only: it allocates nothing and
    // takes no lock.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    // Gunicorn waits for all its children, so `child` is not waited for here.
    let pid = child.id();
    Ok(Process::of(pid).unwrap_or(Process { pid, start_time: 0 }))
}

/// Gunicorn's listening sockets among them: it lets them be inherited, for USR2.
fn inheritable_descriptors() -> io::Result<Vec<RawFd>> {
    let mut inheritable = Vec::new();
    for entry in std::fs::read_dir("/dev/fd")? {
        let name = entry?.file_name();
        if let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok())
            && fd > 2
        {
            inheritable.push(fd);
        }
    }
    Ok(inheritable)
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

/// The whole life of an exporter process; answers its exit code.
#[pyfunction]
pub(crate) fn run_instance(py: Python<'_>, link: RawFd) -> PyResult<u8> {
    if link < 0 {
        return Err(PyValueError::new_err(format!(
            "no descriptor has the number {link}, expected one of a link"
        )));
    }
    // SAFETY: the number is that of the link which `spawn` has left open for us; nobody else in this
    // process knows of it.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    Ok(py.detach(|| gunicorn_prometheus_exporter::run_instance(link)))
}
