//! What tests over sockets cannot see: readiness that epoll tells of and that is not there, a
//! listener that is shut down under the driver, and events of earlier tenants.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use socket2::SockRef;

use super::*;

fn driver(listeners: Vec<Listener>) -> EpollDriver {
    let config =
        RingConfig { receive_buffers_min: 4, receive_buffers_max: 4, ..RingConfig::default() };
    EpollDriver::new(&config, listeners).unwrap()
}

/// Far beyond what anything here takes, also on a loaded machine.
const PATIENCE: Wait = Wait::Millis(60_000);

/// What one tick brings.
fn completions(driver: &mut EpollDriver, wait: Wait) -> Vec<Completion<KernelSocket>> {
    let mut completions = Vec::new();
    driver.tick(wait, &mut completions);
    completions
}

/// What comes, however many ticks it takes.
fn next(driver: &mut EpollDriver) -> Vec<Completion<KernelSocket>> {
    for _ in 0..1_000 {
        let completions = completions(driver, PATIENCE);
        if !completions.is_empty() {
            return completions;
        }
    }
    panic!("a thousand ticks bring nothing");
}

/// Two ends of a connection, one of them the driver's.
fn pair() -> (TcpStream, KernelSocket) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (peer, KernelSocket::from(std::os::fd::OwnedFd::from(listener.accept().unwrap().0)))
}

const FIRST: Key = Key { slot: 0, generation: 1 };

/// The bytes of completions that are all receives of `key`.
fn bytes_of(
    driver: &mut EpollDriver,
    key: Key,
    completions: Vec<Completion<KernelSocket>>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for completion in completions {
        let Completion::Received { key: whose, result: Ok(Some(lease)), more: true } = completion
        else {
            panic!("{completion:?}")
        };
        assert_eq!(whose, key);
        bytes.extend_from_slice(driver.received(&lease));
        driver.recycle(lease);
    }
    bytes
}

/// Epoll says that a socket is readable and somebody else has read it: nothing is told, and the
/// next bytes are.
#[test]
fn readiness_that_is_not_there() {
    let mut driver = driver(Vec::new());
    let (mut peer, socket) = pair();
    let mut other = TcpStream::from(socket.0.try_clone().unwrap());
    driver.arm_receive(FIRST, &socket);
    assert!(completions(&mut driver, Wait::No).is_empty());
    peer.write_all(b"lost").unwrap();
    other.read_exact(&mut [0; 4]).unwrap();
    assert!(completions(&mut driver, Wait::No).is_empty());
    peer.write_all(b"found").unwrap();
    let completions = next(&mut driver);
    assert_eq!(bytes_of(&mut driver, FIRST, completions), b"found");
    driver.close(socket);
}

/// Writability without anything to send, and a send that finds no room when it is said to.
#[test]
fn writability_that_is_not_there() {
    let mut driver = driver(Vec::new());
    let (mut peer, socket) = pair();
    let mut other = TcpStream::from(socket.0.try_clone().unwrap());
    driver.arm_receive(FIRST, &socket);
    assert!(completions(&mut driver, Wait::No).is_empty(), "it is writable, which nobody asked");
    // All that the kernel takes is taken by somebody else.
    other.set_nonblocking(true).unwrap();
    let mut filled = 0;
    while let Ok(bytes) = other.write(&[1; 65_536]) {
        filled += bytes;
    }
    driver.send(FIRST, &socket, Outbound::Own(vec![2; 10]), 0);
    assert!(completions(&mut driver, Wait::No).is_empty());
    // There is room, and somebody else takes it before the driver looks.
    let mut bytes = vec![0; filled / 2];
    peer.read_exact(&mut bytes).unwrap();
    while let Ok(bytes) = other.write(&[1; 65_536]) {
        filled += bytes;
    }
    let sent = completions(&mut driver, Wait::No);
    let is_early = !sent.is_empty();
    assert!(!is_early || matches!(sent[..], [Completion::Sent { result: Ok(_), .. }]), "{sent:?}");
    // The rest is read, and the send comes through.
    let rest = vec![0; filled - bytes.len() + 10];
    let reading = std::thread::spawn(move || {
        let mut rest = rest;
        peer.read_exact(&mut rest).unwrap();
        (peer, rest)
    });
    if !is_early {
        let sent = next(&mut driver);
        assert!(matches!(sent[..], [Completion::Sent { result: Ok(10), .. }]), "{sent:?}");
    }
    let (_peer, rest) = reading.join().unwrap();
    assert_eq!(rest.iter().filter(|byte| **byte == 2).count(), 10);
    driver.close(socket);
}

