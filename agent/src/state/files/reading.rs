//! The reader of the directory: makes copies of other instances' stores writers of its registry.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use metrics_model::WriterState;
use metrics_store::{MAX_COPY_BYTES, StoreCopy, StoreReader};

use super::{FOREIGN, Files, PATIENCE};
use crate::clock::now_ms;
use crate::state::{Entry, Inner, Life, ProcessWatch, State};
use crate::stores::{CopyName, InstanceLife, Stamp, Writer};

/// Maximum number of new copies in one flush: each takes a descriptor. If ended writers have left
/// many, these are finished before the next are read.
const MAX_NEW: usize = 256;

/// A copy that is read.
#[derive(Debug)]
pub(super) struct CopyReader {
    number: u64,
    stamp: Stamp,
    generation: u64,
    has_ended: bool,
}

impl State {
    /// Looks for new and changed copies, and for the ends of their writers.
    pub(crate) fn scan(&self) {
        let Some(files) = &self.files else { return };
        let files = &mut *files.borrow_mut();
        let before = files.said.clone();
        if files.look_after_directory() {
            self.inner.borrow_mut().commit_soon();
        }
        if files.said.is_some() && files.said != before {
            self.own.failed("directory");
        }
        let (true, Some(directory)) = (files.is_reader(), &files.directory) else {
            return;
        };
        let mut listing = match directory.list() {
            Ok(listing) => listing,
            Err(error) => return self.report("directory", 0, &error),
        };
        // Before the copies are read: an instance that is gone writes no more of them.
        let instances = listing.copies.iter().chain(files.known.keys());
        let instances = instances.map(|name| name.instance.clone());
        let instances = instances.chain(std::mem::take(&mut listing.instances));
        let instances: HashSet<String> = instances.collect();
        let lives: HashMap<String, InstanceLife> = instances
            .into_iter()
            .map(|instance| (instance.clone(), directory.life_of(&instance)))
            .collect();
        directory.clean_up(&listing);
        files.db_names = std::mem::take(&mut listing.db_files);

        let inner = &mut *self.inner.borrow_mut();
        let full = inner.writers.len() + MAX_NEW;
        for name in &listing.copies {
            if inner.writers.len() >= full && !files.known.contains_key(name) {
                continue;
            }
            let is_own = name.instance == files.instance;
            // The arbiter has announced the store, so its memory is read.
            if !(is_own && inner.writers.contains_key(&name.number)) {
                self.read_copy(files, inner, name);
            }
        }
        files.find_ended(inner, &lives);
        files.forget_instances(&lives);
        let mut names: HashSet<String> = listing.copies.iter().map(ToString::to_string).collect();
        if listing.is_cut {
            let (name, reason) = ("what comes later", "there are more than 100,000 files");
            names.insert(name.to_owned());
            if files.refuse(name, &reason) {
                self.own.failed("directory");
            }
        }
        files.forget_refused(&names);
        self.leave_unknown(files, inner);
    }

    fn read_copy(&self, files: &mut Files, inner: &mut Inner, name: &CopyName) {
        let Some(directory) = &files.directory else {
            return;
        };
        let text = name.to_string();
        let known = files.known.get(name);
        let read = match directory.home().stamp(&text) {
            Ok(stamp) if known.is_some_and(|known| known.stamp == stamp) => return,
            Ok(_) => directory.home().read(&text, MAX_COPY_BYTES),
            Err(error) => Err(error),
        };
        let (bytes, stamp) = match read {
            Ok(read) => read,
            Err(error) if error.is_missing() => return,
            Err(error) => {
                if files.refuse(&text, &error) {
                    self.own.failed("directory");
                }
                return;
            }
        };
        let taken = match StoreCopy::from_bytes(&bytes) {
            None => Err("it is damaged".to_owned()),
            Some(copy) => self
                .take_copy(files, inner, name, stamp, &copy)
                .map_err(|error| error.to_string()),
        };
        match taken {
            Ok(()) => {
                files.refused.remove(&text);
            }
            Err(error) => {
                if files.refuse(&text, &error) {
                    self.own.failed("store");
                }
            }
        }
    }

    fn take_copy(
        &self,
        files: &mut Files,
        inner: &mut Inner,
        name: &CopyName,
        stamp: Stamp,
        copy: &StoreCopy,
    ) -> Result<(), metrics_store::StoreError> {
        let (generation, has_ended) = (copy.generation(), copy.has_ended());
        let known = files
            .known
            .get(name)
            .map(|known| (known.number, known.generation));
        let number = match known {
            // The file was replaced by an older copy.
            Some((_, later)) if later > generation => return Ok(()),
            Some((number, _)) => {
                if let Some(entry) = inner.writers.get_mut(&number) {
                    entry.writer.update(copy)?;
                }
                number
            }
            None => {
                let reader = StoreReader::from_copy(copy)?;
                files.foreign += 1;
                let writer = Writer::new(reader, None, &self.options);
                let entry = Entry::new(writer, ProcessWatch::ByFile);
                inner.writers.insert(files.foreign, entry);
                inner.has_new_series = true;
                files.foreign
            }
        };
        let known = CopyReader {
            number,
            stamp,
            generation,
            has_ended,
        };
        files.known.insert(name.clone(), known);
        Ok(())
    }

