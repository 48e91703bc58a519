//! Sends, and the ends of a connection.

use std::io::{ErrorKind, Read};
use std::rc::Rc;

use socket2::SockRef;

use super::*;
use crate::driver::{Outbound, Received, Run};

on_both_drivers! {
    a_long_send_arrives_whole_however_the_peer_reads
    a_send_waits_until_the_peer_reads
    bytes_are_sent_from_where_they_are
    a_send_to_whoever_is_gone_fails
    shutting_down_ends_the_receive_and_the_send
    the_peer_still_writes_behind_our_fin
    what_is_not_acknowledged_is_known
}

/// More than the kernel takes from one side and keeps for the other.
const LONG_BYTES: usize = 8 << 20;

impl<D: KernelDriver> Tried<D> {
    /// A pair of sockets between which little fits.
    fn narrow_pair(&self) -> (KernelSocket, TcpStream) {
        let (socket, peer) = self.pair();
        let descriptor = &socket.0;
        SockRef::from(descriptor).set_send_buffer_size(64 << 10).unwrap();
        SockRef::from(&peer).set_recv_buffer_size(64 << 10).unwrap();
        (socket, peer)
    }
}

fn sent(completion: Completion<KernelSocket>) -> (Result<u32, Errno>, Outbound) {
    match completion {
        Completion::Sent { key: its, result, outbound } if its == key(0) => (result, outbound),
        other => panic!("nothing but a send is in flight: {other:?}"),
    }
}

/// Reads what is there.
fn read(mut peer: &TcpStream, into: &mut Vec<u8>) {
    let mut piece = [0; 10_000];
    match peer.read(&mut piece) {
        Ok(bytes) => into.extend_from_slice(&piece[..bytes]),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
}

/// Fills the socket until the kernel takes no more, and a send waits; how many bytes it has taken.
/// It may take a few more when it has passed some on.
fn fill<D: KernelDriver>(tried: &mut Tried<D>, socket: &KernelSocket) -> usize {
    let mut taken = 0;
    tried.driver.send(key(0), socket, Outbound::Own(pattern(LONG_BYTES)), 0);
    for _ in 0..1_000 {
        let mut is_still = true;
        for completion in tried.tick_after(Wait::Millis(20)) {
            let (result, outbound) = sent(completion);
            taken += result.unwrap() as usize;
            assert!(taken < LONG_BYTES, "the kernel takes all of it");
            tried.driver.send(key(0), socket, outbound, taken);
            is_still = false;
        }
        if is_still && tried.driver.completions_waiting() == 0 {
            return taken;
        }
    }
    panic!("the kernel takes more for ever")
}

/// Sends on until the send fails.
fn errno_of_send<D: KernelDriver>(tried: &mut Tried<D>, socket: &KernelSocket) -> Errno {
    tried.until(|driver, completion| match sent(completion) {
        (Ok(_), outbound) => {
            driver.send(key(0), socket, outbound, 0);
            None
        }
        (Err(errno), _) => Some(errno),
    })
}

fn a_long_send_arrives_whole_however_the_peer_reads<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.narrow_pair();
    peer.set_nonblocking(true).unwrap();
    let (mut taken, mut shorts) = (0, 0);
    let mut arrived = Vec::new();
    tried.driver.send(key(0), &socket, Outbound::Own(pattern(LONG_BYTES)), 0);
    let until = Instant::now() + PATIENCE;
    while arrived.len() < LONG_BYTES {
        for completion in tried.tick() {
            let (result, outbound) = sent(completion);
            taken += result.unwrap() as usize;
            assert_eq!(outbound.bytes(), LONG_BYTES, "it comes back as it was");
            if taken < LONG_BYTES {
                shorts += 1;
                tried.driver.send(key(0), &socket, outbound, taken);
            }
        }
        read(&peer, &mut arrived);
        assert!(Instant::now() < until, "{} bytes arrived", arrived.len());
    }
    assert_eq!(taken, LONG_BYTES);
    assert!(shorts > 0, "the kernel cannot have taken it at once");
    assert!(arrived == pattern(LONG_BYTES), "in order and once");
    tried.driver.close(socket);
}

