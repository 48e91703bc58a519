//! Listeners and accepts.

use std::env;
use std::net::SocketAddr;
use std::process::Command;

use socket2::SockRef;

use super::*;
use crate::sys::binding::{Target, listen};
use crate::sys::limits::with_descriptors_max;
use crate::sys::made_listener::MadeListener;

on_both_drivers! {
    a_connection_comes_through_the_listener_it_was_made_to
    an_accept_of_one_takes_one
    a_cancelled_accept_takes_nobody_more
    an_accept_that_is_not_armed_cannot_be_cancelled
    a_closed_listener_refuses
    accepting_goes_on_when_there_are_descriptors_again
    who_waited_before_the_listener_was_ours_is_not_delayed
    drivers_of_one_listener_take_turns
    a_driver_that_is_not_armed_keeps_no_connection_from_another
}

/// Connects, and says something: a listener defers whoever does not.
fn connect(address: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(address).unwrap();
    write(&peer, b"!");
    peer
}

/// The next accept: its listener, its result, and whether it is still armed.
fn accepted<D: KernelDriver>(tried: &mut Tried<D>) -> (usize, Result<KernelSocket, Errno>, bool) {
    tried.until(|_, completion| match completion {
        Completion::Accepted { listener, result, more } => Some((listener, result, more)),
        other => panic!("nothing but an accept is in flight: {other:?}"),
    })
}

fn a_connection_comes_through_the_listener_it_was_made_to<D: KernelDriver>() {
    let Some((mut tried, addresses)) = Tried::<D>::open_listening(2) else { return };
    assert_eq!(tried.driver.listeners(), 2);
    tried.driver.arm_accept(0);
    tried.driver.arm_accept(1);
    for listener in [1, 0, 0, 1] {
        let peer = connect(addresses[listener]);
        let (from, socket, more) = accepted(&mut tried);
        let socket = socket.unwrap();
        assert_eq!((from, more), (listener, true));
        assert_eq!(socket.peer_addr(), Some(peer.local_addr().unwrap()));
        tried.driver.close(socket);
    }
}

fn an_accept_of_one_takes_one<D: KernelDriver>() {
    let Some((mut tried, addresses)) = Tried::<D>::open_listening(1) else { return };
    let _peers = [connect(addresses[0]), connect(addresses[0])];
    for _ in 0..2 {
        tried.driver.arm_accept_once(0);
        let (_, socket, more) = accepted(&mut tried);
        assert!(!more);
        tried.driver.close(socket.unwrap());
        assert!(tried.tick().is_empty() && tried.tick().is_empty(), "one and no more");
    }
}

fn a_cancelled_accept_takes_nobody_more<D: KernelDriver>() {
    let Some((mut tried, addresses)) = Tried::<D>::open_listening(1) else { return };
    tried.driver.arm_accept(0);
    assert!(tried.tick().is_empty(), "nobody connects");
    tried.driver.cancel_accept(0);
    let (listener, result, more) = accepted(&mut tried);
    assert_eq!((listener, result.unwrap_err(), more), (0, Errno::CANCELLED, false));
    let _peer = connect(addresses[0]);
    assert!(tried.tick().is_empty() && tried.tick().is_empty(), "it is over");
    tried.driver.arm_accept(0);
    let (_, socket, more) = accepted(&mut tried);
    assert!(more);
    tried.driver.close(socket.expect("who waits is accepted later"));
}

/// It may end by itself while it is being cancelled.
fn an_accept_that_is_not_armed_cannot_be_cancelled<D: KernelDriver>() {
    let Some((mut tried, _)) = Tried::<D>::open_listening(1) else { return };
    tried.driver.cancel_accept(0);
    assert!(tried.tick().is_empty() && tried.tick().is_empty());
}

