//! What only io_uring does, and what tests of servers cannot see: messages between rings that fail,
//! polls that fail, a completion queue that overflows. `sys/contract_tests.rs` has the rest.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::driver::Socket as _;
use crate::error::{StartError, io_uring_disabled};

/// A ring on this thread; `None` where the kernel refuses io_uring, which then is checked instead.
/// With `RINGWIRE_DRIVER=io_uring` a refusal is a failure.
fn driver() -> Option<UringDriver> {
    let config =
        RingConfig { receive_buffers_min: 64, receive_buffers_max: 64, ..RingConfig::default() };
    driver_of(&config)
}

fn driver_of(config: &RingConfig) -> Option<UringDriver> {
    match UringDriver::new(config, Vec::new()) {
        Ok(driver) => Some(driver),
        Err(error) => {
            assert_is_refused(error);
            None
        }
    }
}

/// A driver that cannot be had is the kernel's doing: the plainest ring that Linux 6.1 has cannot
/// be had either, and `DriverChoice::Auto` takes epoll. So these tests cannot pass in silence
/// where only the driver is broken.
pub(in crate::sys) fn assert_is_refused(error: RingError) {
    let is_required = std::env::var_os("RINGWIRE_DRIVER").is_some_and(|name| name == "io_uring");
    assert!(!is_required, "RINGWIRE_DRIVER=io_uring, but: {error:?}");
    let plain: std::io::Result<IoUring> =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(2);
    let plain = plain.and_then(|ring: IoUring| {
        ring.submitter().register_probe(&mut io_uring::Probe::new())?;
        ring.submitter().submit()
    });
    assert!(plain.is_err(), "a plain ring works, and the driver does not: {error:?}");
    let error = StartError::from_ring(error, io_uring_disabled(), locked_memory);
    assert!(error.is_io_uring_unavailable(), "epoll would not be taken: {error}");
}

/// What rings may lock, as `server/starting.rs` asks for it.
fn locked_memory() -> Option<(usize, usize)> {
    super::super::limits::locked_memory_bytes_max().map(|limit_bytes| (0, limit_bytes))
}

/// What one tick brings; it waits for what must come, but not for ever.
fn completions(driver: &mut UringDriver, wait: Wait) -> Vec<Completion<KernelSocket>> {
    let mut completions = Vec::new();
    driver.tick(wait, &mut completions);
    completions
}

/// Far beyond what a wake takes, also on a loaded machine.
const PATIENCE: Wait = Wait::Millis(60_000);

/// Whoever rouses a shard must wake it: the eventfd does where the message between rings fails.
#[test]
fn a_message_that_cannot_be_delivered_wakes_all_the_same() {
    let (Some(mut awake), Some(mut asleep)) = (driver(), driver()) else { return };
    let waker = Arc::new(Waker::new().unwrap());
    asleep.poll_waker(Arc::clone(&waker));
    assert!(completions(&mut asleep, Wait::No).is_empty());
    let no_ring = Arc::new(File::open("/dev/null").unwrap().into());
    awake.set_peers(vec![Peer { ring: no_ring, waker }]);
    awake.wake(0);
    assert!(completions(&mut awake, Wait::No).is_empty(), "a failed wake is nobody's business");
    assert!(matches!(completions(&mut asleep, PATIENCE)[..], [Completion::Woken]));
}

/// The poll of the waker may fail, for want of memory say: it is armed again after a while.
#[test]
fn a_waker_whose_poll_has_failed_wakes_again() {
    let Some(mut driver) = driver() else { return };
    let waker = Arc::new(Waker::new().unwrap());
    driver.poll_waker(Arc::clone(&waker));
    assert!(completions(&mut driver, Wait::No).is_empty());
    let cancel = opcode::AsyncCancel::new(Token::of_shard(Operation::Wake).encode()).build();
    driver.push(quiet(cancel, Token::of_shard(Operation::Cancel)));
    assert!(matches!(completions(&mut driver, PATIENCE)[..], [Completion::Woken]));
    assert!(driver.waker_retry_ms.is_some(), "the poll has failed");
    while driver.waker_retry_ms.is_some() {
        // It wakes by itself, since nobody else could wake it.
        assert!(completions(&mut driver, Wait::Forever).is_empty());
    }
    waker.wake();
    assert!(matches!(completions(&mut driver, PATIENCE)[..], [Completion::Woken]));
}

