//! The contract of [`Driver`], tried on each driver of the kernel, over sockets of this machine.
//! What only one of them does is in its own tests.

mod accepting;
mod ending;
mod receiving;
mod sending;
mod waking;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::listener::Listener;
use super::opening::KernelDriver;
use super::ring_setup::RingConfig;
use super::socket::KernelSocket;
use super::waker::Waker;
use crate::driver::{COMPLETIONS_PER_TICK_MAX, Completion, Driver, Errno, Key, Socket, Wait};

/// Makes a test of each function for each driver.
macro_rules! on_both_drivers {
    ($($test:ident)+) => {
        mod io_uring {
            $(#[test]
            fn $test() {
                super::$test::<crate::sys::UringDriver>();
            })+
        }
        mod epoll {
            $(#[test]
            fn $test() {
                super::$test::<crate::sys::EpollDriver>();
            })+
        }
    };
}
use on_both_drivers;

/// Far beyond what anything here takes, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Small, so that what peers send takes several.
const BUFFER_BYTES: usize = 4_096;
const BUFFERS: usize = 64;

/// A driver on this thread, and what it has handed out that nobody has looked at.
struct Tried<D> {
    driver: D,
    left: VecDeque<Completion<KernelSocket>>,
    /// For peers of adopted sockets.
    door: TcpListener,
}

impl<D: KernelDriver> Tried<D> {
    /// `None` where the kernel refuses io_uring, which then is checked instead.
    fn open() -> Option<Self> {
        Self::open_with(BUFFERS)
    }

    fn open_with(buffers: usize) -> Option<Self> {
        let config = RingConfig {
            receive_buffer_bytes: BUFFER_BYTES,
            receive_buffers_min: buffers,
            receive_buffers_max: buffers,
            ..RingConfig::default()
        };
        match D::open(&config) {
            Ok(driver) => {
                let door = TcpListener::bind("127.0.0.1:0").unwrap();
                Some(Self { driver, left: VecDeque::new(), door })
            }
            Err(error) => {
                let is_epoll = D::KIND == crate::server::driver_choice::DriverKind::Epoll;
                assert!(!is_epoll, "{error:?}");
                super::uring::assert_is_refused(error);
                None
            }
        }
    }

    /// With so many listeners on addresses of their own, and the addresses.
    fn open_listening(listeners: usize) -> Option<(Self, Vec<std::net::SocketAddr>)> {
        let mut tried = Self::open()?;
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners: Vec<Listener> =
            (0..listeners).flat_map(|_| Listener::bind_group(any, 1).unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let waker = Arc::new(Waker::new().unwrap());
        tried.driver.join(listeners, &[], waker).unwrap();
        Some((tried, addresses))
    }

    /// A socket of the driver's, and its peer.
    fn pair(&self) -> (KernelSocket, TcpStream) {
        let peer = TcpStream::connect(self.door.local_addr().unwrap()).unwrap();
        let (stream, _) = self.door.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        peer.set_nodelay(true).unwrap();
        (KernelSocket::from(OwnedFd::from(stream)), peer)
    }

    /// What is left, and what one tick brings that does not wait.
    fn tick(&mut self) -> Vec<Completion<KernelSocket>> {
        self.tick_after(Wait::No)
    }

    fn tick_after(&mut self, wait: Wait) -> Vec<Completion<KernelSocket>> {
        let mut completions = Vec::new();
        self.driver.tick(wait, &mut completions);
        assert!(completions.len() <= COMPLETIONS_PER_TICK_MAX);
        self.left.extend(completions);
        self.left.drain(..).collect()
    }

    /// Ticks until `take` has found what it waits for.
    fn until<T>(
        &mut self,
        mut take: impl FnMut(&mut D, Completion<KernelSocket>) -> Option<T>,
    ) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some(completion) = self.left.pop_front() {
                if let Some(found) = take(&mut self.driver, completion) {
                    return found;
                }
            }
            assert!(Instant::now() < until, "it does not come");
            self.left = self.tick_after(Wait::Millis(1_000)).into();
        }
    }

    /// Receives on an armed multishot receive until `bytes` bytes have come.
    fn receive_bytes(&mut self, key: Key, socket: &KernelSocket, bytes: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < bytes {
            self.until(|driver, completion| {
                let more = take_bytes(driver, completion, key, &mut received);
                if !more {
                    driver.arm_receive(key, socket);
                }
                Some(())
            });
        }
        assert_eq!(received.len(), bytes, "more than was sent");
        received
    }

    /// Shuts down a socket with a receive in flight, waits for that, and closes it.
    fn end(&mut self, key: Key, socket: KernelSocket) {
        self.driver.shut_down(key, &socket);
        self.until(|driver, completion| match completion {
            Completion::Received { key: its, result, more } if its == key => {
                if let Ok(Some(lease)) = result {
                    driver.recycle(lease);
                }
                (!more).then_some(())
            }
            _ => None,
        });
        self.driver.close(socket);
    }
}

/// Takes the bytes of a completed receive, which must be that of `key`; whether it is armed still.
fn take_bytes<D: Driver>(
    driver: &mut D,
    completion: Completion<KernelSocket>,
    key: Key,
    received: &mut Vec<u8>,
) -> bool {
    let Completion::Received { key: its, result, more } = completion else {
        panic!("nothing but a receive is in flight: {completion:?}")
    };
    assert_eq!(its, key);
    let lease = result.expect("nobody resets").expect("nobody leaves");
    received.extend_from_slice(driver.received(&lease));
    driver.recycle(lease);
    more
}

/// Bytes of which any two neighbours differ, also a multiple of a power of two apart.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

const fn key(slot: u32) -> Key {
    Key { slot, generation: 1 }
}

/// Loopback delivers before a write returns.
fn write(mut peer: &TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
}