/// Somebody shuts a listener down under the driver: its accept ends with an error, once, and
/// nothing turns in circles until it is armed again.
#[test]
fn a_listener_shut_down_under_it() {
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind_group(address, 1).unwrap().pop().unwrap();
    let under = listener.as_fd().try_clone_to_owned().unwrap();
    let address = listener.local_addr().unwrap();
    let mut driver = driver(vec![listener]);
    driver.arm_accept(0);
    assert!(completions(&mut driver, Wait::No).is_empty());
    SockRef::from(&under).shutdown(Shutdown::Both).unwrap();
    for _ in 0..3 {
        let ended = next(&mut driver);
        let [Completion::Accepted { listener: 0, result: Err(errno), more: false }] = ended[..]
        else {
            panic!("{ended:?}")
        };
        assert_eq!(errno, Errno(libc::EINVAL));
        assert!(completions(&mut driver, Wait::No).is_empty(), "not before it is armed again");
        driver.arm_accept(0);
    }
    assert!(TcpStream::connect(address).is_err());
    driver.cancel_accept(0);
    driver.close_listener(0);
    assert_eq!(completions(&mut driver, Wait::No).len(), 1, "the cancelled accept");
    assert!(completions(&mut driver, Wait::No).is_empty());
}

/// A connection is closed with bytes unread, and another one has its slot: what epoll has told of
/// the first is not the second's.
#[test]
fn an_earlier_tenant_of_a_slot() {
    let mut driver = driver(Vec::new());
    let (mut early, socket) = pair();
    driver.arm_receive(FIRST, &socket);
    assert!(completions(&mut driver, Wait::No).is_empty());
    early.write_all(b"early").unwrap();
    driver.end_receive(FIRST, &socket);
    let ended = next(&mut driver);
    assert!(
        matches!(ended[..], [Completion::Received { result: Err(Errno::CANCELLED), .. }]),
        "{ended:?}"
    );
    driver.close(socket);
    let second = Key { slot: FIRST.slot, generation: 2 };
    let (mut late, socket) = pair();
    driver.arm_receive(second, &socket);
    assert!(completions(&mut driver, Wait::No).is_empty());
    late.write_all(b"late").unwrap();
    let completions = next(&mut driver);
    assert_eq!(bytes_of(&mut driver, second, completions), b"late");
    driver.close(socket);
}

/// Urgent data in front of bytes and of the end: all of them come, and then the end does.
#[test]
fn bytes_behind_urgent_data() {
    let mut driver = driver(Vec::new());
    let (mut peer, socket) = pair();
    driver.arm_receive(FIRST, &socket);
    peer.write_all(b"before").unwrap();
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    peer.write_all(b"behind").unwrap();
    drop(peer);
    let mut bytes = Vec::new();
    loop {
        let mut arrived = next(&mut driver);
        let is_end = matches!(arrived.last(), Some(Completion::Received { result: Ok(None), .. }));
        if is_end {
            arrived.pop();
        }
        bytes.extend(bytes_of(&mut driver, FIRST, arrived));
        if is_end {
            break;
        }
    }
    assert_eq!(bytes, b"beforebehind");
    driver.close(socket);
}

/// However many are readable at once, a tick brings a bounded share, in the order in which they
/// became readable, and nobody is passed over.
#[test]
fn a_tick_brings_a_bounded_share() {
    const PEERS: u32 = 3 * TURNS_PER_TICK_MAX as u32;
    let config =
        RingConfig { receive_buffers_min: 64, receive_buffers_max: 64, ..RingConfig::default() };
    let mut driver = EpollDriver::new(&config, Vec::new()).unwrap();
    let mut ends: Vec<_> = (0..PEERS)
        .map(|slot| {
            let (peer, socket) = pair();
            driver.arm_receive(Key { slot, generation: 0 }, &socket);
            (peer, socket)
        })
        .collect();
    assert!(completions(&mut driver, Wait::No).is_empty());
    for (peer, _) in &mut ends {
        peer.write_all(b"x").unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < PEERS as usize {
        let arrived = next(&mut driver);
        assert!(arrived.len() <= TURNS_PER_TICK_MAX, "{}", arrived.len());
        for completion in arrived {
            let Completion::Received { key, result: Ok(Some(lease)), .. } = completion else {
                panic!("{completion:?}")
            };
            driver.recycle(lease);
            heard.push(key.slot);
        }
    }
    assert_eq!(heard, (0..PEERS).collect::<Vec<_>>());
    ends.into_iter().for_each(|(_, socket)| driver.close(socket));
}
