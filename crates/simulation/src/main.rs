//! Runs simulations by hand: `simulate --seeds 10000`, or one of them again with `simulate --seed 17`.

use std::process::ExitCode;

use clap::Parser;
use millpond_simulation::{Mutation, Options, Summary, simulate_all};

/// More failures are not told.
const FAILURES_MAX: usize = 10;

/// Simulates nodes that crash, and says what they lose.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone; all that happens, and every call that changes the disk, goes to the standard error.
    #[arg(long)]
    seed: Option<u64>,
    /// What happens in one simulation, at most.
    #[arg(long, default_value_t = Options::default().actions)]
    actions: usize,
    /// So many at a time; as many as there are cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// A mistake to put in, to see that it is noticed.
    #[arg(long, value_parser = mutation)]
    mutation: Option<Mutation>,
}

fn mutation(name: &str) -> Result<Mutation, String> {
    let known = || Mutation::ALL.map(|(known, _)| known).join(", ");
    let found = Mutation::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, mutation)| *mutation).ok_or_else(|| format!("there are {}", known()))
}

#[allow(clippy::print_stdout)] // What it was asked for.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let trace = arguments.seed.is_some();
    let options = Options { actions: arguments.actions, mutation: arguments.mutation, trace };
    let seeds = match arguments.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => arguments.from..arguments.from.saturating_add(arguments.seeds),
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or_else(cores);
    let (summary, failures) = simulate_all(seeds.clone(), options, threads, FAILURES_MAX);
    let Summary {
        batches,
        acknowledged,
        markers,
        commits,
        crashes,
        compacted,
        turns,
        results,
        backups,
        trace: (calls, _),
    } = summary;
    println!(
        "seeds {} to {}: {batches} batches appended, {acknowledged} acknowledged as durable, {commits} offsets committed, \
         {markers} markers of transactions, {crashes} crashes, {compacted} records compacted, {turns} turns of queries, {results} results read, {backups} backups restored, {calls} calls to the disk, {} failures",
        seeds.start,
        seeds.end - 1,
        failures.len()
    );
    for failure in &failures {
        println!("\n{failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
