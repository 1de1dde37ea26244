//! Pushes the values of the files into the registry of this instance.

use metrics_model::{
    Labels, Limits, Outcome, Saved, SavedPoint, SeriesLife, Session, Source, WriterState,
};

use super::{DbFiles, PROCESS, WRITER};
use crate::embedded::{BatchError, EmbeddedRegistry};
use crate::stores::shard::session_options;
use crate::stores::writer::{LOCAL_LEASE_MS, LOCAL_ROUNDS};

impl DbFiles {
    /// Pushes the values of all files. Series that went down begin again.
    pub(super) fn bring(
        &mut self,
        registry: &EmbeddedRegistry,
        changed: &[usize],
        now_ms: u64,
    ) -> Result<(), BatchError> {
        let part = self.view.part("");
        let begins_anew: Vec<usize> = (0..part.len())
            .filter(|&number| {
                let sent = self
                    .sessions
                    .get("")
                    .and_then(|session| session.saved_point(number));
                let Some(saved) = sent else { return false };
                let in_view = part.in_view(number);
                if saved.family_type.gauge_mode().is_some() {
                    return false;
                }
                if part.life(number) != SeriesLife::Live {
                    return self.shown.get(in_view).is_some_and(|&shown| shown);
                }
                changed.contains(&in_view) || self.view.is_less(in_view, &saved.sent)
            })
            .collect();
        self.shown = (0..self.view.len())
            .map(|number| !self.view.is_gone(number))
            .collect();
        if !begins_anew.is_empty() {
            self.begin_anew(registry, &begins_anew, now_ms)?;
        }
        let mut is_whole = true;
        for pid in self.view.pids() {
            is_whole &= self.push(&pid, registry, now_ms)? || !pid.is_empty();
        }
        if std::mem::take(&mut self.is_resumed) && !is_whole {
            let every = (0..self.view.part("").len()).collect::<Vec<_>>();
            self.begin_anew(registry, &every, now_ms)?;
            self.push("", registry, now_ms)?;
        }
        Ok(())
    }

    /// Returns whether the registry accepted everything.
    fn push(
        &mut self,
        pid: &str,
        registry: &EmbeddedRegistry,
        now_ms: u64,
    ) -> Result<bool, BatchError> {
        let part = self.view.part(pid);
        let session = self
            .sessions
            .entry(pid.into())
            .or_insert_with(|| new_session(format!("{PROCESS}{pid}")));
        let mut is_whole = true;
        for _ in 0..LOCAL_ROUNDS {
            let Some(push) = session.next(&part, now_ms) else {
                break;
            };
            let writer = session.writer();
            let reply = registry.push(writer, push.seq, push.epoch, LOCAL_LEASE_MS, &push.batch)?;
            is_whole &= reply.left_out == 0;
            if session.on_reply(&reply, now_ms) == Outcome::Gone {
                break;
            }
        }
        Ok(is_whole)
    }

    /// The writer leaves, those series are removed, and a new writer continues with the others.
    fn begin_anew(
        &mut self,
        registry: &EmbeddedRegistry,
        removed: &[usize],
        now_ms: u64,
    ) -> Result<(), BatchError> {
        // Hides them first: the gauges of a leaving writer would stay. Totals stay in any case.
        self.view.hides_all = true;
        let pushed = self.push("", registry, now_ms);
        self.view.hides_all = false;
        pushed?;
        let part = self.view.part("");
        let Some(session) = self.sessions.get_mut("") else {
            return Ok(());
        };
        if let Some((seq, epoch)) = session.leave() {
            registry.leave(session.writer(), seq, epoch);
        }
        for &number in removed {
            let removed = part.series(number);
            let pairs = removed
                .labels
                .iter()
                .map(|(name, value)| (&**name, &**value));
            if let Ok(labels) = Labels::new(pairs) {
                let mut registry = registry.lock();
                let stamp = registry.stamp(now_ms, &Limits::default(), false);
                registry.del(&stamp, removed.family.name, Some(&labels));
            }
        }
        let points = (0..part.len()).map_while(|number| {
            let saved = session.saved_point(number)?;
            let is_counted = saved.family_type.gauge_mode().is_none() && !removed.contains(&number);
            let base = if is_counted {
                saved.acked.clone()
            } else {
                part.point(number).zero()
            };
            Some(SavedPoint {
                family_type: saved.family_type,
                acked: base.clone(),
                sent: base.clone(),
                base,
            })
        });
        let saved = Saved {
            points: points.collect(),
            ..Saved::default()
        };
        let (id, _) = writer_of(registry);
        *session = Session::resume(id.into_bytes(), session_options(0), saved);
        Ok(())
    }
}

pub(super) fn new_session(id: String) -> Session {
    Session::new(id.into_bytes(), session_options(0))
}

/// Returns the id of the writer that stands for these files, namely the one that has not left, and
/// whether there is one.
pub(super) fn writer_of(registry: &EmbeddedRegistry) -> (String, bool) {
    let registry = registry.lock();
    let now_ms = registry.last_stamp_ms();
    let (mut cursor, mut last) = ("0".to_owned(), 0);
    while let Ok((writers, next)) = registry.list_writers(now_ms, cursor.as_bytes()) {
        for writer in writers {
            let id = String::from_utf8_lossy(writer.id);
            let number = id
                .strip_prefix(WRITER)
                .and_then(|number| number.parse::<u64>().ok());
            match number {
                Some(_) if writer.state != WriterState::Left => return (id.into_owned(), true),
                Some(number) => last = last.max(number),
                None => {}
            }
        }
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    (format!("{WRITER}{}", last + 1), false)
}
