//! The publishes of one tick in program order, and the part of each subscriber.
//!
//! A publish touches no subscriber. A short frame is appended to the tick's shared bytes; a long
//! frame gets its own memory. At the end of the tick one [`Delivery`] is made for each *set* of
//! topics that has a subscriber, and every subscriber of that set gets references to it. So the
//! cost of a subscriber does not depend on the number of topics or bytes published, and a
//! reference keeps no memory that its connection does not send.
//!
//! The `position` of a connection is the end of the log up to which it has been served. A direct
//! send first serves the earlier publishes. Sending is in `shard/send.rs`.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use ringwire_proto::Header;

use crate::connection::write_buffer::COPY_BYTES_MAX;
use crate::driver::Run;
use crate::fanout::topic::{Subscriptions, TopicId};

/// Frames published to one topic: consecutive short ones, or one long one.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) topic: TopicId,
    /// Where it stands in the log of all time.
    pub(crate) start: u64,
    pub(crate) end: u64,
    place: Place,
}

/// Where the bytes of a piece are.
#[derive(Clone, Debug)]
enum Place {
    /// In the tick's shared bytes, from this offset on.
    Short {
        offset: usize,
    },
    Long(Rc<Vec<u8>>),
}

impl Piece {
    fn bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// How many bytes it has behind `position`.
    pub(crate) fn bytes_after(&self, position: u64) -> usize {
        (self.end - position.clamp(self.start, self.end)) as usize
    }

    /// What it has behind `position`. `short` are the tick's shared bytes.
    pub(crate) fn part_after(&self, position: u64, short: &Rc<Vec<u8>>) -> Part {
        let served_bytes = (position.clamp(self.start, self.end) - self.start) as usize;
        match &self.place {
            Place::Short { offset } => Part::Copied(Run {
                bytes: Rc::clone(short),
                start: (offset + served_bytes) as u32,
                end: (offset + self.bytes()) as u32,
            }),
            Place::Long(bytes) => Part::Shared(Run::whole(bytes)),
        }
    }
}

/// Part of what a subscriber gets.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// To be sent from where it is: all of the run's memory is sent.
    Shared(Run),
    /// To be copied: the run's memory holds much else. At most a few kilobytes.
    Copied(Run),
}

impl Part {
    pub(crate) fn run(&self) -> &Run {
        let (Self::Shared(run) | Self::Copied(run)) = self;
        run
    }
}

/// What every subscriber of one set of topics gets of a tick.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) parts: Vec<Part>,
    pub(crate) bytes: usize,
}

/// The frames published in this tick.
#[derive(Default)]
pub(crate) struct PublishLog {
    /// Short frames, one behind the other; nobody else refers to them while the tick lasts.
    short: Rc<Vec<u8>>,
    pieces: Vec<Piece>,
    /// Position of the tick's first byte in the log of all time.
    start: u64,
    end: u64,
    /// Shared bytes of earlier ticks, oldest first. Once their subscribers have sent them, their
    /// memory is used again.
    retired: VecDeque<Rc<Vec<u8>>>,
    /// The most that was published in one tick so far.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) tick_bytes_max: usize,
}

/// Shared bytes kept for reuse. More are in use only while some subscriber is slow, and then it
/// is the subscribers that keep them.
const RETIRED_MAX: usize = 8;
/// Shared bytes that a burst has grown beyond this are not kept for reuse: a reference to them
/// keeps all of their memory.
const RETIRED_BYTES_MAX: usize = 64 << 10;
/// Shared bytes of this size are never too long for what is in them.
const RETIRED_BYTES_SMALL: usize = 1 << 10;
/// A list of parts longer than this is not kept for reuse.
const SPARE_PARTS_MAX: usize = 64;
/// Most bytes published in one tick of one shard; offsets are 32 bits wide. Reached only by a
/// handler that publishes a gigabyte at once.
const LOG_BYTES_MAX: usize = 1 << 30;

