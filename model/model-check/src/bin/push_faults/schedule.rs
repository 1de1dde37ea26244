//! One schedule: steps drawn from a seed, and a comparison of the totals at its end.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics_model::{Epoch, LeftOut, Push, PushReply, PushStatus};

use crate::servers::{Cut, Reply, Servers, request};
use crate::writer::{COUNTED, Writer};

const WRITERS: usize = 3;

/// A limit at which a registry leaves something out.
#[derive(Debug)]
struct Limit {
    maxmemory: &'static str,
    max_series: &'static str,
    max_label_bytes: &'static str,
    /// Whether a family with that name and another type exists.
    takes_a_name: bool,
}

const NO_LIMIT: Limit = Limit {
    maxmemory: "0",
    max_series: "1000000",
    max_label_bytes: "4096",
    takes_a_name: false,
};
/// The first entry sets no limit.
const LIMITS: [Limit; 5] = [
    NO_LIMIT,
    Limit {
        maxmemory: "1",
        ..NO_LIMIT
    },
    Limit {
        max_series: "4",
        ..NO_LIMIT
    },
    Limit {
        max_label_bytes: "1",
        ..NO_LIMIT
    },
    Limit {
        takes_a_name: true,
        ..NO_LIMIT
    },
];

pub(crate) struct Schedule<'s> {
    servers: &'s mut Servers,
    random: Random,
    key: String,
    seed: u64,
    writers: Vec<Writer>,
    /// Writers that have ended while the registry lacks some of their values.
    waiting: Vec<Writer>,
    /// How far the writers' clock is ahead, in milliseconds: it moves on without a real wait.
    ahead_ms: u64,
    /// Requests that may still arrive a second time.
    sent: Vec<Vec<u8>>,
    labels: BTreeSet<String>,
    /// What writers that have left had counted since the last loss, for each family.
    left: [f64; 3],
    next_id: u64,
    faults: u64,
    history: Vec<String>,
}

impl<'s> Schedule<'s> {
    pub(crate) fn new(servers: &'s mut Servers, seed: u64) -> Self {
        servers.forget_copy();
        let mut schedule = Self {
            servers,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            key: format!("faults:{seed}"),
            seed,
            writers: Vec::new(),
            waiting: Vec::new(),
            ahead_ms: 0,
            sent: Vec::new(),
            labels: BTreeSet::new(),
            left: [0.0; 3],
            next_id: 0,
            faults: 0,
            history: Vec::new(),
        };
        schedule.writers = (0..WRITERS).map(|_| schedule.writer()).collect();
        schedule
    }

    pub(crate) fn history(&self) -> &[String] {
        &self.history
    }

    /// Takes so many steps, brings all writers back, and compares the totals; returns the number of
    /// faults.
    pub(crate) fn run(&mut self, steps: usize) -> Result<u64, String> {
        for _ in 0..steps {
            self.step()?;
        }
        self.limit(&LIMITS[0])?;
        // Two rounds: the first answer may belong to a retry of an old batch.
        for _ in 0..2 {
            // After so much time a writer tries again what was left out.
            self.ahead_ms += 1000;
            for number in 0..WRITERS {
                self.push(number, Cut::Nowhere)?;
                self.settle(number)?;
            }
            for writer in std::mem::take(&mut self.waiting) {
                self.end(writer)?;
            }
        }
        if !self.waiting.is_empty() {
            return Err("a writer that has ended does not leave".to_owned());
        }
        for (at, family) in COUNTED.iter().enumerate() {
            let mut shown = self.total(family, None)?;
            if *family == "c" {
                for label in self.labels.clone() {
                    shown += self.total(family, Some(&label))?;
                }
            }
            let counted = self.writers.iter().map(|writer| writer.counted(family));
            let expected = self.left[at] + counted.sum::<f64>();
            if shown != expected {
                return Err(format!("{family} shows {shown}, counted were {expected}"));
            }
        }
        self.servers.ask(&[b"UNLINK", self.key.as_bytes()])?;
        Ok(self.faults)
    }

