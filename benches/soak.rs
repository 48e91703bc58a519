//! Runs a server for a long time under everything at once: echoes of all sizes, publishes
//! across shards, churn, peers that do not read, floods, and now and then a stop and a
//! restart. Says over time what memory and descriptors are, what came so far and the longest
//! that a publish took since the line before; ends with what was sent, received and lost;
//! exit code 1 if anything was lost without cause or memory kept growing.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use ringwire::{
    Config, Conn, Context, DriverChoice, Handler, Message, Offer, Pin, Request, Server, Upgrade,
};
use ringwire_bench::process::Process;
use ringwire_bench::soak::{Soak, Tally};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Everything at once, for long.
#[derive(Parser)]
struct Options {
    /// Seconds to run.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds between two restarts of the server; 0 disables them.
    #[arg(long, default_value_t = 20)]
    restart_every: u64,
    /// What the server runs on: io_uring, epoll, or `auto` (io_uring where it works, else epoll).
    #[arg(long, value_name = "auto|io_uring|epoll", default_value_t, env = "RINGWIRE_DRIVER")]
    driver: DriverChoice,
    /// Be the server instead, on this address (the soak starts itself so).
    #[arg(long, hide = true)]
    serve: Option<String>,
}

/// Echoes, subscribes or publishes, as the first byte says.
struct SoakHandler;

impl Handler for SoakHandler {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        match message.payload().first() {
            Some(b's') => {
                conn.subscribe("soak").unwrap();
            }
            Some(b'p') => conn.publish_all("soak", message),
            _ => {
                conn.send(message);
            }
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.serve {
        Some(address) => serve(address, options.driver),
        None => soak(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(address: &str, driver: DriverChoice) -> Result<(), String> {
    let config = Config::new().drain_timeout_ms(2_000);
    let server = Server::builder().listen(address).shards(2).pin(Pin::Auto).driver(driver);
    let running = server.config(config).start(|_| SoakHandler);
    let running = running.map_err(|error| error.to_string())?;
    println!("listening on ws://{} (2 shards, {})", running.local_addr(), running.driver());
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    let handle = running.handle();
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM])
        .map_err(|error| error.to_string())?;
    std::thread::spawn(move || signals.forever().for_each(|_| handle.stop()));
    running.join().map_err(|error| error.to_string())
}

fn start_server(address: &str, driver: DriverChoice) -> Result<Process, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Process::start_anywhere(&own, &["--serve", address, "--driver", &driver.to_string()])
}

fn soak(options: &Options) -> Result<(), String> {
    let mut server = start_server("127.0.0.1:0", options.driver)?;
    let soak = Arc::new(Soak::new(server.addr));
    let workers = start_workers(&soak);
    let start = Instant::now();
    let mut samples = Vec::new();
    println!(
        "{:>8} {:>10} {:>12} {:>10} {:>10} {:>14}",
        "seconds", "RSS KiB", "descriptors", "echoes", "publishes", "delay max, ms"
    );
    let every = Duration::from_secs(options.restart_every);
    let mut restarted = Instant::now();
    while start.elapsed() < Duration::from_secs(options.seconds) {
        std::thread::sleep(Duration::from_secs(1));
        let sample = (server.pid().resident_bytes()? >> 10, server.descriptors());
        let seconds = start.elapsed().as_secs();
        if seconds.is_multiple_of((options.seconds / 20).max(1)) {
            println!(
                "{seconds:>8} {:>10} {:>12} {:>10} {:>10} {:>14}",
                sample.0,
                sample.1,
                soak.tally.echoes_received.load(Ordering::Relaxed),
                soak.tally.publishes_received.load(Ordering::Relaxed),
                soak.take_delay_max().as_millis(),
            );
        }
        samples.push(sample);
        if options.restart_every > 0 && restarted.elapsed() >= every {
            server = restart(server, &soak, options.driver)?;
            restarted = Instant::now();
        }
    }
    soak.over.store(true, Ordering::SeqCst);
    // Workers that wait for a message end with the server.
    server.stop()?;
    workers.into_iter().for_each(|worker| worker.join().expect("a worker does not panic"));
    report(&soak.tally, &samples)
}

/// Stops the server as an operator would, and starts it on the same port.
fn restart(server: Process, soak: &Soak, driver: DriverChoice) -> Result<Process, String> {
    soak.restarts.fetch_add(1, Ordering::SeqCst);
    let addr = server.addr.to_string();
    server.stop()?;
    let server = start_server(&addr, driver)?;
    soak.restarts.fetch_add(1, Ordering::SeqCst);
    Ok(server)
}

fn start_workers(soak: &Arc<Soak>) -> Vec<std::thread::JoinHandle<()>> {
    type Work = fn(&Soak, fastrand::Rng, u8);
    let roles: [(usize, Work); 6] = [
        (8, |soak, random, _| soak.echo(random)),
        (3, |soak, random, number| soak.publish(number, random)),
        (12, |soak, _, _| soak.subscribe()),
        (4, |soak, random, _| soak.churn(random)),
        (2, |soak, _, _| soak.read_slowly()),
        (3, |soak, random, _| soak.flood(random)),
    ];
    let mut workers = Vec::new();
    for (count, work) in roles {
        for _ in 0..count {
            let (soak, number) = (Arc::clone(soak), workers.len() as u8);
            let random = fastrand::Rng::with_seed(u64::from(number));
            workers.push(std::thread::spawn(move || work(&soak, random, number)));
        }
    }
    workers
}

fn report(tally: &Tally, samples: &[(u64, usize)]) -> Result<(), String> {
    for (name, count) in tally.lines() {
        println!("{name:>22} {count}");
    }
    let faults = tally.faults();
    if !faults.is_empty() {
        return Err(format!("without cause: {faults:?}"));
    }
    // The middle third against the last: what grows without end has grown by then.
    let third = samples.len() / 3;
    let highest = |range: &[(u64, usize)]| range.iter().map(|sample| sample.0).max().unwrap_or(0);
    let (middle, last) = (highest(&samples[third..2 * third]), highest(&samples[2 * third..]));
    println!("highest RSS: {middle} KiB in the middle third, {last} KiB in the last");
    if last > middle + middle / 4 + 4_096 {
        return Err("memory keeps growing".to_owned());
    }
    Ok(())
}