    /// Forgets the copy of a store, if it was read before: the arbiter has announced the store, and
    /// its memory is read from now on.
    pub(in crate::state) fn forget_copy_of(&self, inner: &mut Inner, number: u64) {
        let Some(files) = &self.files else { return };
        let files = &mut *files.borrow_mut();
        let name = CopyName {
            instance: files.instance.clone(),
            number,
        };
        if let Some(known) = files.known.remove(&name) {
            inner.writers.remove(&known.number);
        }
    }

    /// Removes the copies of these finished writers. Returns those of the arbiter.
    pub(in crate::state) fn remove_files(&self, mut settled: Vec<u64>) -> Vec<u64> {
        let Some(files) = &self.files else {
            return settled;
        };
        let files = &mut *files.borrow_mut();
        for &number in &settled {
            files.publishing.forget(number);
        }
        if files.is_reader() && !settled.is_empty() {
            let is_settled = |number: &u64| settled.binary_search(number).is_ok();
            let foreign = files.known.extract_if(|_, known| is_settled(&known.number));
            let mut names: Vec<_> = foreign.map(|(name, _)| name).collect();
            let own = settled.iter().filter(|number| **number < FOREIGN);
            names.extend(own.map(|&number| CopyName {
                instance: files.instance.clone(),
                number,
            }));
            for name in names {
                let Some(directory) = &files.directory else {
                    break;
                };
                let waits = name.instance != files.instance
                    && directory.life_of(&name.instance) == InstanceLife::Held;
                let removed = if waits {
                    directory.take_copy(&name)
                } else {
                    directory.home().remove(&name.to_string())
                };
                if let Err(error) = removed
                    && files.refuse(&name.to_string(), &format!("it cannot be removed: {error}"))
                {
                    self.own.failed("directory");
                }
            }
        }
        settled.retain(|&number| number < FOREIGN);
        settled
    }

    /// Lets writers leave that the registry knows and that have no copy: they ended, and their
    /// copies were removed while no process read the directory. Their counts stay.
    fn leave_unknown(&self, files: &mut Files, inner: &Inner) {
        if files.has_left_unknown || files.began.elapsed() < PATIENCE {
            return;
        }
        files.has_left_unknown = true;
        let known: HashSet<Vec<u8>> = inner
            .writers
            .values()
            .map(|entry| entry.writer.id().into_bytes())
            .collect();
        let mut unknown = Vec::new();
        let registry = self.registry.lock();
        let epoch = registry.epoch();
        let mut cursor = "0".to_owned();
        while let Ok((writers, next)) = registry.list_writers(now_ms(), cursor.as_bytes()) {
            let gone = writers.iter().filter(|writer| {
                // Writers of `.db` files are not named like stores.
                writer.state != WriterState::Left
                    && !writer.id.starts_with(b"db-")
                    && !known.contains(writer.id)
            });
            unknown.extend(gone.map(|writer| (writer.id.to_vec(), writer.seq)));
            let Some(next) = next else { break };
            cursor = next;
        }
        drop(registry);
        for (id, seq) in unknown {
            self.registry.leave(&id, seq, Some(epoch));
        }
    }
}

impl Files {
    fn find_ended(&mut self, inner: &mut Inner, lives: &HashMap<String, InstanceLife>) {
        self.missing
            .retain(|instance, _| lives.get(instance) == Some(&InstanceLife::Missing));
        for (instance, life) in lives {
            if *life == InstanceLife::Missing {
                let since = self.missing.entry(instance.clone());
                since.or_insert_with(Instant::now);
            }
        }
        for (name, known) in &self.known {
            let is_gone = match lives.get(&name.instance) {
                Some(InstanceLife::Free) => true,
                Some(InstanceLife::Missing) => self
                    .missing
                    .get(&name.instance)
                    .is_some_and(|since| since.elapsed() >= PATIENCE),
                Some(InstanceLife::Held) | None => false,
            };
            if (known.has_ended || is_gone)
                && let Some(entry) = inner.writers.get_mut(&known.number)
                && entry.life == Life::Live
            {
                entry.life = Life::Ended;
            }
        }
    }

    /// Removes the files of instances that are gone, once none of their copies is left.
    fn forget_instances(&self, lives: &HashMap<String, InstanceLife>) {
        let Some(directory) = &self.directory else {
            return;
        };
        let has_copies =
            |instance: &String| self.known.keys().any(|name| name.instance == *instance);
        for (instance, life) in lives {
            if *life == InstanceLife::Free && !has_copies(instance) {
                let _next_time = directory.forget_instance(instance);
            }
        }
    }
}
