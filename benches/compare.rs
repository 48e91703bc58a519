//! Compares the echo example with the raw TCP floor: both pinned to one core, the clients on
//! another, in turn A B A B…, and reports the ratio pair by pair. Losses are printed like
//! wins, and `--at-least` turns a ratio into an exit code.

use std::time::Duration;

use clap::Parser;
use ringwire_bench::load::{Clients, Dialect, Load, Shape};
use ringwire_bench::process::{Process, sibling};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Echo throughput against the floor, side by side in one run.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    shape: Shape,
    /// Rounds; each measures both servers.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Core of the servers.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// Core of the clients.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Fail if the median ratio is below this.
    #[arg(long)]
    at_least: Option<f64>,
}

/// A server with its clients, and what was measured of it.
struct Contender {
    name: &'static str,
    process: Process,
    clients: Clients,
    messages_per_second: Vec<f64>,
    cpu_micros_per_message: Vec<f64>,
}

fn main() -> Result<(), String> {
    let options = Options::parse();
    ringwire::driver::pin_to(options.client_cpu).map_err(|error| error.to_string())?;
    let mut contenders = [
        contender(&options, "ringwire", "echo", &["--shards", "1"], Dialect::WebSocket)?,
        contender(&options, "floor", "floor", &[], Dialect::Raw)?,
    ];
    for contender in &mut contenders {
        contender.clients.run(Duration::from_millis(500));
    }
    for _ in 0..options.rounds {
        for contender in &mut contenders {
            contender.measure(Duration::from_secs_f64(options.seconds));
        }
    }
    let [ringwire, floor] = &contenders;
    println!(
        "echo {} B x {} connections, {} in flight, {} rounds of {} s",
        options.shape.payload_bytes,
        options.shape.connections,
        options.shape.in_flight,
        options.rounds,
        options.seconds
    );
    contenders.iter().for_each(Contender::report);
    let pairs = ringwire.messages_per_second.iter().zip(&floor.messages_per_second);
    let mut ratios: Vec<f64> = pairs.map(|(ringwire, floor)| ringwire / floor).collect();
    let ratio = median(&mut ratios);
    let (lowest, highest) = (ratios[0], ratios[ratios.len() - 1]);
    println!("ratio to the floor: median {ratio:.3}, from {lowest:.3} to {highest:.3}");
    match options.at_least {
        Some(at_least) if ratio < at_least => Err(format!("below {at_least}")),
        _ => Ok(()),
    }
}

fn contender(
    options: &Options,
    name: &'static str,
    program: &str,
    arguments: &[&str],
    dialect: Dialect,
) -> Result<Contender, String> {
    let arguments = [&["--listen", "127.0.0.1:0"], arguments].concat();
    let process = Process::start(options.server_cpu, &sibling(program)?, &arguments)?;
    let clients = Clients::connect(&Load { addr: process.addr, dialect, shape: options.shape })?;
    let (messages_per_second, cpu_micros_per_message) = (Vec::new(), Vec::new());
    Ok(Contender { name, process, clients, messages_per_second, cpu_micros_per_message })
}

impl Contender {
    fn measure(&mut self, time: Duration) {
        let cpu_before = self.process.cpu_seconds();
        let (messages, seconds) = self.clients.run(time);
        let cpu_seconds = self.process.cpu_seconds() - cpu_before;
        self.messages_per_second.push(messages as f64 / seconds);
        self.cpu_micros_per_message.push(cpu_seconds * 1e6 / messages as f64);
    }

    fn report(&self) {
        let rate = median(&mut self.messages_per_second.clone());
        let cpu = median(&mut self.cpu_micros_per_message.clone());
        println!("{:>10}: {rate:>10.0} messages/s, {cpu:.2} us CPU per message", self.name);
    }
}

/// Sorts, and takes the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
