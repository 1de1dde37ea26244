//! What may happen in the world, and how often.

use std::fmt;

/// Bounds of the search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) writers: usize,
    pub(crate) counts: u8,
    pub(crate) faults: u8,
    pub(crate) silences: u8,
    pub(crate) limits: u8,
    /// The only kind of fault that may happen; `None`: every kind.
    pub(crate) only: Option<Fault>,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// A request or a reply is lost, or a copy of it arrives late.
    Network,
    /// An exporter dies.
    Death,
    /// The server restarts with its data.
    Restart,
    /// An older replica takes over.
    Failover,
    /// All data is lost.
    Loss,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            writers,
            counts,
            faults,
            silences,
            limits,
            only,
        } = self;
        write!(
            f,
            "{writers} writers × {counts} counts, {faults} faults, {silences} silences, {limits} limits"
        )?;
        only.map_or(Ok(()), |fault| write!(f, ", only {fault:?}"))
    }
}

/// An event that may happen next. Numbers stand for writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Count(usize),
    Push(usize),
    /// The request is delayed: it may arrive at any time, or never.
    PushIsLate(usize),
    PushReplyIsLost(usize),
    /// The request arrives and is answered, and a copy of it is still on the way.
    PushIsRepeated(usize),
    Leave(usize),
    LeaveReplyIsLost(usize),
    /// A delayed packet arrives; its answer gets lost.
    Arrive(usize),
    ExporterDies(usize),
    /// The replica catches up with the primary.
    Replicate,
    Restart,
    Failover,
    LoseAll,
    /// All writers that the registry waits for are back, or its healing time is over.
    HealingTimePasses,
    LeaseTimePasses,
    /// The registry reaches a limit: it leaves out new series from now on.
    LimitIsReached,
    LimitIsLifted,
    /// Enough time passes that writers try again what was left out.
    SecondPasses,
    Scrape,
}

impl Action {
    /// Returns the kind of fault that it is, if it is one.
    pub(super) fn fault(self) -> Option<Fault> {
        match self {
            Self::PushIsLate(_)
            | Self::PushReplyIsLost(_)
            | Self::PushIsRepeated(_)
            | Self::LeaveReplyIsLost(_) => Some(Fault::Network),
            Self::ExporterDies(_) => Some(Fault::Death),
            Self::Restart => Some(Fault::Restart),
            Self::Failover => Some(Fault::Failover),
            Self::LoseAll => Some(Fault::Loss),
            Self::Count(_)
            | Self::Push(_)
            | Self::Leave(_)
            | Self::Arrive(_)
            | Self::Replicate
            | Self::HealingTimePasses
            | Self::LeaseTimePasses
            | Self::LimitIsReached
            | Self::LimitIsLifted
            | Self::SecondPasses
            | Self::Scrape => None,
        }
    }
}
