//! Puts an echo load on any WebSocket server and reports messages per second. Closed loop,
//! one thread, every byte compared.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use ringwire_bench::load::{Clients, Dialect, Load, Shape};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A closed-loop echo load.
#[derive(Parser)]
struct Options {
    /// Where the server listens, `ADDR:PORT`.
    addr: SocketAddr,
    #[command(flatten)]
    shape: Shape,
    /// Seconds to run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Core to run on; not pinned without it.
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> Result<(), String> {
    let options = Options::parse();
    if let Some(cpu) = options.cpu {
        ringwire::driver::pin_to(cpu).map_err(|error| error.to_string())?;
    }
    let mut clients = Clients::connect(&Load {
        addr: options.addr,
        dialect: Dialect::WebSocket,
        shape: options.shape,
    })?;
    let (messages, seconds) = clients.run(Duration::from_secs_f64(options.seconds));
    println!("{messages} messages in {seconds:.1} s: {:.0} messages/s", messages as f64 / seconds);
    Ok(())
}
