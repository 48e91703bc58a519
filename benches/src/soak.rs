//! The parts of a soak: who does what to the server, and the tally of it.
//! Every worker runs until told to stop; none ever expects the server to be fast.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringwire_proto::CloseCode;
use socket2::SockRef;

use crate::client::{Client, Heard};

/// How long a worker waits for an answer before it counts it as lost: far longer than the
/// server's own deadlines.
const PATIENCE: Duration = Duration::from_secs(60);

/// A subscriber that is closed with 1013 must have been this far behind. The publishers
/// together send what a write buffer holds (1 MiB) in somewhat over two seconds, so nobody
/// who is told that his is full can have been less than half of that behind.
const BEHIND_MIN: Duration = Duration::from_secs(1);

/// A `p`, the publisher, its message's number and when it was sent.
const PUBLISH_BYTES_MIN: usize = 1 + 1 + 8 + 8;

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was done, and what came of it.
        #[derive(Debug, Default)]
        pub struct Tally {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl Tally {
            /// Every counter with its name.
            #[must_use]
            pub fn lines(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

tally! {
    /// Messages sent for an echo.
    echoes_sent,
    /// Echoes that came back, byte for byte.
    echoes_received,
    /// Echoes under way when the server was stopped: lost with cause.
    echoes_interrupted,
    /// Echoes that did not come, or wrong ones. Must be 0.
    echoes_lost,
    /// Publishes sent.
    publishes_sent,
    /// Publishes received, by all subscribers together.
    publishes_received,
    /// Publishes a subscriber was connected for and did not get. Must be 0.
    publishes_lost,
    /// Connections opened and left in every way there is.
    churned,
    /// Peers that did not read and were closed or cut off for it.
    slow_readers_ended,
    /// Floods and violations answered with the right close code.
    floods_answered,
    /// Floods and violations answered in another way. Must be 0.
    floods_unanswered,
    /// Stops at which the server said 1001.
    drains_announced,
    /// Subscribers closed with 1013 that had been too far behind, for want of CPU on either
    /// side: nothing else here reads too slowly and expects messages.
    subscribers_behind,
    /// Connections that ended otherwise though they did nothing wrong. Must be 0.
    ended_without_cause,
}

impl Tally {
    /// The counters that must be 0, if they are not.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, u64)> {
        const FAULTS: [&str; 4] =
            ["echoes_lost", "publishes_lost", "floods_unanswered", "ended_without_cause"];
        let lines = self.lines().into_iter();
        lines.filter(|(name, count)| FAULTS.contains(name) && *count > 0).collect()
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What all workers share.
#[derive(Debug)]
pub struct Soak {
    /// Where the server listens.
    pub addr: SocketAddr,
    /// Set when the soak is over.
    pub over: AtomicBool,
    /// Odd while the server is being stopped and started again.
    pub restarts: AtomicU64,
    /// What came of it.
    pub tally: Tally,
    start: Instant,
    /// Since it was last asked for.
    delay_us_max: AtomicU64,
}

impl Soak {
    /// A soak of the server there, which begins now.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            over: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            tally: Tally::default(),
            start: Instant::now(),
            delay_us_max: AtomicU64::new(0),
        }
    }

    /// The longest that a publish took from its publisher to a subscriber since the last call.
    pub fn take_delay_max(&self) -> Duration {
        Duration::from_micros(self.delay_us_max.swap(0, Ordering::Relaxed))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A connection, as soon as there is a server.
    fn connect(&self) -> Option<Client> {
        while !self.is_over() {
            match Client::connect(self.addr, PATIENCE) {
                Ok(client) => return Some(client),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        None
    }

    /// A well-behaved connection has ended: is there a cause?
    fn note_end(&self, restarts_before: u64, close: Option<CloseCode>, behind: Duration) {
        let has_restarted =
            self.restarts.load(Ordering::SeqCst) != restarts_before || restarts_before % 2 == 1;
        match close {
            Some(CloseCode::GOING_AWAY) => add(&self.tally.drains_announced),
            _ if has_restarted => {}
            Some(CloseCode::TRY_AGAIN_LATER) if behind >= BEHIND_MIN => {
                add(&self.tally.subscribers_behind);
            }
            _ => {
                eprintln!("a connection ended without cause: {close:?}, {behind:?} behind");
                add(&self.tally.ended_without_cause);
            }
        }
    }

    /// Sends messages of many sizes and compares what comes back.
    pub fn echo(&self, mut random: fastrand::Rng) {
        let mut payload = Vec::new();
        while let Some(mut client) = self.connect() {
            let restarts = self.restarts.load(Ordering::SeqCst);
            let close = loop {
                if self.is_over() {
                    return;
                }
                let bytes = [5, 100, 2_000, 20_000, 200_000][random.usize(..5)];
                payload.resize(random.usize(1..bytes), 0);
                random.fill(&mut payload);
                payload[0] = b'e';
                add(&self.tally.echoes_sent);
                if let Err(close) = self.await_echo(&mut client, &payload) {
                    break close;
                }
                add(&self.tally.echoes_received);
            };
            add(&self.tally.echoes_interrupted);
            self.note_end(restarts, close, Duration::ZERO);
        }
    }

    fn await_echo(&self, client: &mut Client, payload: &[u8]) -> Result<(), Option<CloseCode>> {
        let _ = client.send(payload);
        match client.hear() {
            Ok(Heard::Message(echo)) if echo == payload => Ok(()),
            Ok(Heard::Close(code)) => Err(Some(code)),
            Ok(Heard::End) => Err(None),
            other => {
                eprintln!("an echo of {} bytes was lost: {}", payload.len(), describe(&other));
                add(&self.tally.echoes_lost);
                Err(None)
            }
        }
    }

    fn elapsed_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Publishes numbered messages, slowly enough for everybody who reads.
    pub fn publish(&self, publisher: u8, mut random: fastrand::Rng) {
        let mut number = 0u64;
        while let Some(mut client) = self.connect() {
            while !self.is_over() {
                number += 1;
                let mut message = vec![b'p', publisher];
                message.extend_from_slice(&number.to_be_bytes());
                message.extend_from_slice(&self.elapsed_us().to_be_bytes());
                message.resize(PUBLISH_BYTES_MIN + random.usize(..500), b'x');
                if client.send(&message).is_err() {
                    break;
                }
                add(&self.tally.publishes_sent);
                std::thread::sleep(Duration::from_millis(random.u64(..4)));
            }
        }
    }

    /// Subscribes, and expects each publisher's messages without a gap.
    pub fn subscribe(&self) {
        while let Some(mut client) = self.connect() {
            let restarts = self.restarts.load(Ordering::SeqCst);
            if client.send(b"s").is_err() {
                continue;
            }
            let mut newest = [None::<u64>; 256];
            let mut behind = Duration::ZERO;
            let close = loop {
                if self.is_over() {
                    return;
                }
                match client.hear() {
                    Ok(Heard::Message(message)) => {
                        behind = behind.max(self.note_publish(&message, &mut newest));
                    }
                    Ok(Heard::Close(code)) => break Some(code),
                    Ok(Heard::End) | Err(_) => break None,
                }
            };
            self.note_end(restarts, close, behind);
        }
    }

    /// Returns how long the message was under way.
    fn note_publish(&self, message: &[u8], newest: &mut [Option<u64>; 256]) -> Duration {
        let [number, sent_us] = [2..10, 10..PUBLISH_BYTES_MIN]
            .map(|at| u64::from_be_bytes(message[at].try_into().expect("eight bytes")));
        let delay_us = self.elapsed_us().saturating_sub(sent_us);
        self.delay_us_max.fetch_max(delay_us, Ordering::Relaxed);
        let before = newest[usize::from(message[1])].replace(number);
        add(&self.tally.publishes_received);
        if let Some(before) = before {
            let missing = (number - before).saturating_sub(1);
            self.tally.publishes_lost.fetch_add(missing, Ordering::Relaxed);
        }
        Duration::from_micros(delay_us)
    }

    /// Connects and leaves, in every way there is.
    pub fn churn(&self, mut random: fastrand::Rng) {
        while !self.is_over() {
            if random.bool() {
                let Ok(stream) = TcpStream::connect(self.addr) else { continue };
                leave_rudely(stream, &mut random);
            } else if let Ok(mut client) = Client::connect(self.addr, PATIENCE) {
                let _ = client.send(b"e and away");
                if random.bool() {
                    let _ = client.close();
                    while matches!(client.hear(), Ok(Heard::Message(_) | Heard::Close(_))) {}
                } else {
                    leave_rudely(client.into_stream(), &mut random);
                }
            }
            add(&self.tally.churned);
            // Loopback has 28,000 ports, and closed connections keep theirs for a minute.
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    /// Subscribes and does not read, until the server has had enough.
    pub fn read_slowly(&self) {
        while let Some(mut client) = self.connect() {
            if client.send(b"s").is_err() {
                continue;
            }
            // Asks for more than the kernels' buffers and the server's take.
            let request = vec![b'e'; 900_000];
            while !self.is_over() && client.send(&request).is_ok() {}
            add(&self.tally.slow_readers_ended);
        }
    }

    /// Breaks a rule and expects the code that stands for it.
    pub fn flood(&self, mut random: fastrand::Rng) {
        let pings = [0x89, 0x80, 1, 2, 3, 4].repeat(2_000);
        let floods: [(&[u8], CloseCode); 4] = [
            (&pings, CloseCode::POLICY_VIOLATION),
            (&[0x83, 0x80, 0, 0, 0, 0], CloseCode::PROTOCOL_ERROR),
            (&[0x82, 0xFF, 0, 0, 0, 0, 0x7F, 0, 0, 0, 0, 0, 0, 0], CloseCode::MESSAGE_TOO_BIG),
            (&[0x81, 0x81, 0, 0, 0, 0, 0xFF], CloseCode::INVALID_PAYLOAD),
        ];
        while let Some(mut client) = self.connect() {
            let restarts = self.restarts.load(Ordering::SeqCst);
            let (bytes, expected) = floods[random.usize(..floods.len())];
            let _ = client.send_raw(bytes);
            let answered = loop {
                match client.hear() {
                    Ok(Heard::Message(_)) => {}
                    Ok(Heard::Close(code)) => break code == expected,
                    Ok(Heard::End) | Err(_) => break false,
                }
            };
            let is_stopping = self.restarts.load(Ordering::SeqCst) != restarts || restarts % 2 == 1;
            match answered {
                true => add(&self.tally.floods_answered),
                false if is_stopping || self.is_over() => {}
                false => add(&self.tally.floods_unanswered),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What came in the place of an echo, in few words.
fn describe(heard: &std::io::Result<Heard>) -> String {
    match heard {
        Ok(Heard::Message(message)) => {
            let start = &message[..message.len().min(16)];
            format!("{} other bytes came, from {start:?} on", message.len())
        }
        other => format!("{other:?}"),
    }
}

fn leave_rudely(mut stream: TcpStream, random: &mut fastrand::Rng) {
    use std::io::Write;
    if random.bool() {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHos");
    }
    if random.bool() {
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which end counts as what: a soak that forgives too much can find nothing.
    #[test]
    fn only_a_cause_excuses_an_end() {
        const NOW: Duration = Duration::ZERO;
        let cases = [
            (0, Some(CloseCode::GOING_AWAY), NOW, "drains_announced"),
            (0, Some(CloseCode::TRY_AGAIN_LATER), BEHIND_MIN, "subscribers_behind"),
            (0, Some(CloseCode::TRY_AGAIN_LATER), BEHIND_MIN / 2, "ended_without_cause"),
            (0, Some(CloseCode::PROTOCOL_ERROR), BEHIND_MIN, "ended_without_cause"),
            (0, None, BEHIND_MIN, "ended_without_cause"),
            (2, None, NOW, ""),
        ];
        for (restarts, close, behind, counted) in cases {
            let soak = Soak::new("127.0.0.1:1".parse().unwrap());
            soak.restarts.store(restarts, Ordering::SeqCst);
            soak.note_end(0, close, behind);
            for (name, count) in soak.tally.lines() {
                assert_eq!(count, u64::from(name == counted), "{close:?}, {behind:?}: {name}");
            }
        }
    }

    #[test]
    fn a_gap_in_a_publishers_numbers_is_a_loss() {
        let soak = Soak::new("127.0.0.1:1".parse().unwrap());
        let mut newest = [None; 256];
        for number in [5_u64, 6, 9] {
            let message = [&b"p\x01"[..], &number.to_be_bytes(), &[0; 8]].concat();
            soak.note_publish(&message, &mut newest);
        }
        assert_eq!(soak.tally.faults(), [("publishes_lost", 2)]);
    }
}
