//! Ends of a connection that meet other events in one tick.

use socket2::SockRef;

use super::*;

on_both_drivers! {
    bytes_that_are_unread_do_not_hide_that_a_socket_was_shut_down
    a_reset_right_behind_bytes_is_told
}

/// What has come, the shutdown, and what the peer sends behind it meet in one tick, in each order
/// that is possible, with a receive that waits.
fn bytes_that_are_unread_do_not_hide_that_a_socket_was_shut_down<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    for (slot, sent_behind) in [(0, &b""[..]), (1, b"into a socket that takes nothing any more")] {
        let key = key(slot);
        let (socket, peer) = tried.pair();
        tried.driver.arm_receive(key, &socket);
        assert!(tried.tick().is_empty());
        write(&peer, b"unread");
        wait_until(|| socket.unread_bytes() > 0);
        tried.driver.shut_down(key, &socket);
        if !sent_behind.is_empty() {
            write(&peer, sent_behind);
            wait_until(|| is_closed(&socket));
        }
        let mut received = Vec::new();
        tried.until(|driver, completion| match completion {
            Completion::Received { result: Ok(Some(_)), .. } => {
                (!take_bytes(driver, completion, key, &mut received)).then_some(())
            }
            Completion::Received { more, .. } => (!more).then_some(()),
            other => panic!("nothing but a receive is in flight: {other:?}"),
        });
        assert!(b"unread".starts_with(&received), "{received:?}");
        tried.driver.close(socket);
        assert!(tried.tick().is_empty());
    }
}

fn a_reset_right_behind_bytes_is_told<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    tried.driver.arm_receive(key(0), &socket);
    assert!(tried.tick().is_empty());
    write(&peer, b"last words");
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    wait_until(|| is_closed(&socket));
    let mut received = Vec::new();
    let errno = tried.until(|driver, completion| match completion {
        Completion::Received { result: Ok(Some(_)), more, .. } => {
            assert!(take_bytes(driver, completion, key(0), &mut received) == more);
            None
        }
        Completion::Received { result, more, .. } => {
            assert!(!more);
            Some(result.unwrap_err())
        }
        other => panic!("nothing but a receive is in flight: {other:?}"),
    });
    assert_eq!(errno, Errno(libc::ECONNRESET));
    tried.driver.close(socket);
}

/// Whether the connection is over for both sides, as after a reset.
fn is_closed(socket: &KernelSocket) -> bool {
    SockRef::from(&socket.0).peer_addr().is_err()
}

fn wait_until(is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "it does not come to be");
        std::thread::yield_now();
    }
}
