//! The key of a command, and the rule by which commands change it: **the primary decides, every
//! other server repeats.**
//!
//! The primary stamps each write once. The stamp holds the time, the epoch of a new key, whether
//! memory is full, the limits, and healing. The primary applies the write, and replicates the
//! command as the client sent it. It appends the stamp as a trailer, unless the stamp equals the
//! one before: a busy registry gets many writes in a millisecond. A server that repeats the command
//! (a replica, an append only file, a slot import) obeys the stamp and decides nothing, so every
//! copy goes through the same states. From an ordinary client a trailer is just an unknown option.

mod effect;
mod replication;

use std::ffi::{CStr, c_int};

use metrics_model::{Epoch, Limits, Registry, RegistryError, Stamp, WrongStamp};
use redis_module::raw;

use crate::api::{self, Context, Situation, call};
use crate::background;
use crate::config;
use crate::data_type::MetricSet;
use crate::key::{Key, NoSuchFunction};
use crate::refusal::Refusal;
pub(crate) use effect::Effect;
use replication::stamp_at_end;

/// The key of a command, not opened yet.
pub(crate) struct Target<'a> {
    context: Context,
    situation: Situation,
    /// The command's name, as the client sent it.
    command: *mut raw::RedisModuleString,
    /// The arguments after the name; the key is the first.
    args: &'a [*mut raw::RedisModuleString],
    name: *mut raw::RedisModuleString,
    /// Name of the keyspace event for a change.
    event: &'static CStr,
    stamp_source: StampSource,
}

/// Where the stamp of a write comes from.
#[derive(Clone, Copy)]
enum StampSource {
    /// This server makes it.
    Here,
    /// Another server has made it and sent it along.
    There(Stamp),
    /// Another server has made it; it equals the stamp of the write before.
    SameAsBefore,
}

/// A finished write and its stamp.
struct StampedWrite {
    stamp: Stamp,
    /// Whether it differs from the stamp of the registry's previous write.
    is_new: bool,
}

/// What has to happen after a write.
#[derive(Clone, Copy)]
struct Changes {
    /// Replicate the command.
    is_change: bool,
    /// Notify clients that watch the key.
    is_news: bool,
    /// Publish that series have expired.
    has_expired: bool,
}

/// A target, and the arguments after the key.
type TargetAndRest<'a> = (Target<'a>, &'a [*mut raw::RedisModuleString]);