fn a_send_waits_until_the_peer_reads<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, mut peer) = tried.narrow_pair();
    let taken = fill(&mut tried, &socket);
    let mut arrived = vec![0; taken];
    peer.read_exact(&mut arrived).unwrap();
    let (result, _) = tried.until(|_, completion| Some(sent(completion)));
    let more = result.unwrap() as usize;
    arrived.resize(taken + more, 0);
    peer.read_exact(&mut arrived[taken..]).unwrap();
    assert!(arrived == pattern(LONG_BYTES)[..taken + more]);
    tried.driver.close(socket);
}

fn bytes_are_sent_from_where_they_are<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, mut peer) = tried.pair();
    write(&peer, b"0123456789");
    tried.driver.arm_receive_once(key(0), &socket);
    let lease = tried.until(|_, completion| match completion {
        Completion::Received { result, .. } => Some(result.unwrap().unwrap()),
        other => panic!("nothing but a receive is in flight: {other:?}"),
    });
    let run = Run { bytes: Rc::new(b"abcdefgh".to_vec()), start: 2, end: 7 };
    let received = Received { lease, start: 3, end: 9 };
    let outbounds = [
        (Outbound::Own(b"own".to_vec()), 1, &b"wn"[..]),
        (Outbound::Run(run), 1, b"defg"),
        (Outbound::Received(received), 2, b"5678"),
    ];
    for (outbound, offset, expected) in outbounds {
        tried.driver.send(key(0), &socket, outbound, offset);
        let (result, outbound) = tried.until(|_, completion| Some(sent(completion)));
        assert_eq!(result.unwrap() as usize, expected.len());
        let mut arrived = vec![0; expected.len()];
        peer.read_exact(&mut arrived).unwrap();
        assert_eq!(arrived, expected);
        if let Outbound::Received(received) = outbound {
            tried.driver.recycle(received.lease);
        }
    }
    tried.driver.close(socket);
}

fn a_send_to_whoever_is_gone_fails<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.pair();
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let mut errnos = Vec::new();
    for _ in 0..2 {
        tried.driver.send(key(0), &socket, Outbound::Own(b"anybody?".to_vec()), 0);
        let (result, _) = tried.until(|_, completion| Some(sent(completion)));
        errnos.push(result.unwrap_err());
    }
    // The kernel tells an error once; a broken pipe it tells each time, and no signal comes.
    assert_eq!(errnos, [Errno(libc::ECONNRESET), Errno(libc::EPIPE)]);
    tried.driver.close(socket);
}

fn shutting_down_ends_the_receive_and_the_send<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, _peer) = tried.narrow_pair();
    fill(&mut tried, &socket);
    tried.driver.arm_receive(key(0), &socket);
    tried.driver.shut_down(key(0), &socket);
    let (mut receive_is_over, mut send_is_over) = (false, false);
    tried.until(|driver, completion| {
        match completion {
            Completion::Received { result, more, .. } => {
                assert_eq!((result, more), (Ok(None), false));
                receive_is_over = true;
            }
            completion => match sent(completion) {
                // Taken before.
                (Ok(_), outbound) => driver.send(key(0), &socket, outbound, 0),
                (Err(errno), _) => {
                    assert_eq!(errno, Errno(libc::EPIPE));
                    send_is_over = true;
                }
            },
        }
        (receive_is_over && send_is_over).then_some(())
    });
    tried.driver.close(socket);
    assert!(tried.tick().is_empty());
}

fn the_peer_still_writes_behind_our_fin<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, mut peer) = tried.pair();
    tried.driver.arm_receive(key(0), &socket);
    tried.driver.send(key(0), &socket, Outbound::Own(b"last".to_vec()), 0);
    let (result, _) = tried.until(|_, completion| Some(sent(completion)));
    assert_eq!(result, Ok(4));
    tried.driver.shut_down_write(&socket);
    let mut arrived = Vec::new();
    peer.read_to_end(&mut arrived).unwrap();
    assert_eq!(arrived, b"last");
    write(&peer, b"answer");
    assert_eq!(tried.receive_bytes(key(0), &socket, 6), b"answer");
    tried.end(key(0), socket);
}

fn what_is_not_acknowledged_is_known<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let (socket, peer) = tried.narrow_pair();
    assert_eq!(socket.unacknowledged_bytes(), 0);
    fill(&mut tried, &socket);
    assert!(socket.unacknowledged_bytes() > 0, "the kernel has more than the peer has");
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(errno_of_send(&mut tried, &socket), Errno(libc::ECONNRESET));
    tried.driver.close(socket);
}
