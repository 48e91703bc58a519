//! Starts the threads of a server in steps that all shards take together: first every driver, then
//! every handler, then every accept. If one shard fails at a step, all threads end and the ports
//! are free again. If io_uring fails at the first step, epoll may be tried in its place.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder as ThreadBuilder, JoinHandle};

use crate::config::{Config, DESCRIPTORS_RESERVED, SURPLUS_MAX};
use crate::connection::connections::Connections;
use crate::error::{StartError, io_uring_disabled};
use crate::handle::{Handle, become_shard};
use crate::handler::Handler;
use crate::server::descriptors::{Descriptors, connections_within};
use crate::server::driver_choice::{DriverChoice, DriverKind};
use crate::server::pin::SHARD_THREAD_PREFIX;
use crate::server::shard_start::ShardStart;
use crate::shard::Shard;
use crate::shard::links::Links;
use crate::shard::mailbox::Mailbox;
use crate::shard::timer_wheel::TimerWheel;
use crate::sys::{
    EpollDriver, KernelDriver, KernelSocket, Listener, RingConfig, UringDriver, Waker,
    descriptors_max, fit_rings, locked_memory_bytes_max, pin_to, ring_bytes_min,
};

/// Makes the handler of a shard.
pub(crate) trait Make<H: Handler>:
    Fn(ShardStart<H::Command>) -> H + Send + Sync + 'static
{
}

impl<H: Handler, F: Fn(ShardStart<H::Command>) -> H + Send + Sync + 'static> Make<H> for F {}

/// What every shard's thread needs to know.
pub(crate) struct Plan<F, C> {
    pub(crate) config: Config,
    /// The sizes with which the rings of all shards fit into the locked memory.
    pub(crate) ring: RingConfig,
    pub(crate) shards: usize,
    /// The CPU of each shard, if shards are pinned.
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) mailboxes: Arc<[Mailbox<C>]>,
    /// Given to every handler.
    pub(crate) handle: Handle<C>,
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) make: F,
    /// One shard at a time finds out whether its memory is to be had.
    pub(crate) memory: Mutex<()>,
}

/// The sizes of all rings, so that they fit into the locked memory together.
pub(crate) fn size_rings(choice: DriverChoice, config: &Config, shards: usize) -> RingConfig {
    let asked = config.ring();
    if choice == DriverChoice::Epoll {
        return asked;
    }
    let Some(limit_bytes) = locked_memory_bytes_max() else { return asked };
    fit_rings(asked, shards, limit_bytes)
}

/// To be called once rings have been made: of those that cannot be made the error speaks.
fn warn_of_small_rings<F, C>(plan: &Plan<F, C>) {
    if plan.ring.completion_entries < plan.config.ring().completion_entries {
        tracing::warn!(
            shards = plan.shards,
            submission_entries = plan.ring.submission_entries,
            completion_entries = plan.ring.completion_entries,
            "rings are made smaller to fit into the locked memory; raise `ulimit -l` \
             (LimitMEMLOCK= in systemd, --ulimit memlock= in docker)"
        );
    }
}

/// What a shard's thread reports, in this order.
enum Step<D: KernelDriver> {
    HasDriver(D::Door),
    HasHandler,
    Accepts,
}

/// What a shard's thread waits for after each step but the last. One that hears nothing ends.
enum Sign<D: KernelDriver, C> {
    MakeHandler(Box<Part<D, C>>),
    Accept,
}

/// What a shard serves with, once all drivers are open.
struct Part<D: KernelDriver, C> {
    listeners: Vec<Listener>,
    links: Links<C>,
    doors: Doors<D>,
}

/// How to wake each shard, by index.
type Doors<D> = Arc<[(Arc<<D as KernelDriver>::Door>, Arc<Waker>)]>;

type Report<D> = (usize, Result<Step<D>, StartError>);

