//! What no peer can bring about: completions of operations that only a race makes fail.

use std::fs::File;

use super::*;

/// A ring on this thread; `None`, said loudly, where there is no io_uring. As in the tests over
/// real sockets, `RINGWIRE_REQUIRE_IO_URING` makes that a failure.
fn driver() -> Option<UringDriver> {
    let config =
        RingConfig { receive_buffers_min: 2, receive_buffers_max: 8, ..RingConfig::default() };
    match UringDriver::new(&config, None) {
        Ok(driver) => Some(driver),
        Err(error) => {
            let must_be = std::env::var_os("RINGWIRE_REQUIRE_IO_URING").is_some();
            assert!(!must_be, "{error:?}");
            eprintln!("SKIPPED, NOTHING WAS TESTED: {error:?}");
            None
        }
    }
}

/// What one tick brings; it waits for what must come, but not for ever.
fn completions(driver: &mut UringDriver, wait: Wait) -> Vec<Completion> {
    let mut completions = Vec::new();
    driver.tick(wait, &mut completions);
    completions
}

/// Far beyond what a wake takes, also on a loaded machine.
const PATIENCE: Wait = Wait::Millis(60_000);

/// Whoever rouses a shard must wake it: the eventfd does where the message between rings fails.
#[test]
fn a_message_that_cannot_be_delivered_wakes_all_the_same() {
    let (Some(mut awake), Some(mut asleep)) = (driver(), driver()) else { return };
    let waker = Arc::new(Waker::new().unwrap());
    asleep.poll_waker(Arc::clone(&waker));
    assert!(completions(&mut asleep, Wait::No).is_empty());
    let no_ring = Arc::new(File::open("/dev/null").unwrap().into());
    awake.set_peers(vec![Peer { ring: no_ring, waker }]);
    awake.wake(0);
    assert!(completions(&mut awake, Wait::No).is_empty(), "a failed wake is nobody's business");
    assert!(matches!(completions(&mut asleep, PATIENCE)[..], [Completion::Woken]));
}

/// The message itself, and that one wake is one completion.
#[test]
fn a_message_wakes_another_ring() {
    let (Some(mut awake), Some(mut asleep)) = (driver(), driver()) else { return };
    let waker = Arc::new(Waker::new().unwrap());
    let ring = Arc::new(asleep.duplicate_ring_fd().unwrap());
    awake.set_peers(vec![Peer { ring, waker }]);
    awake.wake(0);
    assert!(completions(&mut awake, Wait::No).is_empty());
    assert!(matches!(completions(&mut asleep, PATIENCE)[..], [Completion::Woken]));
    assert!(completions(&mut asleep, Wait::No).is_empty());
}

/// The accept may end by itself while it is being cancelled.
#[test]
fn cancelling_what_has_ended_tells_nothing() {
    let Some(mut driver) = driver() else { return };
    driver.cancel_accept();
    assert!(completions(&mut driver, Wait::No).is_empty());
    assert!(completions(&mut driver, Wait::No).is_empty());
}
