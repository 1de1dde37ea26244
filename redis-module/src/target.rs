//! The key that a command is about, and the rule by which it is changed: **the primary decides, everybody
//! else repeats.**
//!
//! On the primary a write is stamped once: time, epoch of a key that it makes, memory, limits, healing.
//! It is applied, and then replicated as it was sent, with the stamp as a trailer, unless the stamp is
//! the one before: a busy registry is written many times in a millisecond. Where the command comes back
//! (a replica, the append only file, a slot import) its stamp is obeyed and nothing is decided, so that
//! every copy goes through the same states. An ordinary client's trailer is just an unknown option.

use std::ffi::{CStr, c_int};
use std::ptr;

use metrics_model::{
    Epoch, LONGEST_STAMP, Limits, PushReply, PushStatus, Registry, RegistryError, Stamp, WrongStamp,
};
use redis_module::raw;

use crate::api::{self, Context, Situation, call};
use crate::background;
use crate::config;
use crate::data_type::MetricSet;
use crate::key::{Key, NoSuchFunction};
use crate::refusal::Refusal;
use crate::trailer::with_trailer;

/// The key of a command, not opened yet.
pub(crate) struct Target<'a> {
    context: Context,
    situation: Situation,
    /// The name of the command.
    command: *mut raw::RedisModuleString,
    /// What follows it, the key first.
    args: &'a [*mut raw::RedisModuleString],
    name: *mut raw::RedisModuleString,
    /// What subscribers of keyspace events hear of a change.
    event: &'static CStr,
    decided: Decided,
}

/// Where the stamp of a write comes from.
#[derive(Clone, Copy)]
enum Decided {
    /// It is made here.
    Here,
    /// Another server has made it.
    There(Stamp),
    /// The same, and it was that of the write before.
    AsBefore,
}

/// The stamp of a write that is done.
struct Stamped {
    stamp: Stamp,
    /// It is not that of the registry's write before.
    is_new: bool,
}

/// What follows from a write.
#[derive(Clone, Copy)]
struct Changes {
    /// It is replicated.
    is_change: bool,
    /// Clients that watch the key hear of it.
    is_news: bool,
    /// Series have expired by it.
    has_expired: bool,
}

/// What a write has done, as far as others must know.
pub(crate) trait Effect {
    /// Whether it is to be replicated.
    fn is_change(&self) -> bool {
        true
    }

    /// Whether somebody who watches the key should hear of it.
    fn is_news(&self) -> bool {
        self.is_change()
    }

    /// Whether the key must not end by itself from now on.
    fn keeps_key(&self) -> bool {
        false
    }

    /// When the key is to end, if the write says so.
    fn expire_at_ms(&self) -> Option<u64> {
        None
    }
}

impl Effect for () {}
impl Effect for f64 {}

/// How many series. A write to none of them is replicated all the same, as others may have expired by it.
impl Effect for u64 {
    fn is_news(&self) -> bool {
        *self > 0
    }
}

impl Effect for PushReply {
    fn is_change(&self) -> bool {
        self.status == PushStatus::Ok
    }

    fn expire_at_ms(&self) -> Option<u64> {
        self.expire_at_ms
    }
}

/// A target, and the arguments after the key.
type TargetAndRest<'a> = (Target<'a>, &'a [*mut raw::RedisModuleString]);

