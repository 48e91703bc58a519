//! Starting and ending a server: threads, listeners, rings, and what joins the shards.
//! Nothing here runs while connections are served.

use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder as ThreadBuilder, JoinHandle};

use crate::config::Config;
use crate::error::{SetupError, io_uring_disabled};
use crate::handle::Handle;
use crate::handler::Handler;
use crate::mailbox::Mailbox;
use crate::shard::{Links, Publication, Shard};
use crate::sys::{
    Listener, Peer, Publisher, Reader, UringDriver, Waker, allowed_cpus, broadcast_ring, pin_to,
    raise_locked_memory,
};

/// A WebSocket server: one shard per core, each a thread with its own listener, io_uring and
/// handler.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Describes a server; nothing happens before [`Builder::run`] or [`Builder::start`].
    pub fn builder() -> Builder {
        Builder { address: "127.0.0.1:9001".to_owned(), shards: None, config: Config::default() }
    }
}

/// What server to start.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is run or started"]
pub struct Builder {
    address: String,
    shards: Option<usize>,
    config: Config,
}

impl Builder {
    /// Where to listen, as `ADDR:PORT`; port 0 picks a free one. Default `127.0.0.1:9001`.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// How many shards, from 1 to 65,535. Default: one per CPU this process may run on, each
    /// pinned to its own; with more shards than CPUs none is pinned.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Every limit and deadline.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Starts the server and serves until [`Handle::stop`]; `make` makes the handler of each
    /// shard, on the shard's thread.
    ///
    /// # Errors
    ///
    /// Why it did not start, with the remedy; or [`SetupError::ShardPanicked`].
    pub fn run<H: Handler>(
        self,
        make: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<(), SetupError> {
        self.start(make)?.join()
    }

    /// Starts the server and returns once it accepts connections.
    ///
    /// # Errors
    ///
    /// Why it did not start, with the remedy.
    pub fn start<H: Handler>(
        self,
        make: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<Running, SetupError> {
        self.config.check()?;
        let cpus = allowed_cpus()
            .map_err(|source| SetupError::Machine { step: "sched_getaffinity", source })?;
        let shards = self.shards.unwrap_or(cpus.len());
        if !(1..=usize::from(u16::MAX)).contains(&shards) {
            return Err(SetupError::Config { rule: "shards must be between 1 and 65,535" });
        }
        raise_locked_memory();
        let address = resolve(&self.address)?;
        let bound = |source| SetupError::from_bind(address, source);
        let listeners = Listener::bind_group(address, shards).map_err(bound)?;
        let local_addr = listeners[0].local_addr().map_err(bound)?;
        let mailboxes = make_mailboxes(shards, self.config.command_entries)?;
        let links = join_shards(&mailboxes, &self.config);
        let plan = Plan {
            config: self.config,
            cpus: (shards <= cpus.len()).then_some(cpus),
            mailboxes: Arc::clone(&mailboxes),
            make,
        };
        let threads = spawn(plan, listeners, links)?;
        tracing::info!(%local_addr, shards, "serving");
        Ok(Running { local_addr, shards, handle: Handle::new(mailboxes), threads })
    }
}

/// A server that runs. Dropping it stops the server without waiting for it.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    shards: usize,
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// The address it listens on, with the port picked if that was 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Reaches the server from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the server has ended, after [`Handle::stop`].
    ///
    /// # Errors
    ///
    /// [`SetupError::ShardPanicked`]: a bug of the engine. The other shards were stopped.
    pub fn join(mut self) -> Result<(), SetupError> {
        let threads = std::mem::take(&mut self.threads).into_iter().enumerate();
        let panicked: Vec<usize> =
            threads.filter_map(|(shard, thread)| thread.join().is_err().then_some(shard)).collect();
        match panicked.first() {
            Some(&shard) => Err(SetupError::ShardPanicked { shard }),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.stop();
        }
    }
}

fn resolve(address: &str) -> Result<SocketAddr, SetupError> {
    let unresolved = |source| SetupError::Address { address: address.to_owned(), source };
    let mut addresses = address.to_socket_addrs().map_err(unresolved)?;
    addresses.next().ok_or_else(|| unresolved(std::io::Error::other("the name has no address")))
}

pub(crate) fn make_mailboxes(
    shards: usize,
    command_entries: usize,
) -> Result<Arc<[Mailbox]>, SetupError> {
    (0..shards)
        .map(|_| Ok(Mailbox::new(command_entries, Waker::new()?)))
        .collect::<Result<_, _>>()
        .map_err(|source| SetupError::Machine { step: "eventfd", source })
}

/// A ring from each shard to all others.
pub(crate) fn join_shards(mailboxes: &Arc<[Mailbox]>, config: &Config) -> Vec<Links> {
    type Ends = (Publisher<Publication>, Vec<Reader<Publication>>);
    let shards = mailboxes.len();
    // A lone shard publishes to nobody: its ring takes no memory to speak of.
    let entries = if shards == 1 { 1 } else { config.broadcast_entries };
    let bytes_max = config.broadcast_bytes_max;
    let mut ends: Vec<Ends> =
        (0..shards).map(|_| broadcast_ring(entries, bytes_max, shards - 1)).collect();
    let readers: Vec<Vec<_>> = (0..shards)
        .map(|shard| {
            let others = ends.iter_mut().enumerate().filter(|(other, _)| *other != shard);
            others.filter_map(|(_, (_, readers))| readers.pop()).collect()
        })
        .collect();
    let publishers = ends.into_iter().map(|(publisher, _)| publisher);
    let parts = publishers.zip(readers).enumerate();
    parts
        .map(|(shard, (publisher, readers))| Links {
            shard,
            mailboxes: Arc::clone(mailboxes),
            publisher,
            readers,
        })
        .collect()
}

/// What every shard's thread needs to know.
struct Plan<F> {
    config: Config,
    /// The CPU of each shard, if shards are pinned.
    cpus: Option<Vec<usize>>,
    mailboxes: Arc<[Mailbox]>,
    make: F,
}

/// What a shard's thread reports: a descriptor of its ring, or why it has none.
type Report = (usize, Result<OwnedFd, SetupError>);

/// Starts the threads and waits until each has its ring. Then tells all of them each
/// other's rings, which is the sign to serve; should one fail, the others hear nothing and
/// end.
fn spawn<H: Handler, F: Fn(usize) -> H + Send + Sync + 'static>(
    plan: Plan<F>,
    listeners: Vec<Listener>,
    links: Vec<Links>,
) -> Result<Vec<JoinHandle<()>>, SetupError> {
    let plan = Arc::new(plan);
    let (report, reports) = channel();
    let (mut threads, mut signs) = (Vec::new(), Vec::new());
    for (listener, links) in listeners.into_iter().zip(links) {
        let (sign, signed) = channel();
        let (plan, report) = (Arc::clone(&plan), report.clone());
        let thread = ThreadBuilder::new()
            .name(format!("ringwire-{}", links.shard))
            .spawn(move || serve(&plan, listener, links, report, &signed))
            .map_err(|source| SetupError::Machine { step: "starting a thread", source })?;
        threads.push(thread);
        signs.push(sign);
    }
    drop(report);
    let rings = collect_reports(&reports, threads.len())?;
    let wakers = plan.mailboxes.iter().map(Mailbox::waker);
    let peers: Vec<Peer> =
        rings.into_iter().zip(wakers).map(|(ring, waker)| Peer { ring, waker }).collect();
    for sign in &signs {
        // A thread that has ended meanwhile has panicked, which `join` will tell.
        let _ = sign.send(peers.clone());
    }
    Ok(threads)
}

