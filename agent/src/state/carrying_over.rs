//! Merges dead writers that wait for the shared registry into a carry-over store (see
//! `stores/carry_over.rs`).

use metrics_store::{Identity, NewStore, Role, StoreError, StoreFile};

use super::{Entry, Inner, Life, State};
use crate::own_metrics::GivenUpBy;
use crate::stores::CarryOver;

/// Maximum number of dead writers that wait with a store each. A few of them cost little, and can
/// be sent again to a registry that was rolled back.
const MAX_WAITING: usize = 64;

impl Inner {
    pub(super) fn is_carried_over(&self, number: u64) -> bool {
        self.carry_over
            .as_ref()
            .is_some_and(|(_, replaces)| replaces.contains(&number))
    }
}

/// A store that replaces others.
#[derive(Debug)]
pub struct CarryOverStore {
    /// Its announcement.
    pub store: NewStore,
    /// Its memory.
    pub file: StoreFile,
    /// The numbers of the stores that it replaces.
    pub replaces: Vec<u64>,
}

impl State {
    /// Merges the dead writers that wait for the shared registry, if there are many.
    pub fn carry_over(&self) -> Option<CarryOverStore> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let waits = |entry: &Entry| {
            entry.life == Life::Committed
                && !entry.writer.has_left_shared()
                && entry.writer.may_carry_over()
        };
        let waiting = inner.writers.iter().filter(|(_, entry)| waits(entry));
        let replaces: Vec<u64> = waiting.map(|(&number, _)| number).collect();
        if inner.carry_over.is_some() || replaces.len() <= MAX_WAITING {
            return None;
        }
        match self.fill_carry_over(inner, &replaces) {
            Ok((store, file)) => {
                inner.carry_over = Some((store.number, replaces.clone()));
                Some(CarryOverStore {
                    store,
                    file,
                    replaces,
                })
            }
            Err(error) => {
                // They continue to wait, each with its own store.
                self.report("heir", 0, &error);
                None
            }
        }
    }

    fn fill_carry_over(
        &self,
        inner: &Inner,
        from: &[u64],
    ) -> Result<(NewStore, StoreFile), StoreError> {
        let number = self.control.next_store_number();
        let identity = Identity {
            role: Role::CarryOver,
            number,
            slot: 0,
            name: "heir".to_owned(),
        };
        let file = StoreFile::create(&identity)?;
        let mut carry_over = CarryOver::new(&file)?;
        for entry in from.iter().filter_map(|number| inner.writers.get(number)) {
            entry.writer.carry_over(&mut carry_over)?;
        }
        self.give_up_series(GivenUpBy::Shared, carry_over.given_up());
        carry_over.finish()?;
        let store = NewStore {
            number,
            role: Role::CarryOver,
            slot: 0,
            process: None,
        };
        Ok((store, file))
    }

    /// Drops an unconfirmed carry-over store: the instance ends, and no arbiter will confirm it.
    pub fn forget_carry_over(&self) {
        self.inner.borrow_mut().carry_over = None;
    }
}