impl<'a> Target<'a> {
    /// For a command that decides nothing.
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
            decided: Decided::Here,
        };
        Ok((target, rest))
    }

    /// For a command that is stamped: takes the trailer off where there must be one.
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
            target.decided = Decided::AsBefore;
            return Ok((target, rest));
        };
        target.decided = Decided::There(stamp);
        Ok((target, &rest[..rest.len() - used]))
    }

    /// Whether the command comes from a server and not from a client.
    pub(crate) fn is_repetition(&self) -> bool {
        self.situation.is_repetition()
    }

    /// The database and name of the key.
    pub(crate) fn identity(&self) -> (c_int, Vec<u8>) {
        // SAFETY: the string is valid while the command runs.
        let name = unsafe { api::bytes_of(self.name) };
        (self.context.database(), name.to_vec())
    }

    /// Reads, at a time; `None` where there is no key.
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
                    background::see_to(self.context, self.name, set, now_ms);
                }
                act(Some(&set.registry), now_ms)
            }
            None => act(None, api::clock_ms()),
        }
    }

    /// Writes; a missing key is made, unless the write is refused.
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
        let stamp = match self.decided {
            Decided::Here => stamp_of_new_key(self.situation.is_out_of_memory()),
            Decided::There(stamp) => stamp,
            Decided::AsBefore => return Err(WrongStamp.into()),
        };
        let limits = stamp.limits().unwrap_or_default();
        let mut registry = Registry::new(stamp.epoch(), limits, stamp.now_ms());
        let done = act(&mut registry, &stamp)?;
        key.set(MetricSet::new(registry));
        // The key is there now, also where the write itself has done nothing: a first PUSH is answered
        // with RESYNC, and a client that watches the key has to hear of it.
        let changes = Changes {
            is_change: true,
            is_news: true,
            has_expired: false,
        };
        let is_new = true;
        self.pass_on(key, &Stamped { stamp, is_new }, &done, changes);
        Ok(done)
    }

    /// Writes; `None` where there is no key.
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

    /// Puts there what another server has saved.
    pub(crate) fn restore(&self, registry: Registry) -> Result<(), Refusal> {
        let mut key = Key::open_for_writing(self.context, self.name)?;
        key.value()?;
        key.set(MetricSet::restored(registry));
        drop(key);
        self.context.signal_change(self.name);
        self.notify(raw::REDISMODULE_NOTIFY_MODULE, self.event);
        Ok(())
    }

    /// Passes the command on as it came.
    pub(crate) fn replicate_verbatim(&self) {
        // SAFETY: the context is that of the running command.
        unsafe { call!(RedisModule_ReplicateVerbatim(self.context.as_ptr())) };
    }

    fn change<T>(
        &self,
        set: &mut MetricSet,
        act: impl FnOnce(&mut Registry, &Stamp) -> Result<T, RegistryError>,
    ) -> Result<(Stamped, T), Refusal> {
        self.take_charge(set);
        let before = set.registry.last_stamp();
        let stamp = match self.decided {
            Decided::Here => {
                let is_out_of_memory = self.situation.is_out_of_memory();
                let now_ms = set.time_of_write();
                set.registry
                    .stamp(now_ms, &config::limits(), is_out_of_memory)
            }
            Decided::There(stamp) => {
                set.follow(stamp.now_ms());
                stamp
            }
            Decided::AsBefore => before,
        };
        let done = act(&mut set.registry, &stamp);
        set.count();
        if self.decides() {
            background::see_to(self.context, self.name, set, stamp.now_ms());
        }
        let is_new = stamp != before;
        Ok((Stamped { stamp, is_new }, done?))
    }

    /// A full registry first works off what may make room, in a write of its own: the command may be
    /// refused all the same, and then it is not replicated.
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

    /// Whether this server decides about its values, and the command was not decided elsewhere.
    fn decides(&self) -> bool {
        self.situation.is_primary() && !self.is_repetition()
    }

    /// A value that may be behind heals, where this server decides about it.
    fn take_charge(&self, set: &mut MetricSet) {
        if self.decides() {
            set.take_charge();
        }
    }

    /// What follows from a write. The key's end is not replicated: a server that repeats the write
    /// works out the same one. Others hear of a change when the key is closed, since they may do anything.
    fn pass_on(&self, mut key: Key, stamped: &Stamped, done: &impl Effect, changes: Changes) {
        if changes.is_change {
            match self.decided {
                Decided::Here => self.replicate(stamped),
                // To this replica's own append only file; Redis passes the primary's stream on by itself.
                Decided::There(_) | Decided::AsBefore => self.replicate_verbatim(),
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

    /// The command as it was sent, and the stamp where it is new. A client's last label values may look
    /// like one: then it follows too, since the last one counts.
    fn replicate(&self, stamped: &Stamped) {
        if !stamped.is_new && stamp_at_end(self.args).is_err() {
            self.replicate_verbatim();
            return;
        }
        // The name as it was sent: the command may have been renamed.
        // SAFETY: the string is valid while the command runs.
        let command = unsafe { api::bytes_of(self.command) };
        with_trailer(&stamped.stamp, |trailer| {
            let count = self.args.len() + trailer.len();
            if count <= MOST_SINGLE {
                self.replicate_few(command, trailer);
                return;
            }
            // SAFETY: Redis' own strings end with NUL, and it has found the command by this name. The
            // arguments are those that the format names, two vectors and their lengths; Redis retains
            // the strings that it keeps.
            unsafe {
                call!(RedisModule_Replicate(
                    self.context.as_ptr(),
                    command.as_ptr().cast(),
                    c"vv".as_ptr(),
                    self.args.as_ptr(),
                    self.args.len(),
                    trailer.as_ptr(),
                    trailer.len(),
                ));
            }
        });
    }

    /// The same for few arguments, one by one: for a vector Redis would enlarge its own list.
    fn replicate_few(&self, command: &[u8], trailer: &[*mut raw::RedisModuleString]) {
        let mut texts = [ptr::null_mut(); MOST_SINGLE];
        let given = self.args.iter().chain(trailer);
        let mut count = 0;
        for (place, text) in texts.iter_mut().zip(given) {
            *place = *text;
            count += 1;
        }
        let format = &SINGLE[MOST_SINGLE - count..];
        // SAFETY: as in `replicate`; the format names the first `count` strings, and arguments that it
        // does not name are not looked at.
        unsafe {
            call!(RedisModule_Replicate(
                self.context.as_ptr(),
                command.as_ptr().cast(),
                format.as_ptr().cast(),
                texts[0],
                texts[1],
                texts[2],
                texts[3],
                texts[4],
                texts[5],
                texts[6],
                texts[7],
                texts[8],
                texts[9],
                texts[10],
                texts[11],
                texts[12],
                texts[13],
                texts[14],
                texts[15],
            ));
        }
    }

    /// For servers before 7.0.
    fn expire_by_command(&self, at_ms: u64) {
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        // SAFETY: the arguments are those that the format names; the reply, which may be null, is ours
        // to free.
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

/// The moment at which Redis, by its own clock, is to end a key that ends at `at_ms` of the registry's
/// time, which is `now_ms`. Within a second the two are one, so that a primary and its replicas agree.
/// After a step of the clock, and where an append only file is read, it is the later of the two: a key
/// never ends early because a clock was set back and is then right again.
fn on_the_wall(at_ms: u64, now_ms: u64) -> u64 {
    let wall_ms = api::clock_ms();
    if wall_ms.abs_diff(now_ms) <= SAME_TIME_MS {
        return at_ms;
    }
    at_ms.max(wall_ms.saturating_add(at_ms.saturating_sub(now_ms)))
}

/// Two clocks that differ by less tell the same time.
const SAME_TIME_MS: u64 = 1000;

/// As many arguments are replicated one by one.
const MOST_SINGLE: usize = 16;
/// The format of that many strings; that of fewer is its end.
const SINGLE: &[u8; MOST_SINGLE + 1] = b"ssssssssssssssss\0";

/// The stamp after a command's own arguments, and how many arguments it is.
fn stamp_at_end(args: &[*mut raw::RedisModuleString]) -> Result<(Stamp, usize), WrongStamp> {
    let last = &args[args.len().saturating_sub(LONGEST_STAMP)..];
    let mut texts: [&[u8]; LONGEST_STAMP] = [b""; LONGEST_STAMP];
    for (text, arg) in texts.iter_mut().zip(last) {
        // SAFETY: the strings are valid while the command runs.
        *text = unsafe { api::bytes_of(*arg) };
    }
    Stamp::from_args(&texts[..last.len()])
}

/// A key is made under an epoch that no key ever had, with the default limits: those configured are in
/// the stamp where they differ, so that a replica makes the same key.
fn stamp_of_new_key(is_out_of_memory: bool) -> Stamp {
    let now_ms = api::clock_ms();
    let newborn = Registry::new(Epoch(api::random_u64()), Limits::default(), now_ms);
    newborn.stamp(now_ms, &config::limits(), is_out_of_memory)
}
