//! Being woken from a wait.

use super::*;

on_both_drivers! {
    another_thread_wakes_a_driver
    a_shard_wakes_another
    a_wait_ends_with_its_time
}

fn is_woken(completion: Completion<KernelSocket>) -> Option<()> {
    assert!(matches!(completion, Completion::Woken), "nobody does anything else: {completion:?}");
    Some(())
}

fn another_thread_wakes_a_driver<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    let waker = Arc::new(Waker::new().unwrap());
    tried.driver.join(Vec::new(), &[], Arc::clone(&waker)).unwrap();
    assert!(tried.tick().is_empty());
    for _ in 0..3 {
        // Before it waits or while it does: nobody can tell, and both must do.
        let waking = std::thread::spawn({
            let waker = Arc::clone(&waker);
            move || waker.wake()
        });
        tried.until(|_, completion| is_woken(completion));
        waking.join().unwrap();
    }
    assert!(tried.tick().is_empty(), "one wake is one completion");
}

fn a_shard_wakes_another<D: KernelDriver>() {
    let (Some(mut awake), Some(mut asleep)) = (Tried::<D>::open(), Tried::<D>::open()) else {
        return;
    };
    let doors: Vec<_> = [&awake, &asleep]
        .map(|tried| (Arc::new(tried.driver.door().unwrap()), Arc::new(Waker::new().unwrap())))
        .into();
    awake.driver.join(Vec::new(), &doors, Arc::clone(&doors[0].1)).unwrap();
    asleep.driver.join(Vec::new(), &doors, Arc::clone(&doors[1].1)).unwrap();
    assert!(asleep.tick().is_empty());
    awake.driver.wake(1);
    assert!(awake.tick().is_empty(), "whoever wakes is not woken");
    asleep.until(|_, completion| is_woken(completion));
    assert!(asleep.tick().is_empty(), "one wake is one completion");
}

fn a_wait_ends_with_its_time<D: KernelDriver>() {
    let Some(mut tried) = Tried::<D>::open() else { return };
    assert!(tried.tick_after(Wait::Millis(1)).is_empty());
    assert_eq!(tried.driver.completions_waiting(), 0);
}