fn collect_reports(
    reports: &Receiver<Report>,
    shards: usize,
) -> Result<Vec<Arc<OwnedFd>>, SetupError> {
    let mut rings: Vec<Option<Arc<OwnedFd>>> = vec![None; shards];
    // Each thread reports once and then has no sender any more: this ends, whatever they do.
    for (shard, ring) in reports {
        rings[shard] = Some(Arc::new(ring?));
    }
    let silent = rings.iter().position(Option::is_none);
    match silent {
        Some(shard) => Err(SetupError::ShardPanicked { shard }),
        None => Ok(rings.into_iter().flatten().collect()),
    }
}

/// A shard's thread, from its ring to its end.
fn serve<H: Handler, F: Fn(usize) -> H>(
    plan: &Plan<F>,
    listener: Listener,
    links: Links,
    report: Sender<Report>,
    signed: &Receiver<Vec<Peer>>,
) {
    let shard = links.shard;
    if let Some(cpus) = &plan.cpus
        && let Err(error) = pin_to(cpus[shard])
    {
        tracing::warn!(shard, %error, "not pinned to a CPU");
    }
    let (mut driver, ring) = match set_up_driver(&plan.config, listener) {
        Ok(set_up) => set_up,
        Err(error) => {
            let _ = report.send((shard, Err(error)));
            return;
        }
    };
    let _ = report.send((shard, Ok(ring)));
    drop(report);
    let Ok(peers) = signed.recv() else { return };
    driver.set_peers(peers);
    driver.poll_waker(plan.mailboxes[shard].waker());
    let stop_on_panic = StopOnPanic { mailboxes: &plan.mailboxes, shard };
    Shard::new(driver, (plan.make)(shard), &plan.config, links).run();
    drop(stop_on_panic);
}

fn set_up_driver(
    config: &Config,
    listener: Listener,
) -> Result<(UringDriver, OwnedFd), SetupError> {
    let driver = UringDriver::new(&config.ring(), Some(listener))
        .map_err(|error| SetupError::from_ring(error, io_uring_disabled()))?;
    let ring = driver
        .duplicate_ring_fd()
        .map_err(|source| SetupError::Machine { step: "duplicating the ring", source })?;
    Ok((driver, ring))
}

/// A shard that panics takes the server down in order instead of leaving it limping.
struct StopOnPanic<'a> {
    mailboxes: &'a [Mailbox],
    shard: usize,
}

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.mailboxes[self.shard].end();
            self.mailboxes.iter().for_each(Mailbox::stop);
        }
    }
}
