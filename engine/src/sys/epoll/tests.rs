//! What only the epoll driver does: turns. `sys/contract_tests.rs` has the rest.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use socket2::SockRef;

use super::*;
use crate::driver::Socket as _;

fn driver() -> EpollDriver {
    let config =
        RingConfig { receive_buffers_min: 64, receive_buffers_max: 64, ..RingConfig::default() };
    EpollDriver::new(&config, Vec::new()).expect("every Linux has epoll")
}

/// Loopback may pass bytes on a little later, on a busy machine.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < until, "it does not come to be");
        std::thread::yield_now();
    }
}

/// Sockets whose receives are armed, and their peers, who have all said something.
fn speakers(driver: &mut EpollDriver, count: u32) -> Vec<(Key, KernelSocket, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let speaker = |slot| {
        let key = Key { slot, generation: 1 };
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = KernelSocket::from(std::os::fd::OwnedFd::from(listener.accept().unwrap().0));
        driver.arm_receive(key, &socket);
        peer.write_all(b"!").unwrap();
        wait_until(|| socket.unread_bytes() > 0);
        (key, socket, peer)
    };
    (0..count).map(speaker).collect()
}

fn completions(driver: &mut EpollDriver) -> Vec<Completion<KernelSocket>> {
    let mut completions = Vec::new();
    driver.tick(Wait::No, &mut completions);
    completions
}

/// Recycles what has come; of how many there were bytes.
fn heard(driver: &mut EpollDriver, completions: Vec<Completion<KernelSocket>>) -> usize {
    let leases = completions.into_iter().filter_map(|completion| match completion {
        Completion::Received { result, .. } => result.expect("nobody resets"),
        _ => None,
    });
    leases.map(|lease| driver.recycle(lease)).count()
}

#[test]
fn so_many_have_their_turn_in_a_tick_and_the_others_in_the_next() {
    let mut driver = driver();
    let speakers = speakers(&mut driver, TURNS_PER_TICK_MAX as u32 + 5);
    for expected in [TURNS_PER_TICK_MAX, 5, 0] {
        let completions = completions(&mut driver);
        assert_eq!(heard(&mut driver, completions), expected);
    }
    assert_eq!(driver.completions_waiting(), 0);
    drop(speakers);
}

/// What was over before the tick comes before what the tick receives.
#[test]
fn sends_that_are_over_come_first() {
    let mut driver = driver();
    let speakers = speakers(&mut driver, 1);
    let (key, socket, _peer) = &speakers[0];
    driver.send(*key, socket, Outbound::Own(b"hello".to_vec()), 0);
    let completions = completions(&mut driver);
    let is_in_order =
        matches!(completions[..], [Completion::Sent { .. }, Completion::Received { .. }]);
    assert!(is_in_order, "{completions:?}");
    assert_eq!(heard(&mut driver, completions), 1);
}

/// More sends are over than one tick hands out. What a peer says may answer what it has got, so it
/// comes behind the completion of that: it used to be taken for early input of the request before.
#[test]
fn an_answer_comes_behind_the_send_that_it_answers() {
    let mut driver = driver();
    let speakers = speakers(&mut driver, 2);
    let [(late, late_socket, _peer), (key, socket, _other)] = &speakers[..] else { unreachable!() };
    for _ in 0..SENT_PER_TICK_MAX {
        driver.send(*key, socket, Outbound::Own(vec![0]), 0);
    }
    driver.send(*late, late_socket, Outbound::Own(b"a response".to_vec()), 0);
    let (mut is_sent, mut is_heard) = (false, false);
    while !is_heard {
        for completion in completions(&mut driver) {
            match completion {
                Completion::Sent { key, .. } => is_sent |= key == *late,
                Completion::Received { key, result, .. } => {
                    assert!(is_sent || key != *late, "heard before its send was over");
                    is_heard |= key == *late;
                    driver.recycle(result.unwrap().expect("bytes"));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Only a receive that finds nothing shows that nothing lies behind urgent data.
#[test]
fn a_turn_may_bring_nothing() {
    let mut driver = driver();
    let speakers = speakers(&mut driver, 1);
    SockRef::from(&speakers[0].2).send_out_of_band(b"?").unwrap();
    // Only once it has come can it be looked at.
    let peek = libc::MSG_OOB | libc::MSG_PEEK;
    let mut byte = [std::mem::MaybeUninit::uninit()];
    wait_until(|| SockRef::from(&speakers[0].1.0).recv_with_flags(&mut byte, peek).is_ok());
    let first = completions(&mut driver);
    assert_eq!(heard(&mut driver, first), 1);
    assert_eq!(driver.completions_waiting(), 1);
    let mark = driver.mark();
    assert!(!driver.has_handed_out(mark));
    assert!(completions(&mut driver).is_empty());
    assert_eq!(driver.completions_waiting(), 0);
    assert!(driver.has_handed_out(mark), "it has had its turn");
}

/// More is over than one tick hands out, while others have their turn: those do not count for it.
#[test]
fn what_is_over_is_handed_out_however_many_have_their_turn() {
    let mut driver = driver();
    let speakers = speakers(&mut driver, 10);
    driver.done.extend((0..SENT_PER_TICK_MAX + 5).map(|_| Completion::Woken));
    let mark = driver.mark();
    let first = completions(&mut driver);
    assert_eq!(first.len(), SENT_PER_TICK_MAX + speakers.len());
    assert_eq!(heard(&mut driver, first), speakers.len());
    assert!(!driver.has_handed_out(mark), "five wait");
    assert_eq!(completions(&mut driver).len(), 5);
    assert!(driver.has_handed_out(mark));
}
