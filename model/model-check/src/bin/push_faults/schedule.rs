//! One schedule: steps drawn from a seed, and the totals at its end.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics_model::{Epoch, Push, PushReply, PushStatus};

use crate::servers::{Cut, Reply, Servers, request};
use crate::writer::{COUNTED, Writer};

const WRITERS: usize = 3;

pub(crate) struct Schedule<'s> {
    servers: &'s mut Servers,
    random: Random,
    key: String,
    seed: u64,
    writers: Vec<Writer>,
    /// Requests of which a copy may still arrive.
    sent: Vec<Vec<u8>>,
    labels: BTreeSet<String>,
    /// What writers that have left had counted since the last loss.
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

    /// Takes so many steps, brings everybody back, and compares; returns the number of faults.
    pub(crate) fn run(&mut self, steps: usize) -> Result<u64, String> {
        for _ in 0..steps {
            self.step()?;
        }
        // Twice: what is answered first may be a retry of something old.
        for number in (0..WRITERS).chain(0..WRITERS) {
            self.push(number, Cut::Nowhere)?;
            self.settle(number)?;
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
        let choice = self.random.below(40);
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
                        // The copy is from before the key was made.
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
            _ => self.leave(number)?,
        }
        Ok(())
    }

    fn lose_all(&mut self) {
        self.left = [0.0; 3];
        self.writers.iter_mut().for_each(Writer::lose);
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
        let writer = &mut self.writers[number];
        let Some(push) = writer.session.heartbeat(&writer.series, now_ms()) else {
            return Ok(());
        };
        let bytes = push_request(&self.key, writer.session.writer(), &push);
        self.sent.push(bytes.clone());
        if let Some(reply) = self.servers.send(&bytes, cut)? {
            let reply = push_reply(&reply)?;
            let session = &mut self.writers[number].session;
            let outcome = session.on_reply(&reply, now_ms());
            self.note(format!("{:?} {outcome:?}", reply.status));
        }
        Ok(())
    }

    fn settle(&mut self, number: usize) -> Result<(), String> {
        for _ in 0..20 {
            let writer = &mut self.writers[number];
            if writer.session.next(&writer.series, now_ms()).is_none() {
                return Ok(());
            }
            self.push(number, Cut::Nowhere)?;
        }
        Err("a session does not come to rest".to_owned())
    }

    fn leave(&mut self, number: usize) -> Result<(), String> {
        loop {
            self.settle(number)?;
            let session = &mut self.writers[number].session;
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
        // A copy from before it left no longer knows of it: the exception that is documented.
        self.servers.forget_copy();
        let next = self.writer();
        let gone = std::mem::replace(&mut self.writers[number], next);
        for (left, family) in self.left.iter_mut().zip(COUNTED) {
            *left += gone.counted(family);
        }
        Ok(())
    }

    fn total(&mut self, family: &str, label: Option<&str>) -> Result<f64, String> {
        let mut words = vec![&b"METRICS.GET"[..], self.key.as_bytes(), family.as_bytes()];
        if let Some(label) = label {
            words.extend([&b"LABELS"[..], b"1", b"n", label.as_bytes()]);
        }
        let number = |reply: &Reply| match reply {
            Reply::Text(text) => text.parse::<f64>().map_err(|error| error.to_string()),
            Reply::Number(number) => Ok(*number as f64),
            Reply::Nil => Ok(0.0),
            other => Err(format!("expected a number, got {other:?}")),
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
    let Reply::Array(parts) = reply else {
        return Err(format!("expected four things, got {reply:?}"));
    };
    let [status, epoch, last_seq, left_out] = parts.as_slice() else {
        return Err(format!("expected four things, got {reply:?}"));
    };
    let status = status.text()?;
    let epoch = epoch.text()?;
    Ok(PushReply {
        status: PushStatus::from_word(status).ok_or_else(|| format!("status {status}"))?,
        epoch: epoch.parse::<Epoch>().map_err(|error| error.to_string())?,
        last_seq: last_seq.number()?,
        left_out: left_out.number()?,
        expire_at_ms: None,
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// `SplitMix64`.
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