    fn step(&mut self) -> Result<(), String> {
        let number = self.random.below(WRITERS as u64) as usize;
        let choice = self.random.below(46);
        self.note(format!("{choice} writer {number}"));
        match choice {
            0..=9 => {
                let by = 1 + self.random.below(99);
                self.writers[number].count(by);
            }
            10 | 11 => {
                let label = self.writers[number].grow();
                self.labels.insert(label);
            }
            12..=22 => self.push(number, Cut::Nowhere)?,
            23..=25 => {
                let at = self.random.below(400) as usize;
                self.fault(&format!("request of writer {number} cut at byte {at}"));
                self.push(number, Cut::Request(at))?;
            }
            26..=28 => {
                let at = self.random.below(40) as usize;
                self.fault(&format!("reply to writer {number} cut at byte {at}"));
                self.push(number, Cut::Reply(at))?;
            }
            29..=31 => {
                let pick = self.random.below(self.sent.len().max(1) as u64) as usize;
                if let Some(bytes) = self.sent.get(pick).cloned() {
                    self.fault(&format!("late copy of request {pick}"));
                    self.servers.send(&bytes, Cut::Nowhere)?;
                }
            }
            32 | 33 => {
                self.fault(&format!("exporter of writer {number} dies"));
                self.writers[number].succeed();
            }
            34 => self.servers.copy()?,
            35 => {
                self.fault("reload");
                self.servers.ask(&[b"DEBUG", b"RELOAD"])?;
            }
            36 | 37 => {
                if self.servers.fail_over()? {
                    self.fault("failover");
                    if self
                        .servers
                        .ask(&[b"EXISTS", self.key.as_bytes()])?
                        .number()?
                        == 0
                    {
                        // The copy was made before the key existed.
                        self.lose_all();
                    }
                }
            }
            38 => {
                self.fault("loss of all data");
                self.servers.ask(&[b"DEL", self.key.as_bytes()])?;
                self.servers.forget_copy();
                self.lose_all();
            }
            39 => {
                let next = self.writer();
                let gone = std::mem::replace(&mut self.writers[number], next);
                self.end(gone)?;
            }
            40..=42 => self.limit(&LIMITS[0])?,
            _ => {
                let limit = 1 + self.random.below(LIMITS.len() as u64 - 1) as usize;
                self.fault(&format!("limit: {:?}", LIMITS[limit]));
                self.limit(&LIMITS[limit])?;
            }
        }
        Ok(())
    }

    /// Sets this limit and lifts all others.
    fn limit(&mut self, limit: &Limit) -> Result<(), String> {
        self.ahead_ms += 300;
        self.servers.configure("maxmemory", limit.maxmemory)?;
        self.servers
            .configure("metrics.max-series", limit.max_series)?;
        self.servers
            .configure("metrics.max-label-bytes", limit.max_label_bytes)?;
        let key = self.key.as_bytes();
        let families = self.servers.ask(&[b"METRICS.GET", key, b"h"]);
        let is_free = families == Ok(Reply::Nil);
        if limit.takes_a_name && is_free {
            // Another program has declared the family's name, with another type.
            self.servers
                .ask(&[b"METRICS.INC", key, b"h", b"BY", b"0"])?;
        } else if !limit.takes_a_name && matches!(families, Ok(Reply::Bytes(_))) {
            self.servers.ask(&[b"METRICS.DEL", key, b"h"])?;
        }
        Ok(())
    }

    fn lose_all(&mut self) {
        self.left = [0.0; 3];
        let all = self.writers.iter_mut().chain(&mut self.waiting);
        all.for_each(Writer::lose);
    }

    fn note(&mut self, what: String) {
        self.history.push(what);
    }

    fn fault(&mut self, what: &str) {
        self.faults += 1;
        self.note(what.to_owned());
    }

    fn writer(&mut self) -> Writer {
        self.next_id += 1;
        Writer::new(format!("{}-{}", self.seed, self.next_id))
    }

    fn push(&mut self, number: usize, cut: Cut) -> Result<(), String> {
        let mut writer = self.writers.remove(number);
        let pushed = self.push_of(&mut writer, cut);
        self.writers.insert(number, writer);
        pushed.map(|_| ())
    }

    /// Sends the next batch of a writer; false if the server refuses it for now.
    fn push_of(&mut self, writer: &mut Writer, cut: Cut) -> Result<bool, String> {
        let now_ms = self.now_ms();
        let Some(push) = writer.session.heartbeat(&writer.series, now_ms) else {
            return Ok(true);
        };
        let bytes = push_request(&self.key, writer.session.writer(), &push);
        self.sent.push(bytes.clone());
        match self.servers.send(&bytes, cut)? {
            None => {}
            Some(Reply::Error(error)) if error.starts_with("OOM") => {
                writer.session.on_error();
                return Ok(false);
            }
            Some(reply) => {
                let reply = push_reply(&reply)?;
                let outcome = writer.session.on_reply(&reply, now_ms);
                let left_out = writer.session.left_out_count();
                self.note(format!(
                    "{:?} {outcome:?}, {left_out} left out",
                    reply.status
                ));
            }
        }
        Ok(true)
    }

