//! Receives: into buffers of the pool and into one of their own, and the ends of a stream.

use std::io::{ErrorKind, Read};

use socket2::SockRef;

use super::*;
use crate::driver::RECEIVED_BYTES_PER_TICK_MAX;

on_both_drivers! {
    bytes_come_in_order_and_the_end_behind_them
    a_reset_is_told
    a_receive_of_one_completes_once
    a_receive_into_a_buffer_of_its_own
    a_receive_that_is_ended_loses_nothing
    a_receive_that_waits_ends_as_cancelled
    without_a_buffer_a_receive_fails_and_loses_nothing
    urgent_data_hides_nothing
    a_tick_brings_a_bounded_share_of_what_has_arrived
    who_sends_without_a_pause_keeps_nobody_waiting
    a_new_tenant_gets_nothing_of_the_earlier_one
    what_is_unread_is_known
}

fn bytes_come_in_order_and_the_end_behind_them<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    let sent = pattern(10 * BUFFER_BYTES + 7);
    write(&peer, &sent);
    drop(peer);
    tried.driver.arm_receive(key(0), &socket);
    let mut received = Vec::new();
    tried.until(|driver, completion| match completion {
        Completion::Received { result: Ok(None), more, .. } => {
            assert!(!more, "behind the end nothing comes");
            Some(())
        }
        completion => {
            if !take_bytes(driver, completion, key(0), &mut received) {
                driver.arm_receive(key(0), &socket);
            }
            None
        }
    });
    assert_eq!(received, sent);
    tried.driver.close(socket);
    assert!(tried.tick().is_empty());
}

fn a_reset_is_told<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    tried.driver.arm_receive(key(0), &socket);
    assert!(tried.tick().is_empty());
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let (result, more) = tried.until(|_, completion| match completion {
        Completion::Received { result, more, .. } => Some((result, more)),
        other => panic!("nothing but a receive is in flight: {other:?}"),
    });
    assert_eq!((result.unwrap_err(), more), (Errno(libc::ECONNRESET), false));
    tried.driver.close(socket);
}

fn a_receive_of_one_completes_once<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    let sent = pattern(3 * BUFFER_BYTES);
    write(&peer, &sent);
    let mut received = Vec::new();
    for times in 1..=3 {
        tried.driver.arm_receive_once(key(0), &socket);
        let more = tried.until(|driver, completion| {
            Some(take_bytes(driver, completion, key(0), &mut received))
        });
        assert!(!more);
        assert_eq!(received, sent[..times * BUFFER_BYTES]);
        assert!(tried.tick().is_empty() && tried.tick().is_empty(), "once and no more");
    }
    tried.driver.close(socket);
}

fn a_receive_into_a_buffer_of_its_own<D: KernelDriver>() {
    const AT_MOST: usize = 100;
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    let filled = |tried: &mut Tried<D>, buffer| {
        tried.driver.receive_into(key(0), &socket, buffer, AT_MOST);
        tried.until(|_, completion| match completion {
            Completion::Filled { key: its, result, buffer } if its == key(0) => {
                Some((result.unwrap(), buffer))
            }
            other => panic!("nothing but this receive is in flight: {other:?}"),
        })
    };
    let sent = pattern(2 * AT_MOST + 9);
    write(&peer, &sent);
    // It has room for more, and is asked for so much.
    let mut buffer = Vec::with_capacity(8 * AT_MOST);
    buffer.extend_from_slice(b"before");
    for expected in [AT_MOST, AT_MOST, 9] {
        let (bytes, its) = filled(&mut tried, buffer);
        buffer = its;
        assert_eq!(bytes as usize, expected);
    }
    assert_eq!(buffer, [b"before", &sent[..]].concat());
    assert!(tried.tick().is_empty());
    drop(peer);
    let (bytes, its) = filled(&mut tried, buffer);
    assert_eq!((bytes, its.len()), (0, 6 + sent.len()), "the end");
    tried.driver.close(socket);
}

