//! Puts a load on any WebSocket server and reports rates and latencies. Every byte that comes
//! back is compared; a wrong one, an unexpected close or a refused connection ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser};
use ringwire_bench::dialect::Dialect;
use ringwire_bench::fleet::{Fleet, Workers};
use ringwire_bench::idle::IdleCost;
use ringwire_bench::mix::Mix;
use ringwire_bench::pid::Pid;
use ringwire_bench::progress::Progress;
use ringwire_bench::report::{Report, ServerUse};
use ringwire_bench::work::Work;
use ringwire_bench::{plot, worker};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A load for any WebSocket server. Without --rate, --broadcast, --churn or --idle it echoes in a
/// closed loop: each answer is followed by the next message
#[derive(Parser)]
struct Options {
    /// Where the server listens, ADDR:PORT
    #[arg(required_unless_present = "worker")]
    addr: Option<SocketAddr>,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    way: Way,
    /// Seconds to run
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds to run before, which are not counted
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// CPUs of the workers, one process with one thread on each; one worker anywhere without it
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    cpus: Vec<usize>,
    /// Processes of the server, whose CPU time and memory are told
    #[arg(long, value_delimiter = ',')]
    pid: Vec<Pid>,
    /// What the server speaks; `raw` is a TCP echo
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
    /// Write the report as JSON; `-` is standard output, and then there is no table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a plot of latency by percentile
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Be a worker, which is told what to do on standard input (the program starts itself so)
    #[arg(long, hide = true)]
    worker: bool,
}

/// How much of it.
#[derive(Args)]
struct Shape {
    /// Connections; with --churn at a time
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Messages in flight on each connection; with --broadcast publishes in flight
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Payload of a message, in bytes
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Payloads of different sizes with their weights, in an order that is always the same
    #[arg(long, value_name = "BYTES:WEIGHT,…", conflicts_with = "payload")]
    mix: Option<Mix>,
}

/// What is done to the server.
#[derive(Args)]
#[group(multiple = false)]
struct Way {
    /// Echo in an open loop: message n is due at n / rate, and latency counts from then
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// One connection publishes, and every connection must receive
    #[arg(long)]
    broadcast: bool,
    /// Connect, upgrade, echo once, reset, and again
    #[arg(long)]
    churn: bool,
    /// Open the connections, echo once on each, and tell the memory they cost after --seconds
    #[arg(long, requires = "pid")]
    idle: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match if options.worker { work(&options) } else { load(&options) } {
        Ok(()) => ExitCode::SUCCESS,
        // The coordinator tells what a worker has told it.
        Err(_) if options.worker => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(options: &Options) -> Result<(), String> {
    if let Some(&cpu) = options.cpus.first() {
        ringwire::driver::pin_to(cpu).map_err(|error| format!("CPU {cpu}: {error}"))?;
    }
    worker::serve()
}

fn load(options: &Options) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mix = options.shape.mix.clone().unwrap_or_else(|| Mix::uniform(options.shape.payload));
    let fleet = Fleet {
        program: &program,
        cpus: &options.cpus,
        addrs: &[options.addr.expect("required by clap")],
        dialect: options.dialect,
        mix: mix.clone(),
    };
    let connections = options.shape.connections;
    let mut workers = fleet.start(connections)?;
    if options.way.idle {
        let rest = Duration::from_secs_f64(options.seconds);
        let cost = IdleCost::measure(&mut workers, &options.pid, connections, rest)?;
        return tell(options, &cost.to_table(), &cost.to_json());
    }
    let report = options.run(&mut workers, &mix)?;
    if let Some(path) = &options.svg {
        let svg = plot::percentiles(&report.title, &report.tally.latency)?;
        std::fs::write(path, svg).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    tell(options, &report.to_table(), &report.to_json())
}

impl Options {
    fn run(&self, workers: &mut Workers, mix: &Mix) -> Result<Report, String> {
        let work = self.work();
        let connections = self.shape.connections;
        workers.connect(if self.way.churn { 0 } else { connections }, false)?;
        if self.warm_up > 0.0 {
            workers.run(work, self.warm_up)?;
        }
        let cpu_before = self.cpu_seconds()?;
        let progress = Progress::start(self.seconds);
        let tally = workers.run(work, self.seconds)?;
        progress.end();
        let server = match &self.pid[..] {
            [] => None,
            pids => Some(ServerUse {
                cpu_seconds: self.cpu_seconds()? - cpu_before,
                resident_bytes: pids
                    .iter()
                    .map(|pid| pid.resident_bytes())
                    .sum::<Result<_, _>>()?,
            }),
        };
        let title =
            format!("{}, {mix} × {connections} connections, {} s", self.name(), self.seconds);
        let (seconds, payload_bytes) = (self.seconds, mix.mean_bytes());
        Ok(Report { title, work, seconds, payload_bytes, tally, server })
    }

    fn work(&self) -> Work {
        let in_flight = self.shape.in_flight;
        match self.way {
            Way { rate: Some(per_second), .. } => Work::Rate { per_second, workers: 1, worker: 0 },
            Way { broadcast: true, .. } => Work::Broadcast { in_flight },
            Way { churn: true, .. } => Work::Churn { at_once: self.shape.connections },
            _ => Work::Echo { in_flight },
        }
    }

    fn name(&self) -> String {
        match self.work() {
            Work::Echo { in_flight } => format!("echo, {in_flight} in flight"),
            Work::Rate { per_second, .. } => format!("echo, {per_second}/s"),
            Work::Broadcast { in_flight } => format!("broadcast, {in_flight} in flight"),
            Work::Churn { .. } => "churn".to_owned(),
        }
    }

    fn cpu_seconds(&self) -> Result<f64, String> {
        self.pid.iter().map(|pid| pid.cpu_time().map(|time| time.as_secs_f64())).sum()
    }
}

fn tell(options: &Options, table: &str, json: &serde_json::Value) -> Result<(), String> {
    match &options.json {
        Some(path) if path.as_os_str() == "-" => println!("{json:#}"),
        Some(path) => {
            let written = std::fs::write(path, format!("{json:#}\n"));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            println!("{table}");
        }
        None => println!("{table}"),
    }
    Ok(())
}