    fn settle(&mut self, number: usize) -> Result<(), String> {
        let mut writer = self.writers.remove(number);
        let settled = self.settle_of(&mut writer);
        self.writers.insert(number, writer);
        settled.map(|_| ())
    }

    /// Sends until the writer has nothing more to send; false if the server refuses for now.
    fn settle_of(&mut self, writer: &mut Writer) -> Result<bool, String> {
        for _ in 0..20 {
            let now_ms = self.now_ms();
            if writer.session.next(&writer.series, now_ms).is_none() {
                return Ok(true);
            }
            if !self.push_of(writer, Cut::Nowhere)? {
                return Ok(false);
            }
        }
        Err("a session does not come to rest".to_owned())
    }

    /// Ends the process of a writer: it leaves, or waits until the registry has all its values.
    fn end(&mut self, mut writer: Writer) -> Result<(), String> {
        loop {
            if !self.settle_of(&mut writer)? || writer.session.left_out_count() > 0 {
                self.note("a writer that has ended waits".to_owned());
                self.waiting.push(writer);
                return Ok(());
            }
            let session = &mut writer.session;
            let Some((seq, epoch)) = session.leave() else {
                break;
            };
            let (seq, epoch) = (seq.to_string(), epoch.map(|epoch| epoch.to_string()));
            let mut words = vec![
                b"METRICS.LEAVE",
                self.key.as_bytes(),
                session.writer(),
                seq.as_bytes(),
            ];
            if let Some(epoch) = &epoch {
                words.extend([&b"EPOCH"[..], epoch.as_bytes()]);
            }
            let reply = push_reply(&self.servers.ask(&words)?)?;
            if session.on_leave_reply(&reply) {
                break;
            }
        }
        // A copy from before the writer left does not know that it left: a documented exception.
        self.servers.forget_copy();
        for (left, family) in self.left.iter_mut().zip(COUNTED) {
            *left += writer.counted(family);
        }
        Ok(())
    }

    /// Returns the writers' time.
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64) + self.ahead_ms
    }

    fn total(&mut self, family: &str, label: Option<&str>) -> Result<f64, String> {
        let mut words = vec![&b"METRICS.GET"[..], self.key.as_bytes(), family.as_bytes()];
        if let Some(label) = label {
            words.extend([&b"LABELS"[..], b"1", b"n", label.as_bytes()]);
        }
        let number = |reply: &Reply| match reply {
            Reply::Number(number) => Ok(*number as f64),
            Reply::Nil => Ok(0.0),
            other => other
                .text()?
                .parse::<f64>()
                .map_err(|error| error.to_string()),
        };
        match self.servers.ask(&words)? {
            Reply::Array(parts) => number(parts.first().unwrap_or(&Reply::Nil)),
            other => number(&other),
        }
    }
}

fn push_request(key: &str, writer: &[u8], push: &Push) -> Vec<u8> {
    let (seq, epoch) = (
        push.seq.to_string(),
        push.epoch.map(|epoch| epoch.to_string()),
    );
    let mut words = vec![
        b"METRICS.PUSH",
        key.as_bytes(),
        writer,
        seq.as_bytes(),
        &push.batch,
    ];
    if let Some(epoch) = &epoch {
        words.extend([&b"EPOCH"[..], epoch.as_bytes()]);
    }
    words.extend([&b"LEASE"[..], b"60000"]);
    request(&words)
}

fn push_reply(reply: &Reply) -> Result<PushReply, String> {
    let unexpected = || format!("expected four or five things, got {reply:?}");
    let Reply::Array(parts) = reply else {
        return Err(unexpected());
    };
    let [status, epoch, last_seq, left_out, series @ ..] = parts.as_slice() else {
        return Err(unexpected());
    };
    let series_left_out = match series {
        [] => None,
        [Reply::Bytes(bits)] => Some(LeftOut::from_bytes(bits).ok_or_else(unexpected)?),
        _ => return Err(unexpected()),
    };
    let status = status.text()?;
    let epoch = epoch.text()?;
    Ok(PushReply {
        status: PushStatus::from_word(status).ok_or_else(|| format!("status {status}"))?,
        epoch: epoch.parse::<Epoch>().map_err(|error| error.to_string())?,
        last_seq: last_seq.number()?,
        left_out: left_out.number()?,
        series_left_out,
        expire_at_ms: None,
    })
}

/// The random generator `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