fn a_receive_that_is_ended_loses_nothing<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    let sent = pattern(5 * BUFFER_BYTES);
    write(&peer, &sent);
    tried.driver.arm_receive(key(0), &socket);
    tried.driver.end_receive(key(0), &socket);
    let mut received = Vec::new();
    tried.until(|driver, completion| match completion {
        Completion::Received { result: Err(errno), more, .. } => {
            assert_eq!((errno, more), (Errno::CANCELLED, false));
            Some(())
        }
        completion => (!take_bytes(driver, completion, key(0), &mut received)).then_some(()),
    });
    assert!(tried.tick().is_empty() && tried.tick().is_empty(), "it is over");
    tried.driver.arm_receive(key(0), &socket);
    let left = sent.len() - received.len();
    received.extend(tried.receive_bytes(key(0), &socket, left));
    assert_eq!(received, sent);
    tried.end(key(0), socket);
}

fn a_receive_that_waits_ends_as_cancelled<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, _peer) = tried.pair();
    tried.driver.arm_receive(key(0), &socket);
    assert!(tried.tick().is_empty());
    tried.driver.end_receive(key(0), &socket);
    let (result, more) = tried.until(|_, completion| match completion {
        Completion::Received { result, more, .. } => Some((result, more)),
        other => panic!("nothing but a receive is in flight: {other:?}"),
    });
    assert_eq!((result.unwrap_err(), more), (Errno::CANCELLED, false));
    // It may have ended by itself while it was being ended.
    tried.driver.end_receive(key(0), &socket);
    assert!(tried.tick().is_empty() && tried.tick().is_empty());
    tried.driver.close(socket);
}

fn without_a_buffer_a_receive_fails_and_loses_nothing<D: KernelDriver>() {
    const FEW: usize = 4;
    let Some(mut tried) = Tried::<D>::open_with(FEW) else { return };
    let (socket, peer) = tried.pair();
    let sent = pattern(3 * FEW * BUFFER_BYTES);
    write(&peer, &sent);
    let mut received = Vec::new();
    for _ in 0..2 {
        let mut leases = Vec::new();
        tried.driver.arm_receive(key(0), &socket);
        tried.until(|driver, completion| {
            let Completion::Received { result, more, .. } = completion else {
                panic!("nothing but a receive is in flight: {completion:?}")
            };
            match result {
                Ok(lease) => {
                    leases.extend(lease);
                    if !more {
                        driver.arm_receive(key(0), &socket);
                    }
                    None
                }
                Err(errno) => {
                    assert_eq!((errno, more), (Errno::NO_BUFFERS, false));
                    Some(())
                }
            }
        });
        assert_eq!(leases.len(), FEW);
        for lease in leases {
            received.extend_from_slice(tried.driver.received(&lease));
            tried.driver.recycle(lease);
        }
    }
    tried.driver.arm_receive(key(0), &socket);
    received.extend(tried.receive_bytes(key(0), &socket, sent.len() - received.len()));
    assert_eq!(received, sent);
    tried.end(key(0), socket);
}

/// A receive stops at the mark of urgent data, and more lies behind it. The urgent byte itself is
/// not part of the stream (tcp(7)).
fn urgent_data_hides_nothing<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    tried.driver.arm_receive(key(0), &socket);
    write(&peer, b"before");
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    write(&peer, b"behind");
    assert_eq!(tried.receive_bytes(key(0), &socket, 12), b"beforebehind");
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    write(&peer, b"later");
    assert_eq!(tried.receive_bytes(key(0), &socket, 5), b"later");
    drop(peer);
    tried.until(|_, completion| match completion {
        Completion::Received { result: Ok(None), more: false, .. } => Some(()),
        other => panic!("the end comes: {other:?}"),
    });
    tried.driver.close(socket);
}

