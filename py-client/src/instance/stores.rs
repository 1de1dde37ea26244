//! The stores that an arbiter holds: those of its workers, of their children, and of other
//! recording processes.

use std::os::fd::OwnedFd;

use metrics_store::{
    ChildrenLink, FromChild, Identity, LinkError, NewStore, Process, Role, StoreError, StoreFile,
    ToExporter, ToPeer,
};

use super::deaths::Remains;
use super::{Supervisor, descriptors};

/// A store, and its description for the exporter.
pub(super) struct Held {
    pub(super) file: StoreFile,
    pub(super) new: NewStore,
    /// Whether its process exists (a worker's store is made before the fork).
    pub(super) is_begun: bool,
    pub(super) is_dead: bool,
    pub(super) owner: Owner,
}

/// The arbiter whose process writes a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A process of this arbiter.
    Us,
    /// One of the other arbiter.
    Peer,
}

impl Held {
    /// Returns a store whose process exists if it is known.
    pub(super) fn new(file: StoreFile, new: NewStore, owner: Owner) -> Self {
        Self {
            file,
            is_begun: new.process.is_some() || owner == Owner::Peer,
            new,
            is_dead: false,
            owner,
        }
    }

    /// Returns whether it ends with this arbiter. A child of a worker may live a little longer.
    pub(super) fn is_to_end(&self) -> bool {
        let has_ended = || !self.new.process.is_some_and(Process::is_alive);
        match self.new.role {
            Role::Exporter | Role::CarryOver => false,
            Role::Child => self.owner == Owner::Us && has_ended(),
            Role::Worker | Role::Arbiter => self.owner == Owner::Us,
        }
    }
}

impl Supervisor {
    pub(super) fn take_slot(&mut self, name: &str) -> Result<(u64, u32, String), StoreError> {
        let slot = self.control.take_slot(Process::current())?;
        let worker_id = format!("{name}:{slot}");
        let number = self.new_store(Role::Worker, slot, &worker_id)?;
        Ok((number, slot, worker_id))
    }

    pub(super) fn new_store(
        &mut self,
        role: Role,
        slot: u32,
        name: &str,
    ) -> Result<u64, StoreError> {
        let number = self.control.next_store_number();
        let identity = Identity {
            role,
            number,
            slot,
            name: name.to_owned(),
        };
        let file = StoreFile::create(&identity)?;
        let new = NewStore {
            number,
            role,
            slot,
            process: None,
        };
        self.stores.insert(number, Held::new(file, new, Owner::Us));
        Ok(number)
    }

    /// Any exporter that runs writes it, so it has no process of its own.
    pub(super) fn new_exporter_store(&mut self) -> Result<u64, StoreError> {
        let number = self.new_store(Role::Exporter, 0, "exporter")?;
        if let Some(held) = self.stores.get_mut(&number) {
            held.is_begun = true;
        }
        self.tell_peer_of(number);
        Ok(number)
    }

    pub(super) fn begin(&mut self, number: u64, pid: u32) {
        let Some(held) = self.stores.get_mut(&number) else {
            return;
        };
        held.is_begun = true;
        held.new.process = Process::of(pid);
        if held.new.role == Role::Worker
            && let Some(worker) = held.new.process
        {
            // From now on the slot is free again as soon as the worker is gone.
            self.control
                .give_slot(held.new.slot, Process::current(), worker);
        }
        self.tell_of(number);
        self.tell_peer_of(number);
    }

    /// Notes that the exporter has taken all that was in a store.
    pub(super) fn release(&mut self, number: u64) {
        self.give_up(number);
        self.tell_peer(&ToPeer::Released { number }, Vec::new());
    }

    /// Drops a store that is no longer needed, and keeps what the arbiter reports of its worker's end.
    pub(super) fn give_up(&mut self, number: u64) {
        if let Some(held) = self.stores.remove(&number)
            && held.new.role == Role::Worker
            && held.owner == Owner::Us
            && !held.is_dead
        {
            self.remains.insert(number, Remains::of(&held.file));
        }
    }

