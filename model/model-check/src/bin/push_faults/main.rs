//! Draws faults at random and applies them to a real primary and a real replica. The faults are
//! connections cut after any byte of a request or a reply, requests that arrive again later, deaths
//! of exporters, reloads, failovers to an older replica, and losses of all data. Once all writers
//! are back, the totals must be exact. Otherwise the program prints the schedule and ends with 1.
//!
//! `push_faults --servers 7001 7002 --schedules 1000`: ports on 127.0.0.1 of two servers with the
//! module and a healing time longer than the run (`tests/test_faults_push.py` starts them).

mod schedule;
mod servers;
mod writer;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use schedule::Schedule;
use servers::Servers;

/// Random faults against a real primary and replica.
#[derive(Debug, Parser)]
struct Arguments {
    /// The ports of the two servers.
    #[arg(long, num_args = 2)]
    servers: Vec<u16>,
    /// Number of schedules.
    #[arg(long, default_value_t = 100)]
    schedules: u64,
    /// Number of steps of each schedule.
    #[arg(long, default_value_t = 40)]
    steps: usize,
    /// Seed of the first schedule; each further one adds 1.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[expect(clippy::print_stdout, reason = "the report of a command line program")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let began = Instant::now();
    let mut servers = match Servers::new(&arguments.servers) {
        Ok(servers) => servers,
        Err(error) => {
            println!("cannot prepare the servers: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut faults = 0;
    for number in 0..arguments.schedules {
        let seed = arguments.seed + number;
        let mut schedule = Schedule::new(&mut servers, seed);
        match schedule.run(arguments.steps) {
            Ok(count) => faults += count,
            Err(error) => {
                println!("schedule {seed}: {error}");
                for step in schedule.history() {
                    println!("  {step}");
                }
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} schedules, {faults} faults, totals exact, {:.0} s",
        arguments.schedules,
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}
