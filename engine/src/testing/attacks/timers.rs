//! Timers taken back and set where it hurts, and times that no clock reaches.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::bench::config;
use super::*;
use crate::TimerId;

const MS: Duration = Duration::from_millis(1);

type Fired = Rc<RefCell<Vec<(u64, TimerId)>>>;

/// Has every timer that fires be noted, with the time since the clock began, and do this.
fn on_each(
    bench: &Bench,
    times: usize,
    act: impl Fn(&mut At<'_, '_>, TimerId) + Clone + 'static,
) -> Fired {
    let fired = Fired::default();
    arm_next(&bench.shared, times, act, Rc::clone(&fired));
    fired
}

fn arm_next(
    shared: &Rc<bench::Shared>,
    times: usize,
    act: impl Fn(&mut At<'_, '_>, TimerId) + Clone + 'static,
    fired: Fired,
) {
    let again = Rc::clone(shared);
    shared.arm_timer(move |at, timer| {
        fired.borrow_mut().push((at.cx().now_ms() - 1_000, timer));
        act(at, timer);
        if times > 1 {
            arm_next(&again, times - 1, act, fired);
        }
    });
}

/// Does something in a callback.
fn within<R: 'static>(bench: &mut Bench, act: impl FnOnce(&mut At<'_, '_>) -> R + 'static) -> R {
    let returned = Rc::new(RefCell::new(None));
    let into = Rc::clone(&returned);
    bench.shared.arm(Callback::Command, move |at| *into.borrow_mut() = Some(act(at)));
    bench.cause(Callback::Command);
    returned.take().expect("it was called")
}

fn set(bench: &mut Bench, delay: Duration) -> TimerId {
    within(bench, move |at| at.cx().set_timer(delay).expect("a timer"))
}

fn set_interval(bench: &mut Bench, period: Duration) -> TimerId {
    within(bench, move |at| at.cx().set_interval(period).expect("a timer"))
}

fn cancel(bench: &mut Bench, timer: TimerId) -> bool {
    within(bench, move |at| at.cx().cancel_timer(timer))
}

#[test]
fn a_timer_taken_back_in_its_own_callback() {
    let mut bench = Bench::empty(config());
    let cancelled = Rc::new(RefCell::new(Vec::new()));
    let into = Rc::clone(&cancelled);
    let fired = on_each(&bench, 9, move |at, timer| {
        let twice = (at.cx().cancel_timer(timer), at.cx().cancel_timer(timer));
        into.borrow_mut().push(twice);
    });
    let once = set(&mut bench, 10 * MS);
    let again = set_interval(&mut bench, 20 * MS);
    bench.shard.advance(500 * MS);
    let timers: Vec<TimerId> = fired.borrow().iter().map(|(_, timer)| *timer).collect();
    assert_eq!(timers, [once, again], "each once");
    // One that fires once is over when it fires.
    assert_eq!(*cancelled.borrow(), [(false, false), (true, false)]);
    assert!(!cancel(&mut bench, once) && !cancel(&mut bench, again));
    bench.end();
}

#[test]
fn a_timer_taken_back_by_one_that_fires_at_the_same_time() {
    let mut bench = Bench::empty(config());
    let victims = Rc::new(RefCell::new(Vec::new()));
    let taken = Rc::clone(&victims);
    let fired = on_each(&bench, 9, move |at, _| {
        for victim in taken.borrow_mut().drain(..) {
            assert!(at.cx().cancel_timer(victim));
        }
    });
    let (first, second) = within(&mut bench, |at| {
        let cx = at.cx();
        let first = cx.set_timer(10 * MS).expect("the first");
        (first, [cx.set_timer(10 * MS), cx.set_interval(10 * MS)])
    });
    victims.borrow_mut().extend(second.into_iter().flatten());
    bench.shard.advance(100 * MS);
    assert_eq!(fired.borrow().len(), 1);
    assert_eq!(fired.borrow()[0].1, first);
    assert_eq!(bench.end().panics, 0);
}

/// A timer of no time that sets the next one: it fires again and again, and others are served.
#[test]
fn a_timer_of_no_time() {
    let mut bench = Bench::empty(config());
    bench.connect("observer");
    let fired = on_each(&bench, 5, |at, _| {
        let _ = at.cx().set_timer(Duration::ZERO).expect("the last has fired");
    });
    set(&mut bench, Duration::ZERO);
    bench.shard.advance(100 * MS);
    let at_ms: Vec<u64> = fired.borrow().iter().map(|(at_ms, _)| *at_ms).collect();
    assert_eq!(at_ms.len(), 5);
    // A millisecond at least, and one more for the coarseness of clocks.
    assert!(at_ms.windows(2).all(|pair| (1..=2).contains(&(pair[1] - pair[0]))), "{at_ms:?}");
    bench.assert_serves();
    let zero = set_interval(&mut bench, Duration::ZERO);
    let beats = on_each(&bench, 1_000, |_, _| {});
    bench.shard.advance(20 * MS);
    assert!((10..=20).contains(&beats.borrow().len()), "{}", beats.borrow().len());
    assert!(cancel(&mut bench, zero));
    bench.assert_serves();
    bench.end();
}