/// However many peers send at once, one tick brings a bounded share of it, and the next ones the
/// rest. Without the bound, what a tick answers would no longer lie in the cache.
fn a_tick_brings_a_bounded_share_of_what_has_arrived<D: KernelDriver>() {
    const PEERS: u32 = 6;
    const BYTES_EACH: usize = 32 << 10;
    let Some(mut tried) = Tried::<D>::open() else { return };
    let sockets: Vec<KernelSocket> = (0..PEERS)
        .map(|slot| {
            let (socket, peer) = tried.pair();
            write(&peer, &[7; BYTES_EACH]);
            tried.driver.arm_receive(key(slot), &socket);
            socket
        })
        .collect();
    let (mut total, mut ended) = (0, 0);
    let until = Instant::now() + PATIENCE;
    while ended < PEERS {
        assert!(Instant::now() < until, "{total} bytes came, {ended} peers ended");
        let (mut bytes, mut newest) = (0, 0);
        for completion in tried.tick_after(Wait::Millis(1_000)) {
            let Completion::Received { key, result, more } = completion else { continue };
            match result.expect("the peers only send and leave, and there are buffers") {
                Some(lease) => {
                    newest = lease.bytes();
                    bytes += newest;
                    tried.driver.recycle(lease);
                    if !more {
                        tried.driver.arm_receive(key, &sockets[key.slot as usize]);
                    }
                }
                None => ended += 1,
            }
        }
        assert!(bytes - newest < RECEIVED_BYTES_PER_TICK_MAX, "{bytes} bytes in one tick");
        total += bytes;
    }
    assert_eq!(total, PEERS as usize * BYTES_EACH);
    sockets.into_iter().for_each(|socket| tried.driver.close(socket));
    assert!(tried.tick().is_empty());
}

/// A peer that always has more to say, and fifty that say a word.
fn who_sends_without_a_pause_keeps_nobody_waiting<D: KernelDriver>() {
    const QUIET: u32 = 50;
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (mut sockets, mut peers): (Vec<_>, Vec<_>) = (0..=QUIET).map(|_| tried.pair()).unzip();
    for (slot, socket) in sockets.iter().enumerate() {
        tried.driver.arm_receive(key(slot as u32), socket);
    }
    // Linux 6.1 receives from a socket until it is empty or no buffer is left, and on loopback what
    // is read makes room for what waits to be sent. As in a server, the buffers hold more than both
    // together; each holds twice what is asked for (socket(7)).
    let kept = BUFFERS * BUFFER_BYTES / 8;
    SockRef::from(&sockets[0].0).set_recv_buffer_size(kept).unwrap();
    let mut flooder = peers.remove(0);
    SockRef::from(&flooder).set_send_buffer_size(kept).unwrap();
    flooder.set_nonblocking(true).unwrap();
    for peer in &peers {
        write(peer, b"!");
    }
    let flood = vec![7; 1 << 20];
    let mut heard = 0;
    for _ in 0..100 {
        // As much as there is room for, in each tick.
        while flooder.write(&flood).is_ok() {}
        for completion in tried.tick() {
            let Completion::Received { key, result, more } = completion else { continue };
            if let Ok(Some(lease)) = result {
                heard += u32::from(key.slot > 0);
                tried.driver.recycle(lease);
            }
            if !more {
                tried.driver.arm_receive(key, &sockets[key.slot as usize]);
            }
        }
        if heard == QUIET {
            break;
        }
    }
    assert_eq!(heard, QUIET, "within a hundred ticks");
    // Nothing may be in flight when a socket is closed.
    (0..).zip(&sockets).for_each(|(slot, socket)| tried.driver.shut_down(key(slot), socket));
    let mut left = sockets.len();
    tried.until(|driver, completion| {
        let Completion::Received { result, more, .. } = completion else {
            panic!("nothing but receives are in flight: {completion:?}")
        };
        if let Ok(Some(lease)) = result {
            driver.recycle(lease);
        }
        left -= usize::from(!more);
        (left == 0).then_some(())
    });
    sockets.drain(..).for_each(|socket| tried.driver.close(socket));
}

