//! Merges stores in the calling process, for tests and for programs without an exporter.

use std::sync::{Arc, Mutex};

use metrics_model::{Epoch, ExposeError, ExposeRequest, Limits, Registry};
use metrics_store::{StoreError, StoreReader};

use super::{Writer, WriterOptions};
use crate::embedded::{BatchError, EmbeddedRegistry};

/// Stores of some processes, and a registry that is updated on each request.
#[derive(Debug)]
pub struct Gatherer {
    registry: EmbeddedRegistry,
    writers: Vec<Writer>,
}

/// The reason why there is no page.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum GatherError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Expose(#[from] ExposeError),
}

impl Default for Gatherer {
    fn default() -> Self {
        // No client outlives the registry, so its epoch does not matter.
        let registry = Registry::new(Epoch(1), Limits::default(), crate::clock::now_ms());
        Self {
            registry: EmbeddedRegistry::new(Arc::new(Mutex::new(registry))),
            writers: Vec::new(),
        }
    }
}

impl Gatherer {
    /// Adds a process' store.
    pub fn join(&mut self, reader: StoreReader) {
        let options = WriterOptions {
            instance: String::new(),
            ttl_ms: 0,
            shards: 0,
        };
        self.writers.push(Writer::new(reader, None, &options));
    }

    /// Ends a process: its counts stay, and values of live processes go.
    ///
    /// # Errors
    ///
    /// Its store is damaged, or the registry refuses its values.
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

    /// Renders all stores as one page.
    ///
    /// # Errors
    ///
    /// A store is damaged, or the registry refuses its values.
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