impl<'a> Target<'a> {
    /// Makes the target of a command that decides nothing.
    pub(crate) fn unstamped(
        context: Context,
        argv: &'a [*mut raw::RedisModuleString],
        event: &'static CStr,
    ) -> Result<TargetAndRest<'a>, Refusal> {
        let [command, args @ ..] = argv else {
            return Err(Refusal::Arity);
        };
        let [name, rest @ ..] = args else {
            return Err(Refusal::Arity);
        };
        let target = Self {
            context,
            situation: context.situation(),
            command: *command,
            args,
            name: *name,
            event,
            stamp_source: StampSource::Here,
        };
        Ok((target, rest))
    }

    /// Makes the target of a command with a stamp; takes off the trailer if one is required.
    pub(crate) fn stamped(
        context: Context,
        argv: &'a [*mut raw::RedisModuleString],
        event: &'static CStr,
    ) -> Result<TargetAndRest<'a>, Refusal> {
        let (mut target, rest) = Self::unstamped(context, argv, event)?;
        if !target.is_repetition() {
            return Ok((target, rest));
        }
        let Ok((stamp, used)) = stamp_at_end(rest) else {
            target.stamp_source = StampSource::SameAsBefore;
            return Ok((target, rest));
        };
        target.stamp_source = StampSource::There(stamp);
        Ok((target, &rest[..rest.len() - used]))
    }

    /// Returns whether a server sent the command, and not a client.
    pub(crate) fn is_repetition(&self) -> bool {
        self.situation.is_repetition()
    }

    /// Returns the database and the name of the key.
    pub(crate) fn identity(&self) -> (c_int, Vec<u8>) {
        // SAFETY: the string is valid while the command runs.
        let name = unsafe { api::bytes_of(self.name) };
        (self.context.database(), name.to_vec())
    }

    /// Reads the registry, at its present time; `None` if the key does not exist.
    pub(crate) fn read<T>(
        &self,
        act: impl FnOnce(Option<&Registry>, u64) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut key = Key::open(self.context, self.name);
        let set = match &mut key {
            Some(key) => key.value()?,
            None => None,
        };
        match set {
            Some(set) => {
                self.take_charge(set);
                let now_ms = set.now_ms();
                if self.decides() {
                    background::set_timer(self.context, self.name, set, now_ms);
                }
                act(Some(&set.registry), now_ms)
            }
            None => act(None, api::clock_ms()),
        }
    }

    /// Changes the registry; creates a missing key, unless the write is refused.
    pub(crate) fn write<T: Effect>(
        &self,
        act: impl FnOnce(&mut Registry, &Stamp) -> Result<T, RegistryError>,
    ) -> Result<T, Refusal> {
        let mut key = Key::open_for_writing(self.context, self.name)?;
        if let Some(set) = key.value()? {
            let expired_before = set.registry.expired_count();
            self.make_room(set);
            let (stamped, done) = self.change(set, act)?;
            let changes = Changes {
                is_change: done.is_change(),
                is_news: done.is_news(),
                has_expired: set.registry.expired_count() > expired_before,
            };
            self.pass_on(key, &stamped, &done, changes);
            return Ok(done);
        }
        let stamp = match self.stamp_source {
            StampSource::Here => stamp_of_new_key(self.situation.is_out_of_memory()),
            StampSource::There(stamp) => stamp,
            StampSource::SameAsBefore => return Err(WrongStamp.into()),
        };
        let limits = stamp.limits().unwrap_or_default();
        let mut registry = Registry::new(stamp.epoch(), limits, stamp.now_ms());
        let done = act(&mut registry, &stamp)?;
        key.set(MetricSet::new(registry));
        // The key exists now, even if the write itself did nothing: the reply to a first PUSH is
        // RESYNC, and clients that watch the key have to be notified.
        let changes = Changes {
            is_change: true,
            is_news: true,
            has_expired: false,
        };
        let is_new = true;
        self.pass_on(key, &StampedWrite { stamp, is_new }, &done, changes);
        Ok(done)
    }

    /// Checks a write without doing it, as [`write`](Self::write) would at this time. A missing key
    /// counts as an empty registry, and stays missing.
    pub(crate) fn check<T>(
        &self,
        act: impl FnOnce(&Registry, &Stamp) -> Result<T, RegistryError>,
    ) -> Result<T, Refusal> {
        let is_out_of_memory = self.situation.is_out_of_memory();
        let mut key = Key::open_for_writing(self.context, self.name)?;
        if let Some(set) = key.value()? {
            self.make_room(set);
            self.take_charge(set);
            let now_ms = set.now_ms();
            let stamp = set
                .registry
                .stamp(now_ms, &config::limits(), is_out_of_memory);
            return Ok(act(&set.registry, &stamp)?);
        }
        let stamp = stamp_of_new_key(is_out_of_memory);
        let limits = stamp.limits().unwrap_or_default();
        let registry = Registry::new(stamp.epoch(), limits, stamp.now_ms());
        Ok(act(&registry, &stamp)?)
    }

    /// Changes the registry; `None` if the key does not exist.
    pub(crate) fn write_existing<T: Effect>(
        &self,
        act: impl FnOnce(&mut Registry, &Stamp) -> T,
    ) -> Result<Option<T>, Refusal> {
        let mut key = Key::open_for_writing(self.context, self.name)?;
        let Some(set) = key.value()? else {
            return Ok(None);
        };
        let expired_before = set.registry.expired_count();
        let (stamped, done) = self.change(set, |registry, stamp| Ok(act(registry, stamp)))?;
        let changes = Changes {
            is_change: done.is_change(),
            is_news: done.is_news(),
            has_expired: set.registry.expired_count() > expired_before,
        };
        self.pass_on(key, &stamped, &done, changes);
        Ok(Some(done))
    }

    /// Stores a value that another server has saved.
    pub(crate) fn restore(&self, registry: Registry) -> Result<(), Refusal> {
        let mut key = Key::open_for_writing(self.context, self.name)?;
        key.value()?;
        key.set(MetricSet::restored(registry));
        drop(key);
        self.context.signal_change(self.name);
        self.notify(raw::REDISMODULE_NOTIFY_MODULE, self.event);
        Ok(())
    }

    /// Replicates the command as it came.
    pub(crate) fn replicate_verbatim(&self) {
        // SAFETY: the context is that of the running command.
        unsafe { call!(RedisModule_ReplicateVerbatim(self.context.as_ptr())) };
    }

    fn change<T>(
        &self,
        set: &mut MetricSet,
        act: impl FnOnce(&mut Registry, &Stamp) -> Result<T, RegistryError>,
    ) -> Result<(StampedWrite, T), Refusal> {
        self.take_charge(set);
        let before = set.registry.last_stamp();
        let stamp = match self.stamp_source {
            StampSource::Here => {
                let is_out_of_memory = self.situation.is_out_of_memory();
                let now_ms = set.time_of_write();
                set.registry
                    .stamp(now_ms, &config::limits(), is_out_of_memory)
            }
            StampSource::There(stamp) => {
                set.follow(stamp.now_ms());
                stamp
            }
            StampSource::SameAsBefore => before,
        };
        let done = act(&mut set.registry, &stamp);
        set.count();
        if self.decides() {
            background::set_timer(self.context, self.name, set, stamp.now_ms());
        }
        let is_new = stamp != before;
        Ok((StampedWrite { stamp, is_new }, done?))
    }

    /// Lets a full registry first finish work that may free space, in a write of its own. The
    /// command may still be refused, and is then not replicated.
    fn make_room(&self, set: &mut MetricSet) {
        if !self.decides() {
            return;
        }
        self.take_charge(set);
        let now_ms = set.time_of_write();
        if set.registry.may_make_room(now_ms) {
            background::settle(self.context, self.name, set, now_ms);
        }
    }

    /// Returns whether this server is the primary and the command carries no decision of another
    /// server.
    fn decides(&self) -> bool {
        self.situation.is_primary() && !self.is_repetition()
    }

    /// Makes a value that may be out of date heal, if this server decides about it.
    fn take_charge(&self, set: &mut MetricSet) {
        if self.decides() {
            set.take_charge();
        }
    }

    /// Replicates, sets the key's expiry, and notifies. The expiry is not replicated: a server that
    /// repeats the write computes the same one. Notifications come after the key is closed, because
    /// their receivers may run any command.
    fn pass_on(&self, mut key: Key, stamped: &StampedWrite, done: &impl Effect, changes: Changes) {
        if changes.is_change {
            match self.stamp_source {
                StampSource::Here => self.replicate(stamped),
                // Goes to this replica's own append only file; Redis itself passes on the primary's
                // stream.
                StampSource::There(_) | StampSource::SameAsBefore => self.replicate_verbatim(),
            }
        }
        let ends_at_ms = done
            .expire_at_ms()
            .map(|at_ms| on_the_wall(at_ms, stamped.stamp.now_ms()));
        let is_set = ends_at_ms.map(|at_ms| key.expire_at(at_ms));
        if done.keeps_key() {
            key.persist();
        }
        drop(key);
        if changes.is_news {
            self.context.signal_change(self.name);
            self.notify(raw::REDISMODULE_NOTIFY_MODULE, self.event);
        }
        if changes.has_expired {
            self.context.signal_change(self.name);
            self.notify(raw::REDISMODULE_NOTIFY_MODULE, c"metrics.expired");
        }
        match (ends_at_ms, is_set) {
            (Some(at_ms), Some(Err(NoSuchFunction))) => self.expire_by_command(at_ms),
            (Some(_), Some(Ok(()))) => self.notify(raw::REDISMODULE_NOTIFY_GENERIC, c"expire"),
            _ => {}
        }
    }

    fn notify(&self, class: c_int, event: &CStr) {
        self.context.notify(class, event, self.name);
    }

    /// Sets the expiry by a command, on servers before 7.0.
    fn expire_by_command(&self, at_ms: u64) {
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        // SAFETY: the arguments are those that the format names; the reply, which may be null, is
        // ours to free.
        unsafe {
            let reply = call!(RedisModule_Call(
                self.context.as_ptr(),
                c"PEXPIREAT".as_ptr(),
                c"sl".as_ptr(),
                self.name,
                at_ms
            ));
            if !reply.is_null() {
                call!(RedisModule_FreeCallReply(reply));
            }
        }
    }
}

/// Converts the end of a key from the registry's time (`at_ms`, while it is `now_ms`) to Redis' own
/// clock. Clocks that differ by less than a second count as equal, so that a primary and its
/// replicas agree. After a step of the clock, and while an append only file is read, the later of
/// the two times counts: a key never expires early because the clock was wrong for a while.
fn on_the_wall(at_ms: u64, now_ms: u64) -> u64 {
    let wall_ms = api::clock_ms();
    if wall_ms.abs_diff(now_ms) <= SAME_TIME_MS {
        return at_ms;
    }
    at_ms.max(wall_ms.saturating_add(at_ms.saturating_sub(now_ms)))
}

/// Two clocks that differ by fewer milliseconds count as equal.
const SAME_TIME_MS: u64 = 1000;

/// Returns the stamp of a new key. Its epoch is one that no key ever had. It starts from the
/// default limits, and names those that are configured differently, so that a replica creates the
/// same key.
fn stamp_of_new_key(is_out_of_memory: bool) -> Stamp {
    let now_ms = api::clock_ms();
    let newborn = Registry::new(Epoch(api::random_u64()), Limits::default(), now_ms);
    newborn.stamp(now_ms, &config::limits(), is_out_of_memory)
}