/// Reports for a shard, also that its thread panics.
struct Reporter<D: KernelDriver> {
    shard: usize,
    reports: Sender<Report<D>>,
}

impl<D: KernelDriver> Reporter<D> {
    fn report(&self, step: Result<Step<D>, StartError>) {
        // Nobody listens any more if another shard has failed.
        let _ = self.reports.send((self.shard, step));
    }
}

impl<D: KernelDriver> Drop for Reporter<D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report(Err(StartError::ShardPanicked { shard: self.shard }));
        }
    }
}

/// The threads on their way.
struct Starting<D: KernelDriver, C> {
    threads: Vec<JoinHandle<()>>,
    signs: Vec<Sender<Sign<D, C>>>,
    reports: Receiver<Report<D>>,
}

/// Starts the threads, and returns when every shard accepts connections.
pub(crate) fn start_threads<H: Handler, F: Make<H>>(
    choice: DriverChoice,
    plan: Plan<F, H::Command>,
    listeners: Vec<Vec<Listener>>,
    links: Vec<Links<H::Command>>,
) -> Result<Threads, StartError> {
    let plan = Arc::new(plan);
    if choice != DriverChoice::Epoll {
        match start_on::<H, F, UringDriver>(&plan, listeners, links) {
            Err(NotStarted { error, unused: Some((listeners, links)) })
                if choice == DriverChoice::Auto && error.is_io_uring_unavailable() =>
            {
                tracing::warn!(cause = %error, "io_uring does not work here: serving on epoll");
                return Ok(start_on::<H, F, EpollDriver>(&plan, listeners, links)?);
            }
            started => {
                let started = started?;
                warn_of_small_rings(&plan);
                return Ok(started);
            }
        }
    }
    Ok(start_on::<H, F, EpollDriver>(&plan, listeners, links)?)
}

/// The listeners and the links of each shard.
type Inputs<C> = (Vec<Vec<Listener>>, Vec<Links<C>>);

/// The threads of the shards, and the driver they run on.
type Threads = (DriverKind, Vec<JoinHandle<()>>);

/// A start that has failed: the reason, and what another one may use, unless a shard has had it.
struct NotStarted<C> {
    error: StartError,
    unused: Option<Inputs<C>>,
}

impl<C> From<NotStarted<C>> for StartError {
    fn from(NotStarted { error, .. }: NotStarted<C>) -> Self {
        error
    }
}

fn start_on<H: Handler, F: Make<H>, D: KernelDriver>(
    plan: &Arc<Plan<F, H::Command>>,
    listeners: Vec<Vec<Listener>>,
    links: Vec<Links<H::Command>>,
) -> Result<Threads, NotStarted<H::Command>> {
    let (starting, doors) = match Starting::<D, H::Command>::open(plan) {
        Ok(opened) => opened,
        Err(error) => return Err(NotStarted { error, unused: Some((listeners, links)) }),
    };
    match starting.take_steps(plan, &doors, listeners, links) {
        Ok(()) => Ok((D::KIND, starting.threads)),
        Err(error) => {
            plan.mailboxes.iter().for_each(Mailbox::stop);
            starting.end();
            // Handlers were made with handles, which other threads may have: nobody carries out
            // what they have queued, and nobody makes room for those who wait.
            plan.mailboxes.iter().for_each(Mailbox::end);
            Err(NotStarted { error, unused: None })
        }
    }
}

