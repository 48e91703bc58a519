//! The life of an example as a process: start, say where it listens, end on a signal. It decides
//! exit statuses and never touches a connection.

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ringwire::{Handle, Handler, ListenAddr, Running, Server, ShardStart};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::Signals,
};

use crate::Options;

/// Exit status of a process that a second signal ended before it had drained.
const STATUS_NOT_DRAINED: i32 = 1;

/// A signal so soon after the first is the same wish: one Ctrl-C reaches the process from the
/// terminal, and again from a runner that forwards it.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT, with one handler per shard made by `handler`.
///
/// Prints one line per address on standard output once connections are accepted; the log goes to
/// standard error. The first signal drains (clients get a Close frame) and the process then
/// succeeds; another one, a second later or more, ends it at once, with status 1.
pub fn serve<H: Handler>(
    options: &Options,
    handler: impl Fn(ShardStart<H::Command>) -> H + Send + Sync + 'static,
) -> ExitCode {
    serve_then(options, handler, |_addresses| {})
}

/// [`serve`], and calls `started` with what is listened on once connections are accepted.
pub fn serve_then<H: Handler>(
    options: &Options,
    handler: impl Fn(ShardStart<H::Command>) -> H + Send + Sync + 'static,
    started: impl FnOnce(&[ListenAddr]),
) -> ExitCode {
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(is_terminal).init();
    match run(options, handler, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run<H: Handler>(
    options: &Options,
    handler: impl Fn(ShardStart<H::Command>) -> H + Send + Sync + 'static,
    started: impl FnOnce(&[ListenAddr]),
) -> Result<(), Box<dyn Error>> {
    let mut server = Server::builder()
        .unix_mode(options.unix_mode)
        .pin(options.pin.clone())
        .driver(options.driver)
        .config(options.config());
    for address in &options.listen {
        server = server.listen(address);
    }
    if let Some(shards) = options.shards {
        server = server.shards(shards.get());
    }
    let running = server.start(handler)?;
    stop_on_signal(running.handle())?;
    announce(&running);
    started(running.local_addrs());
    running.join()?;
    Ok(())
}

/// One line per address for people and scripts alike. Nobody needs to listen: a closed standard
/// output is no reason not to serve.
fn announce<C>(running: &Running<C>) {
    let (shards, driver) = (running.shards(), running.driver());
    let mut out = io::stdout().lock();
    for address in running.local_addrs() {
        // `unix:PATH` as WebSocket clients have it: `ws+unix:PATH`.
        let scheme = if address.tcp().is_some() { "ws://" } else { "ws+" };
        let _ = writeln!(out, "listening on {scheme}{address} ({shards} shards, {driver})");
    }
    let _ = out.flush();
}

fn stop_on_signal<C: Send + 'static>(handle: Handle<C>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let ends_at_once = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In the signal handler, so that it ends a process that hangs, too.
        flag::register_conditional_shutdown(signal, STATUS_NOT_DRAINED, Arc::clone(&ends_at_once))?;
    }
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tracing::info!(signal, "draining");
            handle.stop();
            thread::sleep(SAME_SIGNAL);
            ends_at_once.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(())
}