/// More are ready than one tick serves. Some of those who wait are ended and closed, and others take
/// their slots.
fn a_new_tenant_gets_nothing_of_the_earlier_one<D: KernelDriver>() {
    const SLOTS: u32 = 100;
    const LEAVING: u32 = 20;
    let Some(mut tried) = Tried::<D>::open_with(128) else { return };
    let mut held: Vec<Option<(KernelSocket, TcpStream)>> = Vec::new();
    for slot in 0..SLOTS {
        let (socket, peer) = tried.pair();
        tried.driver.arm_receive(key(slot), &socket);
        write(&peer, &[1; 10]);
        held.push(Some((socket, peer)));
    }
    let new = |slot| Key { slot, generation: 2 };
    let leaving = SLOTS - LEAVING..SLOTS;
    tried.tick().into_iter().for_each(|completion| recycle(&mut tried.driver, completion));
    for slot in leaving.clone() {
        let (socket, _) = held[slot as usize].as_ref().unwrap();
        tried.driver.end_receive(key(slot), socket);
    }
    let mut over = 0;
    let mut newcomers = 0;
    let mut first_bytes = vec![Vec::new(); SLOTS as usize];
    let until = Instant::now() + PATIENCE;
    while newcomers < LEAVING {
        assert!(Instant::now() < until, "{over} are over, {newcomers} newcomers were heard");
        for completion in tried.tick_after(Wait::Millis(1_000)) {
            let Completion::Received { key: its, result, more } = completion else {
                panic!("nothing but receives are in flight: {completion:?}")
            };
            if its.generation == 2 {
                let lease = result.expect("nobody resets").expect("nobody leaves");
                first_bytes[its.slot as usize].extend_from_slice(tried.driver.received(&lease));
                tried.driver.recycle(lease);
                newcomers += 1;
                continue;
            }
            if let Ok(Some(lease)) = result {
                tried.driver.recycle(lease);
            }
            if !more && leaving.contains(&its.slot) {
                over += 1;
                let (socket, _) = held[its.slot as usize].take().expect("it ends once");
                tried.driver.close(socket);
                let (socket, peer) = tried.pair();
                tried.driver.arm_receive(new(its.slot), &socket);
                write(&peer, &[2; 5]);
                held[its.slot as usize] = Some((socket, peer));
            }
        }
    }
    assert_eq!(over, LEAVING);
    for slot in leaving {
        assert_eq!(first_bytes[slot as usize], [2; 5], "slot {slot}");
    }
    for (slot, held) in held.into_iter().enumerate() {
        let (socket, _peer) = held.expect("each slot has a tenant");
        let slot = slot as u32;
        tried.end(if slot < SLOTS - LEAVING { key(slot) } else { new(slot) }, socket);
    }
}

fn recycle<D: Driver>(driver: &mut D, completion: Completion<KernelSocket>) {
    if let Completion::Received { result: Ok(Some(lease)), .. } = completion {
        driver.recycle(lease);
    }
}

fn what_is_unread_is_known<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, mut peer) = tried.pair();
    assert_eq!(socket.unread_bytes(), 0);
    write(&peer, &pattern(BUFFER_BYTES + 10));
    assert_eq!(socket.unread_bytes() as usize, BUFFER_BYTES + 10);
    tried.driver.arm_receive_once(key(0), &socket);
    let mut received = Vec::new();
    tried.until(|driver, completion| Some(take_bytes(driver, completion, key(0), &mut received)));
    assert_eq!((received.len(), socket.unread_bytes()), (BUFFER_BYTES, 10));
    // Closed with input unread: the peer is reset.
    tried.driver.close(socket);
    assert!(tried.tick().is_empty());
    assert_eq!(peer.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