/// A tick that is over.
pub(crate) struct SealedTick {
    short: Rc<Vec<u8>>,
    pieces: Vec<Piece>,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl PublishLog {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Position in the log of all time behind everything published so far.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether a frame of that size still fits into this tick.
    pub(crate) fn has_room(&self, frame_bytes: usize) -> bool {
        (self.end - self.start) as usize + frame_bytes <= LOG_BYTES_MAX
    }

    /// Adds one frame of `bytes` bytes, which `append` writes, for the subscribers of `topic`.
    pub(crate) fn append(
        &mut self,
        topic: TopicId,
        bytes: usize,
        append: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.end;
        let end = start + bytes as u64;
        self.end = end;
        if bytes > COPY_BYTES_MAX {
            let mut long = Vec::with_capacity(bytes);
            append(&mut long);
            debug_assert_eq!(long.len(), bytes);
            return self.pieces.push(Piece { topic, start, end, place: Place::Long(long.into()) });
        }
        let short = Rc::get_mut(&mut self.short).expect("shared only when the tick is over");
        let offset = short.len();
        append(short);
        debug_assert_eq!(short.len(), offset + bytes);
        match self.pieces.last_mut() {
            Some(last) if last.topic == topic && matches!(last.place, Place::Short { .. }) => {
                last.end = end;
            }
            _ => self.pieces.push(Piece { topic, start, end, place: Place::Short { offset } }),
        }
    }

    /// The pieces that reach beyond `position`, by index.
    pub(crate) fn pieces_after(&self, position: u64) -> Range<usize> {
        self.pieces.partition_point(|piece| piece.end <= position)..self.pieces.len()
    }

    pub(crate) fn piece(&self, index: usize) -> &Piece {
        &self.pieces[index]
    }

    /// The tick's shared bytes so far. To be dropped before the next publish.
    pub(crate) fn short(&self) -> Rc<Vec<u8>> {
        Rc::clone(&self.short)
    }

    /// Ends the tick. Give it back with [`restart`](Self::restart).
    pub(crate) fn seal(&mut self) -> SealedTick {
        let fresh = self.unused_bytes();
        let mut short = std::mem::replace(&mut self.short, fresh);
        if short.capacity() > 4 * short.len().max(RETIRED_BYTES_SMALL) {
            // A burst has left it long; whoever sends a few of its bytes must not keep it all.
            Rc::get_mut(&mut short).expect("shared only from here on").shrink_to_fit();
        }
        #[cfg(any(test, feature = "sim"))]
        {
            self.tick_bytes_max = self.tick_bytes_max.max((self.end - self.start) as usize);
        }
        if short.capacity() <= RETIRED_BYTES_MAX && short.capacity() > 0 {
            if self.retired.len() == RETIRED_MAX {
                self.retired.pop_front();
            }
            self.retired.push_back(Rc::clone(&short));
        }
        let start = std::mem::replace(&mut self.start, self.end);
        SealedTick { short, pieces: std::mem::take(&mut self.pieces), start, end: self.end }
    }

    /// Takes the emptied list of pieces back, for its memory.
    pub(crate) fn restart(&mut self, mut sealed: SealedTick) {
        sealed.pieces.clear();
        self.pieces = sealed.pieces;
    }

    /// Empty bytes: retired ones nobody refers to any more, else new ones.
    fn unused_bytes(&mut self) -> Rc<Vec<u8>> {
        let unused = self.retired.iter_mut().position(|bytes| Rc::get_mut(bytes).is_some());
        let mut bytes = unused.and_then(|at| self.retired.remove(at)).unwrap_or_default();
        Rc::get_mut(&mut bytes).expect("just seen to be the only reference").clear();
        bytes
    }
}

/// The deliveries of one sealed tick, each made when somebody first asks for it.
#[derive(Default)]
pub(crate) struct Deliveries {
    /// The topics that were published to, sorted.
    topics: Vec<TopicId>,
    by_topic: Vec<Option<Delivery>>,
    by_set: HashMap<Box<[TopicId]>, Delivery>,
    /// The set last asked for.
    set: Vec<TopicId>,
    spare: Spare,
}

/// Empty lists between their uses.
#[derive(Default)]
struct Spare {
    parts: Vec<Vec<Part>>,
    ranges: Vec<Range<usize>>,
}

impl Deliveries {
    /// Begins with a tick of which nothing has been delivered.
    pub(crate) fn begin(&mut self, tick: &SealedTick) {
        self.topics.clear();
        self.topics.extend(tick.pieces.iter().map(|piece| piece.topic));
        self.topics.sort_unstable();
        self.topics.dedup();
        self.by_topic.clear();
        self.by_topic.resize_with(self.topics.len(), || None);
        self.by_set.clear();
    }

