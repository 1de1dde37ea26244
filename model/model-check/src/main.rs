//! Explores every order of events that the push protocol may meet, up to a bound.
//!
//! The real registry and the real session run in each state. Only the network, the clock and the
//! servers' lives are imitated ([`world`]). The properties are what a user would see. Pages, as a
//! Prometheus reads them, never show more than was counted, and never fall without a new start
//! time. Once no event is outstanding, the total is exact.
//!
//! `cargo run --release -p metrics-model-check -- --writers 2 --faults 2` prints the number of
//! states. If a state breaks a property, it also prints the shortest way there, and ends with 1.

mod world;
mod writer;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use stateright::{Checker, Model, Property};
use world::{Action, Bounds, Fault, World};

/// Explores every order of events that the push protocol may meet, up to a bound.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Number of writers.
    #[arg(long, default_value_t = 2)]
    writers: usize,
    /// How many times each writer counts something.
    #[arg(long, default_value_t = 2)]
    counts: u8,
    /// Number of faults of any kind: a request or a reply lost, a copy that arrives late, the death
    /// of an exporter, a restart with data, a failover to an older replica, the loss of all data.
    #[arg(long, default_value_t = 2)]
    faults: u8,
    /// How many times a lease passes without a request.
    #[arg(long, default_value_t = 1)]
    silences: u8,
    /// How many times the registry reaches a limit and leaves out new series, until the limit is
    /// lifted.
    #[arg(long, default_value_t = 1)]
    limits: u8,
    /// The only kind of fault that may happen.
    #[arg(long)]
    only: Option<Fault>,
    /// Longest sequence of events; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    depth: usize,
    /// Number of threads that search.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

struct Protocol(Bounds);

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.take(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no page shows more than was counted", |_, world: &World| {
                world.increase_is_true()
            }),
            Property::always(
                "a page falls only with a new start time",
                |_, world: &World| !world.has_dipped(),
            ),
            Property::always("at rest the total is exact", |_, world: &World| {
                !world.is_at_rest() || world.is_exact()
            }),
            Property::always(
                "a writer that has not left is not answered as gone",
                |_, world: &World| !world.was_told_gone(),
            ),
            Property::sometimes(
                "something comes to rest after every fault",
                |_, world: &World| world.has_no_faults_left() && world.is_at_rest(),
            ),
        ]
    }
}

#[expect(clippy::print_stdout, reason = "the report of a command line program")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bounds = Bounds {
        writers: arguments.writers,
        counts: arguments.counts,
        faults: arguments.faults,
        silences: arguments.silences,
        limits: arguments.limits,
        only: arguments.only,
    };
    let began = Instant::now();
    let checker = Protocol(bounds).checker().threads(arguments.threads);
    let checker = match arguments.depth {
        0 => checker,
        depth => checker.target_max_depth(depth),
    };
    let checker = checker.spawn_bfs().join();
    println!(
        "{bounds}: {} states, {} of them different, longest run {}, {:.0} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64(),
    );
    let mut broken = false;
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        match (property.expectation, found) {
            (stateright::Expectation::Always, Some(path)) => {
                broken = true;
                println!("BROKEN: {}\n", property.name);
                for (number, action) in path.clone().into_actions().iter().enumerate() {
                    println!("  {:2}. {action:?}", number + 1);
                }
                println!("\n  {}", path.last_state().summary());
            }
            (stateright::Expectation::Sometimes, None) => {
                broken = true;
                println!("NEVER: {}", property.name);
            }
            _ => println!("holds: {}", property.name),
        }
    }
    if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
