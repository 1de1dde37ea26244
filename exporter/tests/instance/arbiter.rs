//! The arbiter's side: what outlives exporters, and processes that end with their test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use metrics_settings::Settings;
use metrics_store::{
    ArbiterLink, Boot, Control, Facts, Identity, ListenerFacts, NewStore, Role, Snapshots,
    StoreFile, ToArbiter, ToExporter,
};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PLAY: &str = "METRICS_TEST_PLAYS";

/// The arbiter's side, which outlives exporters.
pub(crate) struct Instance {
    control: Control,
    snapshots: Snapshots,
    settings: Settings,
    listener: TcpListener,
    pub(crate) stores: Vec<(NewStore, StoreFile)>,
}

/// A process that ends with the test.
pub(crate) struct ChildGuard(pub(crate) Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl ChildGuard {
    pub(crate) fn play(role: &str, stdin: OwnedFd) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([role, "--exact", "--ignored", "--nocapture"])
            .env(PLAY, "1")
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn status(&mut self) -> ExitStatus {
        eventually("the exporter ends", || self.0.try_wait().unwrap())
    }
}

pub(crate) struct Exporter {
    pub(crate) process: ChildGuard,
    pub(crate) link: ArbiterLink,
}

impl Instance {
    /// Makes an instance with these environment variables.
    pub(crate) fn new(variables: &[(&str, &str)]) -> Self {
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut instance = Self {
            settings: Settings::load(None, &environment).unwrap().settings,
            control: Control::create().unwrap(),
            snapshots: Snapshots::create().unwrap(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            stores: Vec::new(),
        };
        instance.add_store(Role::Exporter, "shop:8000");
        instance
    }

    pub(crate) fn add_store(&mut self, role: Role, name: &str) -> NewStore {
        let identity = Identity {
            role,
            number: self.control.next_store_number(),
            slot: 0,
            name: name.to_owned(),
        };
        let file = StoreFile::create(&identity).unwrap();
        let new = NewStore {
            number: identity.number,
            role,
            slot: 0,
            process: None,
        };
        self.stores.push((new.clone(), file));
        new
    }

    pub(crate) fn worker(&mut self, name: &str) -> (u64, ChildGuard) {
        let store = self.add_store(Role::Worker, name);
        let file = &self.stores.last().unwrap().1;
        (store.number, ChildGuard::play("play_worker", copy(file)))
    }

    fn facts(&self) -> Facts {
        Facts {
            listeners: vec![ListenerFacts {
                inode: rustix::fs::fstat(&self.listener).unwrap().st_ino,
                is_unix: false,
                name: "here".to_owned(),
            }],
            build: vec![("version".to_owned(), "1.2.3".to_owned())],
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Starts an exporter and sends the boot message.
    pub(crate) fn boot(&self) -> Exporter {
        let (mut link, theirs) = ArbiterLink::pair().unwrap();
        let process = ChildGuard::play("play_exporter", theirs);
        let boot = Boot {
            settings: serde_json::to_value(&self.settings).unwrap(),
            instance: "shop:8000".to_owned(),
            facts: self.facts(),
        };
        let [first, second] = self.snapshots.duplicate_fds().unwrap();
        let descriptors = vec![copy(&self.control), first, second];
        link.send(&ToExporter::Boot(boot), descriptors).unwrap();
        Exporter { process, link }
    }

    /// Starts an exporter, sends it everything, and waits until it is ready.
    pub(crate) fn export(&self) -> Exporter {
        let mut exporter = self.boot();
        let link = &mut exporter.link;
        for (store, file) in &self.stores {
            let file = vec![copy(file)];
            link.send(&ToExporter::Store(store.clone()), file).unwrap();
        }
        let listener = vec![copy(&self.listener)];
        link.send(&ToExporter::Listener, listener).unwrap();
        assert_eq!(exporter.next_message(), ToArbiter::Ready);
        exporter
    }

    /// Returns the present body of that path.
    pub(crate) fn get(&self, path: &str) -> String {
        get(self.address(), path)
    }

    /// Returns the page once it has that line.
    pub(crate) fn page_with(&self, path: &str, line: &str) -> String {
        eventually(line, || {
            let page = self.get(path);
            page.lines().any(|found| found == line).then_some(page)
        })
    }
}

impl Exporter {
    pub(crate) fn next_message(&mut self) -> ToArbiter {
        eventually("a message", || {
            let (message, _) = self.link.receive().unwrap()?;
            // Whether the exporter before has ended by then is a matter of timing.
            (message != ToArbiter::Waiting).then_some(message)
        })
    }
}

pub(crate) fn copy(file: impl AsFd) -> OwnedFd {
    file.as_fd().try_clone_to_owned().unwrap()
}

pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page.replace('\r', "")
}

pub(crate) fn has(page: &str, start: &str) -> bool {
    page.lines().any(|line| line.starts_with(start))
}
