//! Configuring a server, and the running server as its owner sees it. The start of the threads is
//! in `starting.rs`. Nothing here runs while connections are served.

pub(crate) mod cpu_quota;
pub(crate) mod descriptors;
pub(crate) mod driver_choice;
pub(crate) mod joining;
pub(crate) mod pin;
pub(crate) mod shard_start;
mod starting;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Config;
use crate::error::{RunError, ServerError, StartError};
use crate::handle::Handle;
use crate::handler::Handler;
use crate::server::driver_choice::{DriverChoice, DriverKind};
use crate::server::joining::{join_shards, make_mailboxes};
use crate::server::pin::{Pin, place_shards};
use crate::server::shard_start::ShardStart;
use crate::server::starting::{Plan, check_memory, size_rings, start_threads};
use crate::shard::core::Publication;
use crate::sys::{Listener, listen, raise_limits};

/// A WebSocket server: one shard per core, each a thread with its own listeners, driver and
/// handler.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Returns a builder with the defaults. [`Builder::run`] or [`Builder::start`] starts it.
    pub fn builder() -> Builder {
        Builder {
            listen: Vec::new(),
            shards: None,
            pin: Pin::Off,
            driver: DriverChoice::Auto,
            config: Config::new(),
        }
    }
}

/// Configures and starts a server.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is run or started"]
pub struct Builder {
    listen: Vec<String>,
    shards: Option<usize>,
    pin: Pin,
    driver: DriverChoice,
    config: Config,
}

/// The default address.
const LISTEN_DEFAULT: &str = "127.0.0.1:9001";

impl Builder {
    /// Listens on an address, `ADDR:PORT` or `NAME:PORT`. Each further call adds an address.
    /// Default `127.0.0.1:9001`.
    ///
    /// A name means all of its addresses; those that this machine does not have are skipped if the
    /// name has another. Port 0 picks a free port, the same one for all addresses of a name. `[::]`
    /// also accepts IPv4 connections, unless the server listens on an IPv4 address of the same
    /// port.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Number of shards, from 1 to 65,535. Default: one per CPU that this process may use, by its
    /// affinity (sched_getaffinity(2)) and by the CPU quota of its control group, rounded up; with
    /// [`Pin::Cpus`] one per listed CPU.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Whether shards are pinned to CPUs. Default [`Pin::Off`].
    pub fn pin(mut self, pin: Pin) -> Self {
        self.pin = pin;
        self
    }

    /// Which driver the shards run on. Default [`DriverChoice::Auto`]: io_uring where it works, else
    /// epoll. [`Running::driver`] says which one it became.
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.driver = driver;
        self
    }

    /// Sets the limits and deadlines.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Starts the server and returns when it has stopped. `make` is called once per shard, on the
    /// shard's thread, and returns the shard's handler.
    ///
    /// # Errors
    ///
    /// [`ServerError::Start`] with an error of [`start`](Self::start), and [`ServerError::Run`] with
    /// one of [`Running::join`].
    pub fn run<H: Handler>(
        self,
        make: impl Fn(ShardStart<H::Command>) -> H + Send + Sync + 'static,
    ) -> Result<(), ServerError> {
        self.start(make)?.join()?;
        Ok(())
    }

    /// Starts the server. Returns when every handler exists and every shard accepts connections.
    ///
    /// Raises the process's soft limits of descriptors and of locked memory to the hard limits
    /// (`RLIMIT_NOFILE`, `RLIMIT_MEMLOCK`). Retries an address in use for
    /// [`bind_timeout_ms`](Config::bind_timeout_ms).
    ///
    /// # Errors
    ///
    /// The reason why the server did not start, with the remedy.
    pub fn start<H: Handler>(
        self,
        make: impl Fn(ShardStart<H::Command>) -> H + Send + Sync + 'static,
    ) -> Result<Running<H::Command>, StartError> {
        self.config.check()?;
        let (shards, cpus) = place_shards(self.shards, &self.pin)?;
        raise_limits();
        let groups = self.listen_for(shards)?;
        let local_addrs = groups.iter().map(|group| group[0].local_addr());
        let local_addrs: Vec<SocketAddr> = local_addrs
            .collect::<Result<_, _>>()
            .map_err(|source| StartError::Machine { step: "getsockname", source })?;
        check_queues(&self.config, shards)?;
        let mailboxes = make_mailboxes(shards, &self.config)?;
        let links = join_shards(&mailboxes, &self.config);
        let handle = Handle::new(Arc::clone(&mailboxes), links[0].server);
        let plan = Plan {
            ring: size_rings(self.driver, &self.config, shards),
            config: self.config,
            shards,
            cpus,
            mailboxes: Arc::clone(&mailboxes),
            handle: handle.clone(),
            descriptors: Arc::clone(&links[0].descriptors),
            make,
            memory: Mutex::new(()),
        };
        let (driver, threads) = start_threads(self.driver, plan, by_shard(groups, shards), links)?;
        tracing::info!(?local_addrs, shards, %driver, "serving");
        Ok(Running { local_addrs, shards, handle: handle.on(driver), threads })
    }

    /// A group of listeners for each address, one of the group for each shard.
    fn listen_for(&self, shards: usize) -> Result<Vec<Vec<Listener>>, StartError> {
        let names = match &self.listen[..] {
            [] => vec![resolve(LISTEN_DEFAULT)?],
            names => names.iter().map(|name| resolve(name)).collect::<Result<_, _>>()?,
        };
        let patience = Duration::from_millis(self.config.bind_timeout_ms.into());
        listen(&names, shards, patience).map_err(StartError::from_bind)
    }
}

