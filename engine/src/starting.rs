//! Starts the threads of a server in steps that all shards take together: first every ring, then
//! every handler, then every accept. If one shard fails at a step, all threads end and the ports
//! are free again.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder as ThreadBuilder, JoinHandle};

use crate::config::{Config, DESCRIPTORS_RESERVED, SURPLUS_MAX};
use crate::connections::Connections;
use crate::descriptors::{Descriptors, connections_within};
use crate::error::{SetupError, io_uring_disabled};
use crate::handler::Handler;
use crate::mailbox::Mailbox;
use crate::pin::SHARD_THREAD_PREFIX;
use crate::shard::{Links, Shard};
use crate::sys::{
    Listener, Peer, RingConfig, UringDriver, descriptors_max, fit_rings, locked_memory_bytes_max,
    pin_to, ring_bytes_min,
};
use crate::timer_wheel::TimerWheel;

/// What every shard's thread needs to know.
pub(crate) struct Plan<F> {
    pub(crate) config: Config,
    /// The sizes with which the rings of all shards fit into the locked memory.
    pub(crate) ring: RingConfig,
    pub(crate) shards: usize,
    /// The CPU of each shard, if shards are pinned.
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) make: F,
    /// One shard at a time finds out whether its memory is to be had.
    pub(crate) memory: Mutex<()>,
}

/// The sizes of all rings, so that they fit into the locked memory together.
pub(crate) fn size_rings(config: &Config, shards: usize) -> RingConfig {
    let asked = config.ring();
    let Some(limit_bytes) = locked_memory_bytes_max() else { return asked };
    let fit = fit_rings(asked, shards, limit_bytes);
    if fit.completion_entries < asked.completion_entries {
        tracing::warn!(
            shards,
            limit_bytes,
            submission_entries = fit.submission_entries,
            completion_entries = fit.completion_entries,
            "rings are made smaller to fit into the locked memory; raise `ulimit -l` \
             (LimitMEMLOCK= in systemd, --ulimit memlock= in docker)"
        );
    }
    fit
}

/// What a shard's thread reports, in this order.
enum Step {
    /// A descriptor of its ring.
    HasRing(OwnedFd),
    HasHandler,
    Accepts,
}

/// What a shard's thread waits for after each step but the last. One that hears nothing ends.
enum Sign {
    MakeHandler(Vec<Peer>),
    Accept,
}

type Report = (usize, Result<Step, SetupError>);

/// Reports for a shard, also that its thread panics.
struct Reporter {
    shard: usize,
    reports: Sender<Report>,
}

impl Reporter {
    fn report(&self, step: Result<Step, SetupError>) {
        // Nobody listens any more if another shard has failed.
        let _ = self.reports.send((self.shard, step));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report(Err(SetupError::ShardPanicked { shard: self.shard }));
        }
    }
}

/// The threads on their way.
struct Starting {
    threads: Vec<JoinHandle<()>>,
    signs: Vec<Sender<Sign>>,
    reports: Receiver<Report>,
}

/// Starts the threads, and returns when every shard accepts connections.
pub(crate) fn start_threads<H: Handler, F: Fn(usize) -> H + Send + Sync + 'static>(
    plan: Plan<F>,
    listeners: Vec<Vec<Listener>>,
    links: Vec<Links>,
) -> Result<Vec<JoinHandle<()>>, SetupError> {
    let plan = Arc::new(plan);
    let (report, reports) = channel();
    let mut starting = Starting { threads: Vec::new(), signs: Vec::new(), reports };
    let started =
        starting.spawn(&plan, listeners, links, &report).and_then(|()| starting.take_steps(&plan));
    match started {
        Ok(()) => Ok(starting.threads),
        Err(error) => {
            starting.end(&plan.mailboxes);
            Err(error)
        }
    }
}

