//! The fuzz target that compares with other implementations: tungstenite and fastwebsockets.
//!
//! Never a rule of its own about what is right: a difference is in [`DIVERGENCES`] with its reason,
//! or it is a find.

mod peers;

use ringwire_proto::{
    IncomingLimits, ProtocolError, Role,
    fuzz::{hear, naive::Heard},
};

use peers::{Account, Pieces};

/// Differential: what `Incoming` hears as a server, the others hear too, and where it fails the
/// connection they do, unless [`DIVERGENCES`] says otherwise.
///
/// The first byte chooses the limit, the second the pieces in which the stream arrives.
///
/// # Panics
///
/// At a difference that no entry explains.
pub fn differential(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let ours = case.ours();
    for peer in [Peer::Tungstenite, Peer::Fastwebsockets] {
        let theirs = case.theirs(peer);
        let Some(difference) = first_difference(&ours, &theirs) else { continue };
        assert!(
            DIVERGENCES.iter().any(|divergence| divergence.explains(peer, difference)),
            "{peer:?}: {difference:?}\nours: {ours:?}\ntheirs: {theirs:?}"
        );
    }
}

/// Another implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Peer {
    Tungstenite,
    Fastwebsockets,
}

/// Something a peer is known to do otherwise than we.
#[derive(Debug)]
pub struct Divergence {
    /// Who does it.
    pub peer: Peer,
    /// The seed of this target that shows it.
    pub seed: &'static str,
    /// What the peer does, and why we do not.
    pub reason: &'static str,
    /// Whether this is what our next step and the peer's show.
    is_it: fn(Step<'_>, Step<'_>) -> bool,
}

impl Divergence {
    fn explains(&self, peer: Peer, (ours, theirs): Difference<'_>) -> bool {
        self.peer == peer && (self.is_it)(ours, theirs)
    }
}

/// All of them. What a peer only does later than we is no difference: see `Step::agrees_with`.
pub const DIVERGENCES: &[Divergence] = &[
    Divergence {
        peer: Peer::Tungstenite,
        seed: "length-not-minimal",
        reason: "takes lengths in more bytes than needed; §5.2: the minimal number MUST be used",
        is_it: |ours, theirs| ours.is(ProtocolError::LengthNotMinimal) && theirs.is_event(),
    },
    Divergence {
        peer: Peer::Tungstenite,
        seed: "ping-length-not-minimal",
        reason: "the same in a control frame, where we take the longer form for a longer payload",
        is_it: |ours, theirs| {
            ours.is(ProtocolError::ControlTooLong)
                && theirs.control_bytes().is_some_and(|bytes| bytes <= 125)
        },
    },
    Divergence {
        peer: Peer::Tungstenite,
        seed: "close-code-bad",
        reason: "reports a code that must not be sent as 1002 with words of its own; we fail the \
                 connection with 1002, and report that the peer broke the protocol",
        is_it: |ours, theirs| {
            ours.is(ProtocolError::CloseCode) && theirs.is_close(1002, "Protocol violation")
        },
    },
    Divergence {
        peer: Peer::Tungstenite,
        seed: "close-1014",
        reason: "does not know 1014, which IANA has registered since",
        is_it: |ours, theirs| {
            ours.close_code() == Some(1014) && theirs.is_close(1002, "Protocol violation")
        },
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "close-1014",
        reason: "does not know 1014, which IANA has registered since",
        is_it: |ours, theirs| ours.close_code() == Some(1014) && matches!(theirs, Step::Refusal),
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "mask-missing",
        reason: "takes frames without a mask; §5.1: a server MUST close the connection",
        is_it: |ours, theirs| ours.is(ProtocolError::Unmasked) && theirs.is_event(),
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "length-not-minimal",
        reason: "takes lengths in more bytes than needed; §5.2: the minimal number MUST be used",
        is_it: |ours, theirs| ours.is(ProtocolError::LengthNotMinimal) && theirs.is_event(),
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "ping-length-not-minimal",
        reason: "the same in a control frame, where we take the longer form for a longer payload",
        is_it: |ours, theirs| {
            ours.is(ProtocolError::ControlTooLong)
                && theirs.control_bytes().is_some_and(|bytes| bytes <= 125)
        },
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "pong-too-long",
        reason: "checks the length of a Ping, not of a Pong or a Close; §5.5: 125 bytes at most",
        is_it: |ours, theirs| {
            ours.is(ProtocolError::ControlTooLong)
                && !matches!(theirs, Step::Event(Heard::Ping(_)))
                && theirs.control_bytes().is_some_and(|bytes| bytes > 125)
        },
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "fragments-too-big",
        reason: "limits a frame and not the message, so that fragments may cost any memory",
        is_it: |ours, theirs| ours.is(ProtocolError::MessageTooBig) && theirs.is_event(),
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "message-replaced",
        reason: "forgets an unfinished message when another one begins in fragments; §5.4: the \
                 fragments of two messages MUST NOT be interleaved",
        is_it: |ours, theirs| ours.is(ProtocolError::MessageInterrupted) && theirs.is_event(),
    },
    Divergence {
        peer: Peer::Fastwebsockets,
        seed: "character-unfinished-in-fragments",
        reason: "drops an unfinished character at the end of a fragmented text; §8.1: text that \
                 is not UTF-8 fails the connection",
        is_it: |ours, theirs| {
            ours.is(ProtocolError::InvalidUtf8) && matches!(theirs, Step::Event(Heard::Text(_)))
        },
    },
];