    pub(super) fn end(&mut self, number: u64) {
        self.remains.remove(&number);
        let Some(held) = self.stores.get_mut(&number) else {
            return;
        };
        if held.new.role == Role::Worker {
            // The next worker may already have the slot, and then this arbiter owned it again: only
            // the owner to which it was given may free it.
            let owner = held.new.process.unwrap_or_else(Process::current);
            self.control.free_slot(held.new.slot, owner);
        }
        if !held.is_begun {
            self.stores.remove(&number);
            return;
        }
        held.is_dead = true;
        if let Some(exporter) = &mut self.exporter {
            exporter.send(&ToExporter::Dead { number }, Vec::new());
        }
        self.tell_peer(&ToPeer::Dead { number }, Vec::new());
    }

    /// Adds a store that replaces those of some dead writers.
    pub(super) fn take_carry_over(&mut self, new: NewStore, file: OwnedFd, replaces: Vec<u64>) {
        let number = new.number;
        let held = Held {
            is_begun: true,
            is_dead: true,
            ..Held::new(StoreFile::from_fd(file), new, Owner::Us)
        };
        self.stores.insert(number, held);
        self.tell_peer_of(number);
        for number in replaces {
            self.release(number);
        }
        self.tell_of(number);
    }

    /// Receives the stores that children of workers have made for themselves.
    pub(super) fn attend_children(&mut self) {
        // While too few descriptors are free, children wait a second, and then log what they lose.
        if descriptors::are_free(descriptors::RESERVE).is_err() {
            return;
        }
        if let Some(mut from_children) = self.from_children.take() {
            self.take_stores(&mut from_children);
            self.from_children = Some(from_children);
        }
        self.accept_children();
        let mut connected = std::mem::take(&mut self.connected);
        connected.retain_mut(|child| self.take_stores(child));
        self.connected = connected;
    }

    fn accept_children(&mut self) {
        let ours = rustix::process::geteuid().as_raw();
        let owner = self.task.as_ref().and_then(|task| task.owner);
        let may = |user: u32| {
            user == 0 || user == ours || owner.is_some_and(|(workers, _)| user == workers)
        };
        while let Some(children) = &self.children {
            match children.accept(may) {
                Ok(Some(child)) => self.connected.push(child),
                // Without a free descriptor the child waits; this is tried again in a second.
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Returns whether more may arrive over this link.
    fn take_stores(&mut self, link: &mut ChildrenLink) -> bool {
        loop {
            match link.receive() {
                Ok(Some((FromChild::Store(new), descriptors))) => {
                    let Ok([file]) = <[OwnedFd; 1]>::try_from(descriptors) else {
                        continue;
                    };
                    let number = new.number;
                    let held = Held::new(StoreFile::from_fd(file), new, Owner::Us);
                    self.stores.insert(number, held);
                    self.tell_of(number);
                    self.tell_peer_of(number);
                }
                // A child without descriptors keeps its store to itself.
                Err(LinkError::Descriptors | LinkError::Message { .. }) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Passes a store on to the exporter, if there is one.
    pub(super) fn tell_of(&mut self, number: u64) {
        let Some(held) = self.stores.get(&number).filter(|held| held.is_begun) else {
            return;
        };
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        match held.file.duplicate_fd() {
            Ok(fd) => exporter.send(&ToExporter::Store(held.new.clone()), vec![fd]),
            Err(error) => exporter.lose(format!("cannot pass a store on: {error}")),
        }
        if held.is_dead {
            exporter.send(&ToExporter::Dead { number }, Vec::new());
        }
    }

    pub(super) fn duplicate(&self, number: u64) -> Result<OwnedFd, StoreError> {
        self.stores[&number].file.duplicate_fd()
    }
}
