//! Tests of a shard's mailbox.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::*;

type Numbers = Mailbox<u32>;

fn mailbox(command_entries: usize, command_bytes_max: usize) -> Numbers {
    let config =
        Config::new().command_entries(command_entries).command_bytes_max(command_bytes_max);
    Mailbox::new(&config, Waker::new().unwrap())
}

fn send(bytes: usize) -> Command<u32> {
    let key = Key { slot: 0, generation: 1 };
    Command::Send { key, frame: vec![0; bytes].into() }
}

fn metrics(mailbox: &Numbers) -> Metrics {
    let mut metrics = Metrics::default();
    mailbox.add_metrics_to(&mut metrics);
    metrics
}

#[test]
fn a_full_queue_says_so_and_an_ended_shard_too() {
    let mailbox = mailbox(2, 1_000);
    assert_eq!(mailbox.push(Command::Custom(0)), Ok(()));
    assert_eq!(mailbox.push(Command::Custom(1)), Ok(()));
    assert_eq!(mailbox.push(Command::Custom(2)), Err(HandleError::Busy));
    assert!(matches!(mailbox.pop(), Some(Command::Custom(0))));
    mailbox.end();
    assert_eq!(mailbox.push(Command::Custom(3)), Err(HandleError::Stopped));
    let metrics = metrics(&mailbox);
    assert_eq!((metrics.commands_lost, metrics.commands_refused), (1, 2));
}

#[test]
fn bytes_are_bounded_too_but_one_message_always_fits() {
    let mailbox = mailbox(100, 1_000);
    assert_eq!(mailbox.push(send(5_000)), Ok(()));
    assert_eq!(mailbox.push(send(1)), Err(HandleError::Busy));
    assert!(mailbox.pop().is_some());
    assert_eq!(mailbox.push(send(600)), Ok(()));
    assert_eq!(mailbox.push(send(400)), Ok(()));
    assert_eq!(mailbox.push(send(1)), Err(HandleError::Busy));
    // What has no bytes needs no room for any.
    assert_eq!(mailbox.push(Command::Custom(0)), Ok(()));
    while mailbox.pop().is_some() {}
    assert_eq!(mailbox.push(send(1_000)), Ok(()));
}

/// Each command that was taken is carried out or counted, wherever the end comes.
#[test]
fn no_command_is_lost_without_being_counted() {
    const PUSHERS: u64 = 3;
    for _ in 0..200 {
        let mailbox = mailbox(64, 1_000);
        let (mut carried_out, mut queued) = (0, 0);
        std::thread::scope(|scope| {
            let push = || (0..100).filter(|_| mailbox.push(send(1)).is_ok()).count() as u64;
            let pushers: Vec<_> = (0..PUSHERS).map(|_| scope.spawn(push)).collect();
            for _ in 0..50 {
                carried_out += u64::from(mailbox.pop().is_some());
            }
            mailbox.end();
            queued = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
        });
        assert_eq!(queued, carried_out + metrics(&mailbox).commands_lost);
    }
}

/// Whoever waits gets room or learns of the end; nothing is refused meanwhile.
#[test]
fn whoever_waits_gets_room() {
    const COMMANDS: u64 = 2_000;
    let mailbox = mailbox(3, 1_000);
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..COMMANDS).all(|_| mailbox.push_waiting(send(9)).is_ok())))
            .collect();
        let mut taken = 0;
        while taken < 3 * COMMANDS {
            while mailbox.pop().is_some() {
                taken += 1;
            }
            mailbox.wake_waiting();
        }
        assert!(pushers.into_iter().all(|pusher| pusher.join().unwrap()));
    });
    assert_eq!(metrics(&mailbox).commands_refused, 0);
    std::thread::scope(|scope| {
        (0..3).for_each(|_| mailbox.push(send(1)).unwrap());
        let waiting = scope.spawn(|| mailbox.push_waiting(send(1)));
        std::thread::sleep(Duration::from_millis(1));
        mailbox.end();
        assert_eq!(waiting.join().unwrap(), Err(HandleError::Stopped));
    });
}

#[test]
fn a_task_is_woken_when_there_is_room() {
    struct Count(AtomicUsize);
    impl task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let mailbox = mailbox(1, 1_000);
    mailbox.push(send(1)).unwrap();
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = task::Waker::from(Arc::clone(&woken));
    let mut command = Some(send(1));
    let mut pushing = Box::pin(poll_fn(|cx| {
        let taken = command.take().expect("put back while there is no room");
        match mailbox.poll_push(taken, cx) {
            Ok(()) => Poll::Ready(()),
            Err(refused) => {
                command = Some(refused.command);
                Poll::Pending
            }
        }
    }));
    let mut cx = task::Context::from_waker(&waker);
    use std::future::Future;
    assert!(pushing.as_mut().poll(&mut cx).is_pending());
    mailbox.pop().unwrap();
    mailbox.wake_waiting();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(pushing.as_mut().poll(&mut cx).is_ready());
}
