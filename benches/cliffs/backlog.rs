//! Subscribers that never read: what they take must be what the limits say, and be given back when
//! they have gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringwire_bench::client::{Client, Heard};
use ringwire_bench::process::{Process, sibling};

use crate::crowd::Crowd;
use crate::figure::Figure;
use crate::server::{PATIENCE, ServerOptions};

const SUBSCRIBERS: usize = 300;
const WRITE_BYTES_MAX: usize = 1 << 20;
const MESSAGE_BYTES: usize = 1 << 10;
const MESSAGES_PER_SECOND: u64 = 200;
const MIB: f64 = (1 << 20) as f64;
/// A little more than the limit of all of them together.
const HEIGHT_MIB_MAX: f64 = 1.15 * (SUBSCRIBERS * WRITE_BYTES_MAX) as f64 / MIB;
const LEFT_MIB_MAX: f64 = 32.0;
/// How long after the last has gone.
const REST: Duration = Duration::from_secs(10);
const FLOODERS: usize = 64;

pub(crate) fn measure() -> Result<Vec<Figure>, String> {
    let examples = sibling("broadcast")?;
    let limit = WRITE_BYTES_MAX.to_string();
    let words = ["--listen", "127.0.0.1:0", "--shards", "1", "--max-backpressure", &limit];
    let example = || Process::start(&examples, &words, None);
    let own = || {
        let write_bytes_max = Some(WRITE_BYTES_MAX);
        ServerOptions { write_bytes_max, ..ServerOptions::default() }.start()
    };
    let mut figures = Vec::new();
    let (height, left) = backlog(example()?, false)?;
    figures.push(Figure::bytes("height of 300 MiB, mimalloc", height).at_most(HEIGHT_MIB_MAX));
    figures.push(Figure::bytes("ten seconds after, mimalloc", left).at_most(LEFT_MIB_MAX));
    let (height, left) = backlog(own()?, true)?;
    figures.push(Figure::bytes("height of 300 MiB, glibc", height));
    figures.push(Figure::bytes("ten seconds after, glibc", left));
    let left = flood(&sibling("echo")?)?;
    figures.push(Figure::bytes("ten seconds after a flood, mimalloc", left).at_most(LEFT_MIB_MAX));
    Ok(figures)
}

/// What the server takes more than before at the height, and some time after.
fn backlog(server: Process, must_subscribe: bool) -> Result<(u64, u64), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut publisher = Client::connect(server.addr, PATIENCE).map_err(text)?;
    let descriptors = server.descriptors();
    let topics = if must_subscribe { "0" } else { "" };
    if must_subscribe {
        publisher.send(b"forward 0").map_err(text)?;
        publisher.hear().map_err(text)?;
    }
    server.pid().forget_height()?;
    let before = server.pid().resident_bytes()?;
    let crowd = Crowd::open(server.addr, SUBSCRIBERS, topics)?;
    // The example publishes to the publisher, too.
    let mut own = publisher.try_clone().map_err(text)?;
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let reader = std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) && matches!(own.hear(), Ok(Heard::Message(_))) {}
    });
    let began = Instant::now();
    for number in 0.. {
        if server.descriptors() <= descriptors {
            break;
        }
        if began.elapsed() > 2 * PATIENCE {
            return Err("the subscribers are still there".to_owned());
        }
        publisher.send(&[0x5A; MESSAGE_BYTES]).map_err(text)?;
        let due = began + Duration::from_secs(1) * number / MESSAGES_PER_SECOND as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    over.store(true, Ordering::Relaxed);
    let height = server.pid().resident_bytes_height()?.saturating_sub(before);
    std::thread::sleep(REST);
    let left = server.pid().resident_bytes()?.saturating_sub(before);
    drop(crowd);
    drop(publisher);
    server.stop()?;
    let _ = reader.join();
    Ok((height, left))
}

/// What the server takes more than before, some time after clients have sent at once and more than
/// its receive buffers hold.
fn flood(echo: &std::path::Path) -> Result<u64, String> {
    let words = ["--listen", "127.0.0.1:0", "--shards", "1"];
    let server = Process::start(echo, &words, None)?;
    let addr = server.addr;
    let before = server.pid().resident_bytes()?;
    let flooders = (0..FLOODERS).map(|_| {
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut client = Client::connect(addr, PATIENCE)?;
            let payload = vec![0x5A; 900_000];
            for _ in 0..4 {
                client.send(&payload)?;
                client.hear()?;
            }
            Ok(())
        })
    });
    for flooder in flooders.collect::<Vec<_>>() {
        let flooded = flooder.join().map_err(|_| "a flooder has panicked".to_owned())?;
        flooded.map_err(|error| error.to_string())?;
    }
    std::thread::sleep(REST);
    let left = server.pid().resident_bytes()?.saturating_sub(before);
    server.stop()?;
    Ok(left)
}