impl<D: KernelDriver, C: Send + 'static> Starting<D, C> {
    /// Starts every thread; returns when all of them have opened their drivers.
    fn open<H: Handler<Command = C>, F: Make<H>>(
        plan: &Arc<Plan<F, C>>,
    ) -> Result<(Self, Doors<D>), StartError> {
        let (report, reports) = channel();
        let mut starting = Self { threads: Vec::new(), signs: Vec::new(), reports };
        let opened = starting.spawn(plan, &report).and_then(|()| starting.await_doors(plan));
        match opened {
            Ok(doors) => Ok((starting, doors)),
            Err(error) => {
                starting.end();
                Err(error)
            }
        }
    }

    fn spawn<H: Handler<Command = C>, F: Make<H>>(
        &mut self,
        plan: &Arc<Plan<F, C>>,
        report: &Sender<Report<D>>,
    ) -> Result<(), StartError> {
        for shard in 0..plan.shards {
            let (sign, signs) = channel();
            let plan = Arc::clone(plan);
            let reporter = Reporter { shard, reports: report.clone() };
            let thread = ThreadBuilder::new()
                .name(format!("{SHARD_THREAD_PREFIX}{shard}"))
                .spawn(move || live(&plan, reporter, &signs))
                .map_err(|source| StartError::Machine { step: "starting a thread", source })?;
            self.threads.push(thread);
            self.signs.push(sign);
        }
        Ok(())
    }

    fn await_doors<F>(&self, plan: &Plan<F, C>) -> Result<Doors<D>, StartError> {
        let mut doors: Vec<Option<D::Door>> = self.threads.iter().map(|_| None).collect();
        self.await_all(|shard, step| match step {
            Step::HasDriver(door) => doors[shard] = Some(door),
            Step::HasHandler | Step::Accepts => unreachable!("a shard's first step"),
        })?;
        let wakers = plan.mailboxes.iter().map(Mailbox::waker);
        Ok(doors.into_iter().flatten().map(Arc::new).zip(wakers).collect())
    }

    fn take_steps<F>(
        &self,
        plan: &Plan<F, C>,
        doors: &Doors<D>,
        listeners: Vec<Vec<Listener>>,
        links: Vec<Links<C>>,
    ) -> Result<(), StartError> {
        let mut parts = listeners.into_iter().zip(links);
        self.sign(|| {
            let (listeners, links) = parts.next().expect("as many as shards");
            Sign::MakeHandler(Box::new(Part { listeners, links, doors: Arc::clone(doors) }))
        });
        self.await_all(|_, _| {})?;
        divide_descriptors(plan);
        self.sign(|| Sign::Accept);
        self.await_all(|_, _| {})
    }

    /// Waits until every shard has taken its next step.
    fn await_all(&self, mut took: impl FnMut(usize, Step<D>)) -> Result<(), StartError> {
        for _ in 0..self.threads.len() {
            // A thread reports each step, an error, or its panic, and lives in between.
            let (shard, step) = self.reports.recv().expect("each thread reports");
            took(shard, step?);
        }
        Ok(())
    }

    fn sign(&self, mut make: impl FnMut() -> Sign<D, C>) {
        for sign in &self.signs {
            // A thread that has ended meanwhile has panicked, and reports that.
            let _ = sign.send(make());
        }
    }

    /// Ends every thread, wherever it is, and waits for it.
    fn end(self) {
        drop((self.signs, self.reports));
        for thread in self.threads {
            // If it has panicked, that is what is reported.
            let _ = thread.join();
        }
    }
}

/// Says how many connections the descriptors allow, once everything else has its own.
fn divide_descriptors<F, C>(plan: &Plan<F, C>) {
    let limit = descriptors_max();
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let reserved = DESCRIPTORS_RESERVED + SURPLUS_MAX * plan.shards;
    let connections = connections_within(limit, open, reserved);
    plan.descriptors.set(connections);
    let connections_max = plan.config.connections_max;
    if connections < connections_max.saturating_mul(plan.shards) {
        tracing::warn!(
            descriptors = limit,
            connections,
            connections_max,
            shards = plan.shards,
            "the limit of descriptors allows fewer connections than connections_max; raise \
             `ulimit -n` (LimitNOFILE= in systemd, --ulimit nofile= in docker), or lower \
             connections_max"
        );
    }
}

