//! Crowds that are opened and never answer again. What their end costs must grow with their
//! number, not with its square, and others must be served meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringwire_bench::client::{Client, Heard};
use ringwire_bench::process::Process;

use crate::crowd::Crowd;
use crate::figure::{Figure, median};
use crate::server::{Control, PATIENCE, ServerOptions};

const FEW: usize = 4_000;
const MANY: usize = 16_000;
/// Four times as many may cost a little more than four times as much.
const RATIO_MAX: f64 = 5.0;
const ECHO_MS_MAX: f64 = 100.0;
/// Long enough for the crowd to be opened within it.
const IDLE_TIMEOUT_MS: u32 = 10_000;

pub(crate) fn measure(rounds: usize) -> Result<Vec<Figure>, String> {
    let mut costs = Vec::new();
    for _ in 0..rounds {
        costs.push((cost_of_stop(FEW)?, cost_of_stop(MANY)?));
    }
    let few = median(costs.iter().map(|(few, _)| *few).collect());
    let many = median(costs.iter().map(|(_, many)| *many).collect());
    let ratios = costs.iter().map(|(few, many)| many.as_secs_f64() / few.as_secs_f64());
    let mut figures = vec![
        Figure::time(format!("CPU from SIGTERM to the exit, {FEW} mute"), few),
        Figure::time(format!("CPU from SIGTERM to the exit, {MANY} mute"), many),
        Figure::new("the one ÷ the other", median(ratios.collect()), "").at_most(RATIO_MAX),
    ];
    let waits: Vec<_> = (0..rounds).map(|_| longest_echo()).collect::<Result<_, _>>()?;
    for wait in &waits {
        figures.push(Figure::time(format!("longest echo while {MANY} fall silent"), *wait));
    }
    figures.push(Figure::time("median of these", median(waits)).at_most(ECHO_MS_MAX));
    Ok(figures)
}

fn cost_of_stop(connections: usize) -> Result<Duration, String> {
    let server = ServerOptions::default().start()?;
    let _crowd = Crowd::open(server.addr, connections, "")?;
    server.stop_timed()
}

/// The longest echo of one connection while the crowd is closed for its silence, and cut off
/// because it does not answer that either.
fn longest_echo() -> Result<Duration, String> {
    let options = ServerOptions {
        idle_timeout_ms: Some(IDLE_TIMEOUT_MS),
        ping_interval_ms: Some(0),
        ..ServerOptions::default()
    };
    let server = options.start()?;
    let mut control = Control::open(&server)?;
    let mut crowd = Crowd::open(server.addr, MANY, "")?;
    // All of them are silent from about now on.
    crowd.speak()?;
    let opened = control.connections()?;
    if opened != MANY as u64 + 1 {
        return Err(format!("{opened} connections instead of {MANY} and one"));
    }
    let watch = Watch::start(&server)?;
    let began = Instant::now();
    while control.connections()? > 2 {
        if began.elapsed() > PATIENCE {
            return Err("the crowd is still there".to_owned());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    watch.end()
}

/// Echoes on a connection of its own, all the time.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Duration, String>>,
}

impl Watch {
    fn start(server: &Process) -> Result<Self, String> {
        let mut client =
            Client::connect(server.addr, PATIENCE).map_err(|error| error.to_string())?;
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let sent = Instant::now();
                client.send(b"still there?").map_err(|error| error.to_string())?;
                match client.hear() {
                    Ok(Heard::Message(_)) => longest = longest.max(sent.elapsed()),
                    heard => return Err(format!("an echo is {heard:?}")),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(longest)
        });
        Ok(Self { over, thread })
    }

    fn end(self) -> Result<Duration, String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watch has panicked".to_owned())?
    }
}