/// The limit, and the stream in its pieces.
struct Case<'a> {
    limits: IncomingLimits,
    stream: Pieces<'a>,
}

impl<'a> Case<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let (&[limit, piece_bytes], rest) = data.split_first_chunk::<2>()?;
        let limits = IncomingLimits {
            // To the others the limit is one of control frames too.
            message_bytes_max: (usize::from(limit) * 16).max(125),
            // The others do not count fragments.
            fragment_charge_bytes: 0,
        };
        let piece_bytes = if piece_bytes == 0 { rest.len().max(1) } else { piece_bytes.into() };
        Some(Self { limits, stream: Pieces { rest, piece_bytes } })
    }

    fn ours(&self) -> Account<ProtocolError> {
        let Pieces { rest, piece_bytes } = self.stream;
        match hear(Role::Server, &self.limits, rest, piece_bytes) {
            Ok(heard) => Account { heard, failure: None },
            Err((heard, error)) => Account { heard, failure: Some(error) },
        }
    }

    fn theirs(&self, peer: Peer) -> Account<String> {
        let hear = match peer {
            Peer::Tungstenite => peers::tungstenite,
            Peer::Fastwebsockets => peers::fastwebsockets,
        };
        hear(self.stream, self.limits.message_bytes_max)
    }
}

/// What an implementation does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    Event(&'a Heard),
    /// We fail the connection.
    Failure(ProtocolError),
    /// A peer does. Its words for it are not compared: it may check in another order.
    Refusal,
    /// Nothing: the stream is used up or closed.
    Rest,
}

/// Our step and the peer's.
type Difference<'a> = (Step<'a>, Step<'a>);

/// The first step that is not the same.
fn first_difference<'a>(
    ours: &'a Account<ProtocolError>,
    theirs: &'a Account<String>,
) -> Option<Difference<'a>> {
    let same = ours.heard.iter().zip(&theirs.heard).take_while(|(ours, theirs)| ours == theirs);
    let next = same.count();
    let our_end = ours.failure.map_or(Step::Rest, Step::Failure);
    let their_end = theirs.failure.as_ref().map_or(Step::Rest, |_| Step::Refusal);
    let ours = ours.heard.get(next).map_or(our_end, Step::Event);
    let theirs = theirs.heard.get(next).map_or(their_end, Step::Event);
    (!ours.agrees_with(theirs)).then_some((ours, theirs))
}