/// A shard's thread, from its driver to its end.
fn live<H: Handler, F: Make<H>, D: KernelDriver>(
    plan: &Plan<F, H::Command>,
    reporter: Reporter<D>,
    signs: &Receiver<Sign<D, H::Command>>,
) {
    let index = reporter.shard;
    become_shard();
    let (mut driver, door) = match open::<F, H::Command, D>(plan, index) {
        Ok(opened) => opened,
        Err(error) => return reporter.report(Err(error)),
    };
    reporter.report(Ok(Step::HasDriver(door)));
    let Ok(Sign::MakeHandler(part)) = signs.recv() else { return };
    let Part { listeners, mut links, doors } = *part;
    links.driver = D::KIND;
    if let Err(source) = driver.join(listeners, &doors, plan.mailboxes[index].waker()) {
        let step = "watching the listeners";
        return reporter.report(Err(StartError::Machine { step, source }));
    }
    let handle = plan.handle.clone().on(D::KIND);
    let handler = (plan.make)(ShardStart { index, shards: plan.shards, handle });
    let mut shard = match make_shard(plan, driver, handler, links) {
        Ok(shard) => shard,
        Err(error) => return reporter.report(Err(error)),
    };
    reporter.report(Ok(Step::HasHandler));
    let Ok(Sign::Accept) = signs.recv() else { return };
    let stop_on_panic = StopOnPanic { mailboxes: &plan.mailboxes, shard: index };
    shard.start();
    shard.submit();
    reporter.report(Ok(Step::Accepts));
    drop(reporter);
    shard.run();
    drop(shard);
    drop(stop_on_panic);
}

fn open<F, C, D: KernelDriver>(
    plan: &Plan<F, C>,
    shard: usize,
) -> Result<(D, D::Door), StartError> {
    if let Some(cpus) = &plan.cpus {
        pin_to(cpus[shard])
            .map_err(|source| StartError::Machine { step: "pinning a shard to its CPU", source })?;
    }
    let locked_memory = || {
        let needed_bytes = ring_bytes_min(plan.config.ring(), plan.shards);
        locked_memory_bytes_max().map(|limit_bytes| (needed_bytes, limit_bytes))
    };
    let driver = D::open(&plan.ring).map_err(|error| match D::KIND {
        DriverKind::IoUring => StartError::from_ring(error, io_uring_disabled(), locked_memory),
        DriverKind::Epoll => StartError::from_epoll(error),
    })?;
    let door = driver
        .door()
        .map_err(|source| StartError::Machine { step: "duplicating the ring", source })?;
    Ok((driver, door))
}

/// Allocating aborts the process where it fails; so it is tried first.
fn make_shard<H: Handler, F, D: KernelDriver>(
    plan: &Plan<F, H::Command>,
    driver: D,
    handler: H,
    links: Links<H::Command>,
) -> Result<Shard<H, D>, StartError> {
    let _guard = plan.memory.lock();
    let slot_bytes = Connections::<H::State, KernelSocket>::SLOT_BYTES + TimerWheel::SLOT_BYTES;
    check_memory(
        plan.config.connections_max + SURPLUS_MAX,
        slot_bytes,
        "the connections of a shard: lower connections_max, or the size of the handler's State \
         (a Box has 8 bytes)",
    )?;
    Ok(Shard::new(driver, handler, &plan.config, links))
}

/// Whether so many entries of that size can be had.
pub(crate) fn check_memory(
    entries: usize,
    entry_bytes: usize,
    what: &'static str,
) -> Result<(), StartError> {
    let bytes = entries.saturating_mul(entry_bytes);
    let refused = |_| StartError::Memory { what, bytes };
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(refused)
}

/// A shard that panics takes the server down in order: the other shards end too.
struct StopOnPanic<'a, C> {
    mailboxes: &'a [Mailbox<C>],
    shard: usize,
}

impl<C> Drop for StopOnPanic<'_, C> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.mailboxes[self.shard].end();
            self.mailboxes.iter().for_each(Mailbox::stop);
        }
    }
}