impl Starting {
    fn spawn<H: Handler, F: Fn(usize) -> H + Send + Sync + 'static>(
        &mut self,
        plan: &Arc<Plan<F>>,
        listeners: Vec<Vec<Listener>>,
        links: Vec<Links>,
        report: &Sender<Report>,
    ) -> Result<(), SetupError> {
        for (listeners, links) in listeners.into_iter().zip(links) {
            let (sign, signs) = channel();
            let plan = Arc::clone(plan);
            let reporter = Reporter { shard: links.shard, reports: report.clone() };
            let thread = ThreadBuilder::new()
                .name(format!("{SHARD_THREAD_PREFIX}{}", links.shard))
                .spawn(move || live(&plan, listeners, links, reporter, &signs))
                .map_err(|source| SetupError::Machine { step: "starting a thread", source })?;
            self.threads.push(thread);
            self.signs.push(sign);
        }
        Ok(())
    }

    fn take_steps<F>(&self, plan: &Plan<F>) -> Result<(), SetupError> {
        let mut rings = vec![None; self.threads.len()];
        self.await_all(|shard, step| match step {
            Step::HasRing(ring) => rings[shard] = Some(Arc::new(ring)),
            Step::HasHandler | Step::Accepts => unreachable!("a shard's first step"),
        })?;
        let wakers = plan.mailboxes.iter().map(Mailbox::waker);
        let rings = rings.into_iter().flatten();
        let peers: Vec<Peer> =
            rings.zip(wakers).map(|(ring, waker)| Peer { ring, waker }).collect();
        self.sign(|| Sign::MakeHandler(peers.clone()));
        self.await_all(|_, _| {})?;
        divide_descriptors(plan);
        self.sign(|| Sign::Accept);
        self.await_all(|_, _| {})
    }

    /// Waits until every shard has taken its next step.
    fn await_all(&self, mut took: impl FnMut(usize, Step)) -> Result<(), SetupError> {
        for _ in 0..self.threads.len() {
            // A thread reports each step, an error, or its panic, and lives in between.
            let (shard, step) = self.reports.recv().expect("each thread reports");
            took(shard, step?);
        }
        Ok(())
    }

    fn sign(&self, make: impl Fn() -> Sign) {
        for sign in &self.signs {
            // A thread that has ended meanwhile has panicked, and reports that.
            let _ = sign.send(make());
        }
    }

    /// Ends every thread, wherever it is, and waits for it.
    fn end(self, mailboxes: &[Mailbox]) {
        drop((self.signs, self.reports));
        mailboxes.iter().for_each(Mailbox::stop);
        for thread in self.threads {
            // If it has panicked, that is what is reported.
            let _ = thread.join();
        }
    }
}

/// Says how many connections the descriptors allow, once everything else has its own.
fn divide_descriptors<F>(plan: &Plan<F>) {
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

/// A shard's thread, from its ring to its end.
fn live<H: Handler, F: Fn(usize) -> H>(
    plan: &Plan<F>,
    listeners: Vec<Listener>,
    links: Links,
    reporter: Reporter,
    signs: &Receiver<Sign>,
) {
    let shard = links.shard;
    let (mut driver, ring) = match set_up(plan, shard, listeners) {
        Ok(set_up) => set_up,
        Err(error) => return reporter.report(Err(error)),
    };
    reporter.report(Ok(Step::HasRing(ring)));
    let Ok(Sign::MakeHandler(peers)) = signs.recv() else { return };
    driver.set_peers(peers);
    driver.poll_waker(plan.mailboxes[shard].waker());
    let handler = (plan.make)(shard);
    let mut shard = match make_shard(plan, driver, handler, links) {
        Ok(shard) => shard,
        Err(error) => return reporter.report(Err(error)),
    };
    reporter.report(Ok(Step::HasHandler));
    let Ok(Sign::Accept) = signs.recv() else { return };
    let stop_on_panic = StopOnPanic { mailboxes: &plan.mailboxes, shard: reporter.shard };
    shard.start();
    shard.submit();
    reporter.report(Ok(Step::Accepts));
    drop(reporter);
    shard.run();
    drop(shard);
    drop(stop_on_panic);
}

fn set_up<F>(
    plan: &Plan<F>,
    shard: usize,
    listeners: Vec<Listener>,
) -> Result<(UringDriver, OwnedFd), SetupError> {
    if let Some(cpus) = &plan.cpus {
        pin_to(cpus[shard])
            .map_err(|source| SetupError::Machine { step: "pinning a shard to its CPU", source })?;
    }
    let locked_memory = || {
        let needed_bytes = ring_bytes_min(plan.config.ring(), plan.shards);
        locked_memory_bytes_max().map(|limit_bytes| (needed_bytes, limit_bytes))
    };
    let driver = UringDriver::new(&plan.ring, listeners)
        .map_err(|error| SetupError::from_ring(error, io_uring_disabled(), locked_memory))?;
    let ring = driver
        .duplicate_ring_fd()
        .map_err(|source| SetupError::Machine { step: "duplicating the ring", source })?;
    Ok((driver, ring))
}

/// Allocating aborts the process where it fails; so it is tried first.
fn make_shard<H: Handler, F>(
    plan: &Plan<F>,
    driver: UringDriver,
    handler: H,
    links: Links,
) -> Result<Shard<H, UringDriver>, SetupError> {
    let _guard = plan.memory.lock();
    let slot_bytes = Connections::<H::State>::SLOT_BYTES + TimerWheel::SLOT_BYTES;
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
) -> Result<(), SetupError> {
    let bytes = entries.saturating_mul(entry_bytes);
    let refused = |_| SetupError::Memory { what, bytes };
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(refused)
}

/// A shard that panics takes the server down in order: the other shards end too.
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