impl Step<'_> {
    /// We fail at the byte that breaks a rule. The others may want the rest of the frame first,
    /// which may be missing; not so if only a whole frame can break the rule.
    fn agrees_with(self, theirs: Step<'_>) -> bool {
        use ProtocolError::{CloseCode, CloseReason, CloseTruncated};
        match (self, theirs) {
            (Step::Failure(_), Step::Refusal) => true,
            (Step::Failure(CloseCode | CloseReason | CloseTruncated), Step::Rest) => false,
            (Step::Failure(_), Step::Rest) => true,
            (ours, theirs) => ours == theirs,
        }
    }

    fn is(self, error: ProtocolError) -> bool {
        self == Step::Failure(error)
    }

    fn is_event(self) -> bool {
        matches!(self, Step::Event(_))
    }

    fn is_close(self, code: u16, reason: &str) -> bool {
        self == Step::Event(&Heard::Close(code, reason.into()))
    }

    fn close_code(self) -> Option<u16> {
        match self {
            Step::Event(Heard::Close(code, _)) => Some(*code),
            _ => None,
        }
    }

    /// The length of the payload of a control frame.
    fn control_bytes(self) -> Option<usize> {
        match self {
            Step::Event(Heard::Ping(payload) | Heard::Pong(payload)) => Some(payload.len()),
            Step::Event(Heard::Close(1005, _)) => Some(0),
            Step::Event(Heard::Close(_, reason)) => Some(2 + reason.len()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    fn seed(name: &str) -> Vec<u8> {
        let mut seeds = seeds().into_iter().filter(|seed| seed.target == "differential");
        seeds.find(|seed| seed.name == name).expect("a seed of this name").bytes
    }

    #[test]
    fn each_divergence_is_shown_by_its_seed_and_by_no_other_entry() {
        for divergence in DIVERGENCES {
            let Divergence { peer, seed: name, reason, .. } = *divergence;
            let data = seed(name);
            let case = Case::read(&data).unwrap();
            let (ours, theirs) = (case.ours(), case.theirs(peer));
            let difference = first_difference(&ours, &theirs)
                .unwrap_or_else(|| panic!("{peer:?} has changed; it no longer {reason}"));
            let explaining = DIVERGENCES.iter().filter(|other| other.explains(peer, difference));
            let seeds: Vec<_> = explaining.map(|divergence| divergence.seed).collect();
            assert_eq!(seeds, [name], "{peer:?}: {difference:?}");
        }
    }

    #[test]
    fn a_difference_without_an_entry_is_found() {
        let text = Heard::Text(b"a".into());
        let other = Heard::Binary(b"a".into());
        let failure = Step::Failure(ProtocolError::ReservedBits);
        for difference in [
            (Step::Event(&text), Step::Event(&other)),
            (Step::Event(&text), Step::Rest),
            (Step::Event(&text), Step::Refusal),
            (Step::Rest, Step::Event(&text)),
            (Step::Rest, Step::Refusal),
            (failure, Step::Event(&text)),
            (Step::Failure(ProtocolError::CloseTruncated), Step::Rest),
        ] {
            let (ours, theirs) = difference;
            assert!(!ours.agrees_with(theirs), "{difference:?}");
            for peer in [Peer::Tungstenite, Peer::Fastwebsockets] {
                assert!(!DIVERGENCES.iter().any(|entry| entry.explains(peer, difference)));
            }
        }
    }

    #[test]
    fn a_stream_without_faults_is_heard_alike_by_all() {
        let data = seed("fragments");
        let case = Case::read(&data).unwrap();
        let expected = [Heard::Ping(b"between".into()), Heard::Text(b"Hello".into())];
        assert_eq!(case.ours().heard, expected);
        for peer in [Peer::Tungstenite, Peer::Fastwebsockets] {
            assert_eq!(case.theirs(peer), Account { heard: expected.to_vec(), failure: None });
        }
    }
}
