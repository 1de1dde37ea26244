//! The last deaths of workers, and what those workers were answering.
//!
//! The arbiter that notices a death writes it into the control memory, where it outlives exporters and
//! arbiters (USR2). There are [`MAX_DEATHS`] entries, used in turn. Two arbiters never get the same entry
//! at once. The turn of an entry is odd while it is written, and stays odd if the arbiter is killed: then
//! there is no death in it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use serde::{Deserialize, Serialize};

use crate::Control;
use crate::control::{AT_DEATH_COUNT, AT_DEATHS};
use crate::memory::WORD;

/// Maximum number of deaths that are remembered.
pub const MAX_DEATHS: usize = 50;
/// Size of an entry in words: turn, number of the death, length, text.
const ENTRY: usize = 768;
const AT_TURN: usize = 0;
const AT_NUMBER: usize = 1;
const AT_LENGTH: usize = 2;
const AT_TEXT: usize = 3;
/// Maximum size of a death as JSON, in bytes.
const MAX_TEXT: usize = (ENTRY - AT_TEXT) * WORD;
pub(crate) const DEATH_WORDS: usize = MAX_DEATHS * ENTRY;

/// The end of a worker that was answering requests, or was killed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Death {
    /// The worker's id: instance and slot.
    pub worker: String,
    /// Its process.
    pub pid: u32,
    /// When the arbiter noticed it, in Unix seconds.
    pub time: f64,
    /// The reason, as in `gunicorn_worker_restart_total`.
    pub reason: String,
    /// The same in words: "was killed by SIGKILL".
    pub how: String,
    /// The largest size of its resident memory, in bytes; 0 = not known.
    pub memory: u64,
    /// The longest of the requests that it was answering.
    pub requests: Vec<LostRequest>,
    /// Number of the others.
    pub more: u64,
    /// Where it hung: the innermost frames of Python, the innermost last.
    pub stack: Vec<String>,
}

/// A request that a worker took with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LostRequest {
    /// Its method.
    pub method: String,
    /// Its endpoint as `exporter.http.in_flight` allows.
    pub endpoint: String,
    /// Its age at the death, in seconds.
    pub age: f64,
    /// The trace that it belongs to.
    pub trace: Option<String>,
}

impl Death {
    /// Returns the line that the arbiter logs.
    pub fn in_words(&self) -> String {
        let (pid, worker, how) = (self.pid, &self.worker, &self.how);
        let all = self.requests.len() as u64 + self.more;
        let listed: Vec<_> = self.requests.iter().map(LostRequest::in_words).collect();
        let answering = match (all, listed.as_slice()) {
            (0, _) => "no request".to_owned(),
            (1, [only]) => only.clone(),
            (1, _) => "1 request".to_owned(),
            (all, []) => format!("{all} requests"),
            (all, listed) => {
                let more = match self.more {
                    0 => String::new(),
                    more => format!("; and {more} more"),
                };
                format!("{all} requests: {}{more}", listed.join("; "))
            }
        };
        format!("worker {pid} ({worker}) {how} while answering {answering}")
    }
}

impl LostRequest {
    fn in_words(&self) -> String {
        let Self {
            method,
            endpoint,
            age,
            trace,
        } = self;
        let trace = trace.as_ref();
        let trace = trace.map_or(String::new(), |trace| format!(", trace {trace}"));
        format!("{method} {endpoint} for {age:.1} s{trace}")
    }
}