fn a_closed_listener_refuses<D: KernelDriver>() {
    let Some((mut tried, addresses)) = Tried::<D>::open_listening(2) else { return };
    tried.driver.arm_accept(0);
    tried.driver.arm_accept(1);
    tried.driver.cancel_accept(0);
    let (_, result, more) = accepted(&mut tried);
    assert_eq!((result.unwrap_err(), more), (Errno::CANCELLED, false));
    tried.driver.close_listener(0);
    let error = TcpStream::connect(addresses[0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let _peer = connect(addresses[1]);
    let (listener, socket, _) = accepted(&mut tried);
    assert_eq!(listener, 1, "the other one goes on");
    tried.driver.close(socket.unwrap());
}

/// A part of one listening socket for each of two drivers, and its address.
fn made_listeners(door: &TcpListener) -> (Vec<Listener>, SocketAddr) {
    let made = MadeListener::new(&door.try_clone().unwrap().into()).unwrap();
    let groups = listen(vec![Target::Made(made)], 2, 0o660, Duration::ZERO).unwrap();
    (groups.into_iter().flatten().collect(), door.local_addr().unwrap())
}

/// It was made without `TCP_NODELAY`.
fn who_waited_before_the_listener_was_ours_is_not_delayed<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let _waiting = connect(door.local_addr().unwrap());
    let (mut listeners, _) = made_listeners(&door);
    let waker = Arc::new(Waker::new().unwrap());
    tried.driver.join(vec![listeners.remove(0)], &[], waker).unwrap();
    assert!(tried.driver.is_shared(0));
    tried.driver.arm_accept_once(0);
    let (_, socket, _) = accepted(&mut tried);
    let socket = socket.unwrap();
    assert!(SockRef::from(&socket.0).tcp_nodelay().unwrap());
    tried.driver.close(socket);
}

/// Two drivers on this thread that accept from one socket.
fn two_of_one_listener<D: KernelDriver>() -> Option<([Tried<D>; 2], SocketAddr)> {
    let mut both = [Tried::<D>::open()?, Tried::<D>::open()?];
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listeners, address) = made_listeners(&door);
    for (tried, listener) in both.iter_mut().zip(listeners) {
        tried.driver.join(vec![listener], &[], Arc::new(Waker::new().unwrap())).unwrap();
    }
    Some((both, address))
}

/// What two ticks of a driver accept; the second does what the first one only submits.
fn accepted_now<D: KernelDriver>(tried: &mut Tried<D>) -> usize {
    let completions = [tried.tick(), tried.tick()].into_iter().flatten();
    completions
        .map(|completion| match completion {
            Completion::Accepted { result, more, .. } => {
                assert!(!more, "one at a time");
                tried.driver.close(result.unwrap());
            }
            other => panic!("nothing but an accept is in flight: {other:?}"),
        })
        .count()
}

/// Each takes one, and the next is the other one's: also if that one looks later.
fn drivers_of_one_listener_take_turns<D: KernelDriver>() {
    let Some((mut both, address)) = two_of_one_listener::<D>() else { return };
    for tried in &mut both {
        tried.driver.arm_accept_once(0);
        assert_eq!(accepted_now(tried), 0);
    }
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(connect(address));
        peers.push(connect(address));
        for tried in &mut both {
            assert_eq!(accepted_now(tried), 1);
        }
        for tried in &mut both {
            tried.driver.arm_accept_once(0);
            assert_eq!(accepted_now(tried), 0);
        }
    }
}

/// Neither one that was never armed, nor one that has accepted, nor one that was cancelled.
fn a_driver_that_is_not_armed_keeps_no_connection_from_another<D: KernelDriver>() {
    let Some((mut both, address)) = two_of_one_listener::<D>() else { return };
    let [first, second] = &mut both;
    let mut peers = Vec::new();
    first.driver.arm_accept_once(0);
    assert_eq!(accepted_now(first), 0);
    peers.push(connect(address));
    assert_eq!((accepted_now(second), accepted_now(first)), (0, 1));
    first.driver.arm_accept_once(0);
    assert_eq!(accepted_now(first), 0);
    first.driver.cancel_accept(0);
    let (_, result, more) = accepted(first);
    assert_eq!((result.unwrap_err(), more), (Errno::CANCELLED, false));
    second.driver.arm_accept_once(0);
    assert_eq!(accepted_now(second), 0);
    peers.push(connect(address));
    assert_eq!((accepted_now(first), accepted_now(second)), (0, 1));
    // And one that waits when a driver is armed is taken at once.
    peers.push(connect(address));
    first.driver.arm_accept_once(0);
    assert_eq!((accepted_now(first), accepted_now(second)), (1, 0));
}

/// The limit is the process's, and other tests run in this one: this test runs itself in another.
fn accepting_goes_on_when_there_are_descriptors_again<D: KernelDriver>() {
    const ALONE: &str = "RINGWIRE_TEST_ALONE";
    let Some((mut tried, addresses)) = Tried::<D>::open_listening(1) else { return };
    if env::var_os(ALONE).is_none() {
        let thread = std::thread::current();
        let name = thread.name().expect("the test runner names each test's thread");
        let mut alone = Command::new(env::current_exe().unwrap());
        let output = alone.args([name, "--exact"]).env(ALONE, "1").output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
        return;
    }
    let _peers = [connect(addresses[0]), connect(addresses[0])];
    with_descriptors_max(0, || {
        for _ in 0..2 {
            tried.driver.arm_accept(0);
            let (_, result, more) = accepted(&mut tried);
            assert_eq!((result.unwrap_err(), more), (Errno(libc::EMFILE), false));
        }
    });
    tried.driver.arm_accept(0);
    for _ in 0..2 {
        let (_, socket, more) = accepted(&mut tried);
        assert!(more);
        tried.driver.close(socket.expect("who waited is still there"));
    }
}
