//! Configuring a server, and the running server as its owner sees it. The start of the threads is
//! in `starting.rs`. Nothing here runs while connections are served.

pub(crate) mod cpu_quota;
pub(crate) mod descriptors;
pub(crate) mod driver_choice;
pub(crate) mod joining;
pub(crate) mod listen_addr;
mod listening;
pub(crate) mod pin;
pub(crate) mod shard_start;
mod starting;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Config;
use crate::error::{RunError, ServerError, StartError};
use crate::handle::Handle;
use crate::handler::Handler;
use crate::server::driver_choice::{DriverChoice, DriverKind};
use crate::server::joining::{join_shards, make_mailboxes};
use crate::server::listen_addr::ListenAddr;
use crate::server::listening::{Asked, Listening};
use crate::server::pin::{Pin, place_shards};
use crate::server::shard_start::ShardStart;
use crate::server::starting::{Plan, check_memory, size_rings, start_threads};
use crate::shard::core::Publication;
use crate::sys::raise_limits;

/// A WebSocket server: one shard per core, each a thread with its own listeners, driver and
/// handler.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Returns a builder with the defaults. [`Builder::run`] or [`Builder::start`] starts it.
    pub fn builder() -> Builder {
        Builder {
            asked: Vec::new(),
            listens: true,
            unix_mode: UNIX_MODE_DEFAULT,
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
    asked: Vec<Asked>,
    /// Whether it listens at all.
    listens: bool,
    unix_mode: u32,
    shards: Option<usize>,
    pin: Pin,
    driver: DriverChoice,
    config: Config,
}

/// The default address.
const LISTEN_DEFAULT: &str = "127.0.0.1:9001";

/// The user of the server and its group. Whoever connects may say for whom he speaks, as a proxy
/// does; to let all users of the machine in is the application's decision.
const UNIX_MODE_DEFAULT: u32 = 0o660;

impl Builder {
    /// Listens on an address: `ADDR:PORT`, `NAME:PORT` or `unix:PATH`. Each further call adds an
    /// address. Default `127.0.0.1:9001`.
    ///
    /// **A name** means all of its addresses; those that this machine does not have are skipped if
    /// the name has another. Port 0 picks a free port, the same one for all addresses of a name.
    /// `[::]` also accepts IPv4 connections, unless the server listens on an IPv4 address of the
    /// same port.
    ///
    /// **A Unix socket** is a file, with the mode of [`unix_mode`](Self::unix_mode). A socket that
    /// is there already is replaced if nobody listens on it; any other file is an error and stays.
    /// The file is removed when the server ends, unless another one is in its place. A path has 107
    /// bytes at most. `unix:@NAME` is an abstract name: it has no file, and every process in the
    /// network namespace may connect. All shards accept from one socket and take turns. Its peers
    /// have no address: [`Context::peer_addr`](crate::Context::peer_addr) is `None`.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.asked.push(Asked::Text(address.into()));
        self
    }

    /// Accepts from a socket that listens already: a `TcpListener`, a `UnixListener`, or a
    /// descriptor of one that the process has inherited. Each further call adds one. All shards
    /// accept from it and take turns, also those connections that waited before the server started.
    ///
    /// On epoll the socket becomes non-blocking (`O_NONBLOCK`), for whoever else has it too. Nothing
    /// else of it is changed. The server closes its descriptor when it ends, and does not end the
    /// listening of others who have the socket. Backlog, mode and file of a Unix socket are the
    /// business of its maker.
    ///
    /// Socket activation by systemd (sd_listen_fds(3)), here with the crate `listenfd`:
    ///
    /// ```no_run
    /// # use ringwire::{Context, Handler, Offer, Request, Server, Upgrade};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     type State = ();
    /// #     type Command = ();
    /// #     fn on_upgrade(&mut self, _: &mut Context<'_, Self>, _: &Request<'_>, _: &Offer<'_>) -> Upgrade<()> {
    /// #         Upgrade::accept(())
    /// #     }
    /// # }
    /// let mut server = Server::builder();
    /// let mut inherited = listenfd::ListenFd::from_env();
    /// for index in 0..inherited.len() {
    ///     if let Some(listener) = inherited.take_tcp_listener(index)? {
    ///         server = server.listen_on(listener);
    ///     }
    /// }
    /// server.run(|_shard| Echo)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listen_on(mut self, listener: impl Into<OwnedFd>) -> Self {
        self.asked.push(Asked::Made(Arc::new(listener.into())));
        self
    }

    /// Listens nowhere: the server has the connections that are handed to it by
    /// [`Handle::adopt`], and no others. To ask for a listener as well is an error.
    pub fn no_listener(mut self) -> Self {
        self.listens = false;
        self
    }

    /// The permissions of the files of Unix sockets; who may write may connect. The umask does not
    /// matter. Default `0o660`: the user of the server and its group. To let a proxy in that runs as
    /// another user, add that user to the group, or give `0o666`.
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = mode;
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
        let Listening { addresses: local_addrs, by_shard: listeners } = self.listen_for(shards)?;
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
        let (driver, threads) = start_threads(self.driver, plan, listeners, links)?;
        let listening = names(&local_addrs);
        tracing::info!(%listening, shards, %driver, "serving");
        Ok(Running { local_addrs, shards, handle: handle.on(driver), threads })
    }

    fn listen_for(&self, shards: usize) -> Result<Listening, StartError> {
        let default = [Asked::Text(LISTEN_DEFAULT.to_owned())];
        let asked = match (self.listens, &self.asked[..]) {
            (true, []) => &default,
            (true, asked) | (false, asked @ []) => asked,
            (false, _) => {
                let rule = "no_listener contradicts listen and listen_on: leave out one of them";
                return Err(StartError::Config { rule });
            }
        };
        let patience = Duration::from_millis(self.config.bind_timeout_ms.into());
        listening::open(asked, shards, self.unix_mode, patience)
    }
}

fn names(addresses: &[ListenAddr]) -> String {
    if addresses.is_empty() {
        return "nowhere".to_owned();
    }
    addresses.iter().map(ListenAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// A running server. Dropping this value stops the server and does not wait for its end.
/// `C` is the handler's [`Command`](Handler::Command).
#[derive(Debug)]
pub struct Running<C = ()> {
    local_addrs: Vec<ListenAddr>,
    shards: usize,
    handle: Handle<C>,
    threads: Vec<JoinHandle<()>>,
}

impl<C> Running<C> {
    /// The first address and port that the server listens on. If the port was 0, it is the one
    /// picked.
    ///
    /// # Panics
    ///
    /// If it listens on none, but on Unix sockets or nowhere. [`local_addrs`](Self::local_addrs)
    /// shows everything.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        let first = self.local_addrs.iter().find_map(ListenAddr::tcp);
        first.expect("the server listens on no TCP address (`Running::local_addrs` has the others)")
    }

    /// Everything the server listens on, in the order of [`Builder::listen`] and
    /// [`Builder::listen_on`]; a name with several addresses has an entry for each.
    #[must_use]
    pub fn local_addrs(&self) -> &[ListenAddr] {
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