#[test]
fn times_that_no_clock_reaches() {
    let mut bench = Bench::empty(config());
    let fired = on_each(&bench, 9, |_, _| {});
    let times = [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(1 << 40)];
    let timers: Vec<TimerId> = times
        .into_iter()
        .flat_map(|time| [set(&mut bench, time), set_interval(&mut bench, time)])
        .collect();
    // Beyond what one wait of the kernel can last.
    let late = set(&mut bench, Duration::from_secs(100 * 86_400));
    bench.shard.advance(Duration::from_secs(99 * 86_400));
    assert_eq!(*fired.borrow(), []);
    bench.shard.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(fired.borrow().iter().map(|(_, timer)| *timer).collect::<Vec<_>>(), [late]);
    for timer in timers {
        assert!(cancel(&mut bench, timer));
    }
    bench.end();
}

#[test]
fn there_are_so_many_timers() {
    for timers_max in [0, 1, 3] {
        let mut bench = Bench::empty(config().timers_max(timers_max));
        let set = within(&mut bench, |at| {
            let cx = at.cx();
            let set: Vec<_> = (0..6).map(|_| cx.set_timer(5 * MS)).collect();
            // One taken back makes room.
            if let Ok(first) = set[0] {
                assert!(cx.cancel_timer(first));
                assert!(cx.set_interval(5 * MS).is_ok());
            }
            assert!(cx.set_interval(5 * MS).is_err());
            set.into_iter().flatten().count()
        });
        assert_eq!(set, timers_max);
        // One that has fired makes room, in its own callback already. The interval keeps its own.
        let fired = on_each(&bench, 100, |at, _| {
            let next = at.cx().set_timer(5 * MS);
            assert!(at.cx().set_timer(5 * MS).is_err(), "after {next:?}");
        });
        bench.shard.advance(12 * MS);
        assert!(fired.borrow().len() >= timers_max);
        assert_eq!(bench.end().panics, 0);
    }
}

/// More timers at one time than a tick takes: all of them fire, in the order in which they were set.
#[test]
fn many_timers_at_one_time() {
    const TIMERS: usize = 5_000;
    let mut bench = Bench::empty(config());
    bench.connect("observer");
    let fired = on_each(&bench, TIMERS, |_, _| {});
    let set: Vec<TimerId> = within(&mut bench, |at| {
        (0..TIMERS).map(|_| at.cx().set_timer(10 * MS).expect("there is room")).collect()
    });
    bench.shard.advance(50 * MS);
    assert_eq!(fired.borrow().iter().map(|(_, timer)| *timer).collect::<Vec<_>>(), set);
    bench.assert_serves();
    bench.end();
}

/// Timers go on while the server stops, until the last connection has ended.
#[test]
fn timers_while_the_server_stops() {
    let mut bench = Bench::empty(config());
    bench.connect("observer");
    set_interval(&mut bench, 100 * MS);
    let fired = on_each(&bench, 1_000, |_, _| {});
    bench.shard.handle().stop();
    bench.shard.advance(1_000 * MS);
    assert!((9..=10).contains(&fired.borrow().len()), "{}", fired.borrow().len());
    bench.end();
    let fired_before = fired.borrow().len();
    assert!(fired_before <= 10, "none after the end");
}

/// A callback that does not return for a while: beats that were missed are skipped, and the rhythm is
/// kept. One that takes a second or more is time that the shard's clock does not know of.
#[test]
fn an_interval_of_a_stalled_shard() {
    // How long the third beat takes, and when beats come by the shard's clock.
    let table: [(u64, &[u64]); 4] = [
        (0, &[100, 200, 300, 400, 500, 600, 700, 800]),
        (50, &[100, 200, 300, 400, 500, 600, 700, 800]),
        (350, &[100, 200, 300, 650, 700, 800]),
        (1_050, &[100, 200, 300, 400, 500, 600, 700, 800]),
    ];
    for (stall_ms, expected) in table {
        let mut bench = Bench::empty(config());
        let world = Rc::clone(&bench.shard.world);
        let beats = std::cell::Cell::new(0);
        let beats = Rc::new(beats);
        let fired = on_each(&bench, expected.len(), move |_, _| {
            beats.set(beats.get() + 1);
            if beats.get() == 3 {
                world.stall(stall_ms);
            }
        });
        set_interval(&mut bench, 100 * MS);
        bench.shard.advance(2_000 * MS);
        let at_ms: Vec<u64> = fired.borrow().iter().map(|(at_ms, _)| at_ms / 10 * 10).collect();
        assert_eq!(at_ms, expected, "stalled for {stall_ms} ms");
        bench.end();
    }
}
