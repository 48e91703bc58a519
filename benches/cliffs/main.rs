//! What a server does where servers fall off cliffs: crowds that fall silent, many rooms at once,
//! peers that do not read, bursts of the largest messages. Each figure stands beside what it must
//! be; exit code 1 if one is not.

mod backlog;
mod burst;
mod crowd;
mod cut_off;
mod figure;
mod overflows;
mod rooms;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::crowd::CrowdOptions;
use self::figure::Figure;
use self::server::ServerOptions;

// No allocator of its own: what is measured here is glibc's, and the examples have mimalloc.

/// Measures each cliff against what it must be. Servers run on the driver that RINGWIRE_DRIVER names:
/// auto, io_uring or epoll
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    cliff: Cliff,
    /// Rounds of what depends on the clock; the median counts
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Subcommand)]
enum Cliff {
    /// Crowds that never answer: CPU time of their end, and how long others wait meanwhile
    CutOff,
    /// Large messages to several topics in one tick: memory at the height
    Rooms,
    /// Publishes, pings and a stop with 15,000 connections: overflows of the completion queue
    Overflows,
    /// Subscribers that never read: memory at the height, and ten seconds after they have gone
    Backlog,
    /// Several of the largest messages at one moment to subscribers that read
    Burst,
    /// All of them
    All,
    #[command(hide = true)]
    Serve(ServerOptions),
    #[command(hide = true)]
    Crowd(CrowdOptions),
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every figure is what it must be.
fn run(options: &Options) -> Result<bool, String> {
    type Measure = fn(usize) -> Result<Vec<Figure>, String>;
    const CLIFFS: [(&str, Measure); 5] = [
        ("cut-off", cut_off::measure),
        ("rooms", |_| rooms::measure()),
        ("overflows", |_| overflows::measure()),
        ("backlog", |_| backlog::measure()),
        ("burst", burst::measure),
    ];
    let chosen = match &options.cliff {
        Cliff::Serve(server) => return server::serve(server).map(|()| true),
        Cliff::Crowd(crowd) => return crowd::serve(crowd).map(|()| true),
        Cliff::CutOff => &CLIFFS[..1],
        Cliff::Rooms => &CLIFFS[1..2],
        Cliff::Overflows => &CLIFFS[2..3],
        Cliff::Backlog => &CLIFFS[3..4],
        Cliff::Burst => &CLIFFS[4..],
        Cliff::All => &CLIFFS[..],
    };
    let mut is_met = true;
    for (name, measure) in chosen {
        for figure in measure(options.rounds)? {
            println!("{name:>9}  {figure}");
            is_met &= figure.is_met();
        }
    }
    Ok(is_met)
}