impl Control {
    /// Remembers a death. One that is too large loses frames, and then requests.
    pub fn add_death(&self, mut death: Death) {
        let mut text = serde_json::to_vec(&death).unwrap_or_default();
        while text.len() > MAX_TEXT {
            if !death.stack.is_empty() {
                death.stack.remove(0);
            } else if death.requests.pop().is_some() {
                death.more += 1;
            } else {
                return;
            }
            text = serde_json::to_vec(&death).unwrap_or_default();
        }
        let number = self.words[AT_DEATH_COUNT].fetch_add(1, AcqRel);
        let Some(entry) = self.death_entry(number as usize % MAX_DEATHS) else {
            return;
        };
        let turn = entry[AT_TURN].load(Relaxed) | 1;
        entry[AT_TURN].store(turn, Relaxed);
        fence(Release);
        entry[AT_NUMBER].store(number, Relaxed);
        entry[AT_LENGTH].store(text.len() as u64, Relaxed);
        for (cell, chunk) in entry[AT_TEXT..].iter().zip(text.chunks(WORD)) {
            let mut word = [0; WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            cell.store(u64::from_ne_bytes(word), Relaxed);
        }
        entry[AT_TURN].store(turn.wrapping_add(1), Release);
    }

    /// Returns the last deaths, the newest first.
    pub fn deaths(&self) -> Vec<Death> {
        let entries = (0..MAX_DEATHS).filter_map(|entry| self.death_entry(entry));
        let mut deaths: Vec<_> = entries.filter_map(read).collect();
        deaths.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        deaths.into_iter().map(|(_, death)| death).collect()
    }

    /// `None` in control memory of an earlier version, which has no entries.
    fn death_entry(&self, entry: usize) -> Option<&[AtomicU64]> {
        let at = AT_DEATHS + entry * ENTRY;
        self.words.get(at..at + ENTRY)
    }
}

fn read(entry: &[AtomicU64]) -> Option<(u64, Death)> {
    let turn = entry[AT_TURN].load(Acquire);
    if turn == 0 || turn % 2 == 1 {
        return None;
    }
    let number = entry[AT_NUMBER].load(Relaxed);
    let length = (entry[AT_LENGTH].load(Relaxed) as usize).min(MAX_TEXT);
    let words = &entry[AT_TEXT..AT_TEXT + length.div_ceil(WORD)];
    let bytes = words
        .iter()
        .flat_map(|word| word.load(Relaxed).to_ne_bytes());
    let bytes: Vec<u8> = bytes.take(length).collect();
    fence(Acquire);
    if entry[AT_TURN].load(Relaxed) != turn {
        return None;
    }
    Some((number, serde_json::from_slice(&bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(pid: u32) -> Death {
        Death {
            worker: "shop:8000:1".to_owned(),
            pid,
            how: "was killed by SIGKILL".to_owned(),
            requests: vec![LostRequest {
                method: "GET".to_owned(),
                endpoint: "/".to_owned(),
                age: 1.5,
                trace: None,
            }],
            ..Death::default()
        }
    }

    #[test]
    fn the_last_deaths_are_remembered_newest_first() {
        let control = Control::create().unwrap();
        assert_eq!(control.deaths(), []);
        let count = MAX_DEATHS as u32 + 7;
        for pid in 0..count {
            control.add_death(death(pid));
        }
        let open = Control::open(control.duplicate_fd().unwrap()).unwrap();
        let expected: Vec<_> = (7..count).rev().map(death).collect();
        assert_eq!(open.deaths(), expected);
    }

    #[test]
    fn a_death_that_was_not_written_to_its_end_is_none() {
        let control = Control::create().unwrap();
        control.add_death(death(1));
        control.add_death(death(2));
        let entry = control.death_entry(0).unwrap();
        entry[AT_TURN].store(3, Relaxed);
        assert_eq!(control.deaths(), [death(2)]);
    }

    #[test]
    fn a_death_that_is_too_large_keeps_its_innermost_frames() {
        let control = Control::create().unwrap();
        let frame = |line: usize| format!("frame {line} {}", "x".repeat(500));
        control.add_death(Death {
            stack: (0..30).map(frame).collect(),
            ..death(1)
        });
        let deaths = control.deaths();
        assert_eq!(deaths[0].requests, death(1).requests);
        assert_eq!(deaths[0].stack.last(), Some(&frame(29)));
        assert!(deaths[0].stack.len() > 8);
    }

    #[test]
    fn a_death_is_one_line_that_names_the_longest_requests() {
        let one = LostRequest {
            method: "POST".to_owned(),
            endpoint: "/reports/<int:id>".to_owned(),
            age: 31.24,
            trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        };
        let two = death(1).requests.remove(0);
        for (requests, more, end) in [
            (vec![], 0, "no request"),
            (vec![], 1, "1 request"),
            (vec![], 7, "7 requests"),
            (
                vec![one.clone()],
                0,
                "POST /reports/<int:id> for 31.2 s, trace 4bf92f3577b34da6a3ce929d0e0e4736",
            ),
            (
                vec![two.clone(), two],
                3,
                "5 requests: GET / for 1.5 s; GET / for 1.5 s; and 3 more",
            ),
        ] {
            let death = Death {
                requests,
                more,
                ..death(4711)
            };
            let begin = "worker 4711 (shop:8000:1) was killed by SIGKILL while answering";
            assert_eq!(death.in_words(), format!("{begin} {end}"));
        }
    }
}