/// A running server. Dropping this value stops the server and does not wait for its end.
/// `C` is the handler's [`Command`](Handler::Command).
#[derive(Debug)]
pub struct Running<C = ()> {
    local_addrs: Vec<SocketAddr>,
    shards: usize,
    handle: Handle<C>,
    threads: Vec<JoinHandle<()>>,
}

impl<C> Running<C> {
    /// The first address the server listens on. If the port was 0, it has the port picked.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs[0]
    }

    /// Every address the server listens on, in the order of [`Builder::listen`].
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The driver that the shards run on.
    #[must_use]
    pub fn driver(&self) -> DriverKind {
        self.handle.driver()
    }

    /// Returns a handle, by which other threads reach the server.
    #[must_use]
    pub fn handle(&self) -> Handle<C> {
        self.handle.clone()
    }

    /// Waits until the server has ended. Does not stop the server; [`Handle::stop`] does.
    ///
    /// # Errors
    ///
    /// [`RunError::ShardPanicked`] if the `Drop` of a handler panicked, or the engine did (a bug, or
    /// a kernel out of memory). The other shards were stopped.
    pub fn join(mut self) -> Result<(), RunError> {
        let threads = std::mem::take(&mut self.threads).into_iter().enumerate();
        let panicked: Vec<usize> =
            threads.filter_map(|(shard, thread)| thread.join().is_err().then_some(shard)).collect();
        match panicked.first() {
            Some(&shard) => Err(RunError::ShardPanicked { shard }),
            None => Ok(()),
        }
    }
}

impl<C> Drop for Running<C> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.stop();
        }
    }
}

/// Every address of a name, each once.
fn resolve(name: &str) -> Result<Vec<SocketAddr>, StartError> {
    let unresolved = |source| StartError::Address { address: name.to_owned(), source };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in name.to_socket_addrs().map_err(unresolved)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unresolved(std::io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

/// The listeners of each shard, one for each address.
fn by_shard(groups: Vec<Vec<Listener>>, shards: usize) -> Vec<Vec<Listener>> {
    let mut by_shard: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for group in groups {
        for (listeners, listener) in by_shard.iter_mut().zip(group) {
            listeners.push(listener);
        }
    }
    by_shard
}

/// Whether the queues between the shards and other threads can be had.
fn check_queues(config: &Config, shards: usize) -> Result<(), StartError> {
    // A lone shard has no such ring.
    let rings = if shards == 1 { 0 } else { shards };
    check_memory(
        config.broadcast_entries.next_power_of_two().saturating_mul(rings),
        size_of::<Option<Publication>>(),
        "the broadcast rings of all shards: lower broadcast_entries",
    )
}