/// The kernel has more completions at once than the queue holds: the overflow is counted, the
/// kernel ends the receives that did not fit, and not a byte is lost.
#[test]
fn completions_that_overflow_the_queue_are_counted_and_not_lost() {
    const PEERS: usize = 16;
    const ROUNDS: usize = 3;
    const COMPLETION_ENTRIES: u32 = 2;
    let config = RingConfig {
        submission_entries: 1,
        completion_entries: COMPLETION_ENTRIES,
        receive_buffers_min: 64,
        receive_buffers_max: 64,
        ..RingConfig::default()
    };
    let Some(mut driver) = driver_of(&config) else { return };
    assert_eq!(driver.ring.params().cq_entries(), COMPLETION_ENTRIES);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut peers, sockets): (Vec<TcpStream>, Vec<KernelSocket>) = (0..PEERS as u32)
        .map(|slot| {
            let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let socket =
                KernelSocket::from(std::os::fd::OwnedFd::from(listener.accept().unwrap().0));
            driver.arm_receive(Key { slot, generation: 0 }, &socket);
            (peer, socket)
        })
        .unzip();
    assert!(completions(&mut driver, Wait::No).is_empty(), "nobody has sent");
    let mut received = vec![Vec::new(); PEERS];
    for round in 1..=ROUNDS {
        // On loopback it lies in the sockets when the writes are over. No tick takes any of it
        // meanwhile, and the next one finds all of it.
        for (slot, peer) in peers.iter_mut().enumerate() {
            peer.write_all(&[slot as u8, round as u8]).unwrap();
        }
        while received.iter().any(|bytes| bytes.len() < 2 * round) {
            let arrived = completions(&mut driver, PATIENCE);
            assert!(!arrived.is_empty(), "{received:?}");
            for completion in arrived {
                let Completion::Received { key, result, more } = completion else { continue };
                let slot = key.slot as usize;
                let lease = result.expect("nobody resets").expect("nobody leaves");
                received[slot].extend_from_slice(driver.received(&lease));
                driver.recycle(lease);
                if !more {
                    driver.arm_receive(key, &sockets[slot]);
                }
            }
        }
    }
    assert!(driver.overflows() > 0, "{PEERS} completions at once overflow {COMPLETION_ENTRIES}");
    for (slot, bytes) in received.iter().enumerate() {
        let sent: Vec<u8> = (1..=ROUNDS).flat_map(|round| [slot as u8, round as u8]).collect();
        assert_eq!(*bytes, sent);
    }
}

/// A multishot receive may take what is unread and then wait for the event that has told it of the
/// shutdown already (seen on Linux 6.18, under load): a server that was to stop waited for ever. So it
/// is cancelled, but only then: a crowd that is silent costs nothing more.
#[test]
fn a_receive_is_cancelled_where_something_is_unread() {
    let Some(mut driver) = driver() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (slot, said) in [(0, &b""[..]), (1, b"unread")] {
        let key = Key { slot, generation: 1 };
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = KernelSocket::from(OwnedFd::from(listener.accept().unwrap().0));
        driver.arm_receive(key, &socket);
        assert!(completions(&mut driver, Wait::No).is_empty());
        peer.write_all(said).unwrap();
        while (socket.unread_bytes() as usize) < said.len() {
            std::thread::yield_now();
        }
        driver.shut_down(key, &socket);
        let queued = driver.ring.submission().len();
        assert_eq!(queued, usize::from(!said.is_empty()), "{said:?}");
        while !completions(&mut driver, PATIENCE).into_iter().any(|completion| match completion {
            Completion::Received { result, more, .. } => {
                if let Ok(Some(lease)) = result {
                    driver.recycle(lease);
                }
                !more
            }
            other => panic!("nothing but a receive is in flight: {other:?}"),
        }) {}
        driver.close(socket);
    }
}
