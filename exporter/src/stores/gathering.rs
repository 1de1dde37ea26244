//! Stores merged in the process that asks, for tests and for programs that have no exporter.

use std::sync::{Arc, Mutex};

use metrics_model::{Epoch, ExposeRequest, Limits, Registry};
use metrics_store::{StoreError, StoreReader};

use super::{Writer, WriterOptions};
use crate::backend::{BackendError, Embedded};

/// Some processes' stores, and the registry that they are brought into when somebody asks.
#[derive(Debug)]
pub struct Gathering {
    registry: Embedded,
    writers: Vec<Writer>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum GatherError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Default for Gathering {
    fn default() -> Self {
        // Nobody outlives it who could compare epochs.
        let registry = Registry::new(Epoch(1), Limits::default(), crate::instance::now_ms());
        Self {
            registry: Embedded::new(Arc::new(Mutex::new(registry))),
            writers: Vec::new(),
        }
    }
}

impl Gathering {
    /// A process' store is among them from now on.
    pub fn join(&mut self, reader: StoreReader) {
        let options = WriterOptions {
            instance: String::new(),
            ttl_ms: 0,
            shards: 0,
        };
        self.writers.push(Writer::new(reader, None, &options));
    }

    /// A process has ended: its counts stay, what only living processes have goes.
    ///
    /// # Errors
    ///
    /// When its store is damaged, or the registry refuses what is in it.
    pub fn end(&mut self, pid: u32) -> Result<(), GatherError> {
        let is_its = |writer: &Writer| writer.process().is_some_and(|process| process.pid == pid);
        let mut ended: Vec<_> = self
            .writers
            .extract_if(.., |writer| is_its(writer))
            .collect();
        for writer in &mut ended {
            writer.refresh()?;
            writer.leave_local(&self.registry)?;
        }
        Ok(())
    }

    /// All of them as one page.
    ///
    /// # Errors
    ///
    /// When a store is damaged, or the registry refuses what is in it.
    pub fn page(&mut self, request: &ExposeRequest) -> Result<Vec<u8>, GatherError> {
        for writer in &mut self.writers {
            writer.refresh()?;
            writer.flush_local(&self.registry)?;
        }
        let mut text = Vec::new();
        let mut request = ExposeRequest {
            cursor: Some(b"0".to_vec()),
            ..request.clone()
        };
        loop {
            let page = self.registry.page(&request)?;
            text.extend_from_slice(&page.body);
            match page.next {
                Some(cursor) => request.cursor = Some(cursor.into_bytes()),
                None => return Ok(text),
            }
        }
    }
}