    /// How many topics were published to.
    pub(crate) fn topics(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn topic(&self, index: usize) -> TopicId {
        self.topics[index]
    }

    /// What a connection with these subscriptions gets, one of them at least being among the
    /// topics.
    pub(crate) fn of(&mut self, tick: &SealedTick, subscriptions: &Subscriptions) -> &Delivery {
        if let [topic] = self.topics[..] {
            let make = || tick.deliver(&mut self.spare, |of| of == topic);
            return self.by_topic[0].get_or_insert_with(make);
        }
        let mut set = std::mem::take(&mut self.set);
        set.clear();
        set.extend(subscriptions.topics().filter(|topic| self.topics.binary_search(topic).is_ok()));
        set.sort_unstable();
        self.set = set;
        if let [topic] = self.set[..] {
            let index = self.topics.binary_search(&topic).expect("one of the topics");
            let make = || tick.deliver(&mut self.spare, |of| of == topic);
            return self.by_topic[index].get_or_insert_with(make);
        }
        if !self.by_set.contains_key(&self.set[..]) {
            let is_wanted = |topic| self.set.binary_search(&topic).is_ok();
            let delivery = tick.deliver(&mut self.spare, is_wanted);
            self.by_set.insert(self.set[..].into(), delivery);
        }
        &self.by_set[&self.set[..]]
    }

    /// Lets go of the tick's memory.
    pub(crate) fn end(&mut self) {
        for mut delivery in self.by_topic.drain(..).flatten() {
            if self.spare.parts.len() < RETIRED_MAX && delivery.parts.capacity() <= SPARE_PARTS_MAX
            {
                delivery.parts.clear();
                self.spare.parts.push(delivery.parts);
            }
        }
        self.by_set.clear();
        // As many sets as subscribers once do not keep their places for ever.
        self.by_set.shrink_to(64);
    }
}

impl SealedTick {
    /// The tick's shared bytes.
    pub(crate) fn short(&self) -> &Rc<Vec<u8>> {
        &self.short
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// What is published to the topics that are wanted.
    fn deliver(&self, spare: &mut Spare, is_wanted: impl Fn(TopicId) -> bool) -> Delivery {
        let mut delivery =
            Delivery { parts: spare.parts.pop().unwrap_or_default(), ..Delivery::default() };
        // Short pieces in a row, by their places in the shared bytes.
        let mut ranges = std::mem::take(&mut spare.ranges);
        for piece in self.pieces.iter().filter(|piece| is_wanted(piece.topic)) {
            delivery.bytes += piece.bytes();
            match &piece.place {
                Place::Short { offset } => {
                    let range = *offset..offset + piece.bytes();
                    match ranges.last_mut() {
                        Some(last) if last.end == range.start => last.end = range.end,
                        _ => ranges.push(range),
                    }
                }
                Place::Long(bytes) => {
                    self.deliver_short(&mut ranges, &mut delivery);
                    delivery.parts.push(Part::Shared(Run::whole(bytes)));
                }
            }
        }
        self.deliver_short(&mut ranges, &mut delivery);
        spare.ranges = ranges;
        delivery
    }

    /// Adds these ranges of the shared bytes: by reference if they are most of what is shared, to
    /// be copied if they are short, else gathered once for all who get them.
    fn deliver_short(&self, ranges: &mut Vec<Range<usize>>, delivery: &mut Delivery) {
        let part = |range: &Range<usize>| Run {
            bytes: Rc::clone(&self.short),
            start: range.start as u32,
            end: range.end as u32,
        };
        let bytes: usize = ranges.iter().map(Range::len).sum();
        match &ranges[..] {
            [] => return,
            [range] if bytes * 2 >= self.short.len() => {
                delivery.parts.push(Part::Shared(part(range)));
            }
            several if bytes <= COPY_BYTES_MAX => {
                delivery.parts.extend(several.iter().map(|range| Part::Copied(part(range))));
            }
            several => {
                let mut gathered = Vec::with_capacity(bytes);
                several.iter().for_each(|range| {
                    gathered.extend_from_slice(&self.short[range.clone()]);
                });
                delivery.parts.push(Part::Shared(Run::whole(&gathered.into())));
            }
        }
        ranges.clear();
    }
}

/// The frames in a run, each with its header.
pub(crate) fn frames(run: &Run) -> impl Iterator<Item = Run> {
    let mut rest = run.clone();
    std::iter::from_fn(move || {
        let (header, header_bytes) = Header::decode(rest.as_slice()).ok()??;
        let end = rest.start + header_bytes as u32 + header.payload_bytes as u32;
        let frame = Run { end, ..rest.clone() };
        rest.start = end;
        Some(frame)
    })
}

#[cfg(test)]
mod tests;
