//! Runs the simulator over as many seeds as one likes.
//! A seed that breaks a rule is named with the command that replays it; exit code 1.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use ringwire::sim::{Outcome, run_seed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The engine through every fault a kernel can produce.
#[derive(Parser)]
struct Options {
    /// Number of seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    /// Stop at the first violation.
    #[arg(long)]
    first: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .max(1);
    let start = Instant::now();
    let next = AtomicU64::new(options.from);
    let violations = AtomicU64::new(0);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| run(&options, &next, &violations))).collect();
        running.into_iter().map(|thread| thread.join().expect("violations are caught")).collect()
    });
    let mut sum = Outcome::default();
    outcomes.iter().for_each(|outcome| sum.add(outcome));
    let violations = violations.into_inner();
    println!(
        "{} steps, {} connections, {} messages heard, {} delivered, {} requests answered, \
         {} commands, {} timers, {} faults",
        sum.steps,
        sum.opens,
        sum.heard,
        sum.delivered,
        sum.answered,
        sum.obeyed,
        sum.fired,
        sum.faults
    );
    let seeds = next.into_inner().min(options.from + options.seeds) - options.from;
    let per_second = seeds as f64 / start.elapsed().as_secs_f64();
    println!("seeds {seeds} violations {violations} ({per_second:.0} seeds/s)");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(options: &Options, next: &AtomicU64, violations: &AtomicU64) -> Outcome {
    let mut sum = Outcome::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let stop = options.first && violations.load(Ordering::Relaxed) > 0;
        if seed >= options.from + options.seeds || stop {
            return sum;
        }
        match std::panic::catch_unwind(|| run_seed(seed)) {
            Ok(outcome) => sum.add(&outcome),
            Err(_) => {
                violations.fetch_add(1, Ordering::Relaxed);
                eprintln!(
                    "seed {seed} breaks a rule (above); replay it with\n  \
                     cargo run --release --bin ringwire-sim -- --seeds 1 --from {seed}"
                );
            }
        }
    }
}
