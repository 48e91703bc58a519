//! Commands to shards that are busy, to connections that are not there, and to servers that have
//! stopped: each is carried out, refused or counted, and nobody waits for ever.

mod harness;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use harness::{Echo, PATIENCE, RawClient, ServerFrame, TestServer, builder, own_ip, text};
use harness::{patient, wait_until};
use ringwire::{CloseCode, Config, Conn, ConnId, Context, Handle, HandleError, Handler, Message};
use ringwire::{Metrics, Offer, Request, SendStatus, StartError, Upgrade};

/// Runs a future on this thread, which sleeps meanwhile.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts commands; a connection may block its shard, name itself, or join rooms.
struct Desk {
    taken: Arc<AtomicUsize>,
    ids: Sender<ConnId>,
    blocked: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Handler for Desk {
    type State = ();
    type Command = u32;

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        let _ = self.ids.send(conn.id());
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        let Message::Text(order) = message else { return };
        match order.split_once(' ').unwrap_or((order, "")) {
            ("block", _) => {
                self.blocked.send(()).unwrap();
                self.go_on.lock().unwrap().recv_timeout(PATIENCE).expect("the test goes on");
            }
            ("join", rooms) => {
                let rooms: usize = rooms.parse().unwrap();
                (0..rooms)
                    .for_each(|room| assert_eq!(conn.subscribe(&format!("room {room}")), Ok(())));
                conn.send("joined");
            }
            _ => drop(conn.send(message)),
        }
    }

    fn on_command(&mut self, _cx: &mut Context<'_, Self>, number: u32) {
        self.taken.fetch_add(number as usize, Ordering::SeqCst);
    }
}

/// A server of one shard with a connection.
struct Served {
    client: RawClient,
    id: ConnId,
    server: TestServer<u32>,
    taken: Arc<AtomicUsize>,
    is_blocked: Receiver<()>,
    go_on: Sender<()>,
}

impl Served {
    fn start(config: Config) -> Self {
        let (blocked, is_blocked) = channel();
        let (go_on, goes_on) = channel();
        let (opened, ids) = channel();
        let (taken, goes_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(goes_on)));
        let counted = Arc::clone(&taken);
        let server = TestServer::start(1, config, move |_start| Desk {
            taken: Arc::clone(&counted),
            ids: opened.clone(),
            blocked: blocked.clone(),
            go_on: Arc::clone(&goes_on),
        });
        let client = server.open();
        let id = ids.recv_timeout(PATIENCE).unwrap();
        Self { client, id, server, taken, is_blocked, go_on }
    }

    /// The shard takes nothing until it goes on.
    fn block(&mut self) {
        self.client.send(&text("block"));
        self.is_blocked.recv_timeout(PATIENCE).unwrap();
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

#[test]
fn a_queue_is_full_by_entries() {
    let mut served = Served::start(patient().command_entries(4));
    let (handle, id) = (served.server.handle(), served.id);
    served.block();
    for _ in 0..4 {
        assert_eq!(handle.command(0, 1), Ok(()));
    }
    let busy = Err(HandleError::Busy);
    assert_eq!(handle.command(0, 1), busy);
    assert_eq!(handle.publish("room", "x"), busy);
    assert_eq!(handle.send(id, "x"), busy);
    assert_eq!(handle.close(id, CloseCode::NORMAL, ""), busy);
    assert_eq!(handle.terminate(id), busy);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(handle.adopt(None, ours, Vec::new(), ()), busy);
    RawClient::expect_closed(&theirs);
    served.go_on.send(()).unwrap();
    wait_until("all that was taken is carried out", || served.taken() == 4);
    assert_eq!(handle.metrics().commands_refused, 6);
    served.client.send(&text("still there?"));
    assert_eq!(served.client.read_frame(), ServerFrame::text("still there?"));
}

#[test]
fn a_queue_is_full_by_bytes() {
    let mut served = Served::start(patient().command_bytes_max(1_000));
    let (handle, id) = (served.server.handle(), served.id);
    served.block();
    // A frame's header counts as well, and an empty queue takes one of any size.
    assert_eq!(handle.send(id, [1; 5_000]), Ok(()));
    assert_eq!(handle.send(id, ""), Err(HandleError::Busy));
    assert_eq!(handle.publish("room", "x"), Err(HandleError::Busy));
    // What carries no message needs no room for bytes.
    assert_eq!(handle.command(0, 1), Ok(()));
    served.go_on.send(()).unwrap();
    assert_eq!(served.client.read_frame().payload.len(), 5_000);
    served.block();
    let sent = (0..100).take_while(|_| handle.send(id, [1; 98]).is_ok()).count();
    assert_eq!(sent, 10, "frames of 100 bytes");
    served.go_on.send(()).unwrap();
    for _ in 0..sent {
        assert_eq!(served.client.read_frame().payload.len(), 98);
    }
    assert_eq!(handle.metrics().commands_refused, 3);
}

/// Threads and tasks wait for a shard that takes nothing. It goes on: all are let in, none is
/// refused. It stops: all are let in or told, whichever comes first.
#[test]
fn those_who_wait_are_let_in_or_told() {
    for stops in [false, true] {
        let mut served = Served::start(patient().command_entries(2));
        let (handle, id) = (served.server.handle(), served.id);
        served.block();
        (0..2).for_each(|_| handle.command(0, 1).unwrap());
        type Call = fn(Handle<u32>, ConnId) -> Result<(), HandleError>;
        let calls: [Call; 6] = [
            |handle, _| handle.waiting().command_blocking(0, 1),
            |handle, _| handle.waiting().publish_blocking("room", "x"),
            |handle, id| handle.waiting().send_blocking(id, "x"),
            |handle, _| block_on(handle.waiting().command(0, 1)),
            |handle, _| block_on(handle.waiting().publish("room", "x")),
            |handle, id| block_on(handle.waiting().send(id, "x")),
        ];
        let waiting: Vec<_> = (0..5)
            .flat_map(|_| calls)
            .map(|call| {
                let handle = handle.clone();
                thread::spawn(move || call(handle, id))
            })
            .collect();
        // Most of them wait by then; no result depends on it.
        thread::sleep(Duration::from_millis(20));
        if stops {
            handle.stop();
        }
        served.go_on.send(()).unwrap();
        let results: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        let refused = results.iter().filter(|result| **result != Ok(())).count();
        let is_told = |result: &&Result<(), HandleError>| **result == Err(HandleError::Stopped);
        assert_eq!(results.iter().filter(is_told).count(), refused);
        if !stops {
            assert_eq!((refused, handle.metrics().commands_refused), (0, 0));
            wait_until("all of them are carried out", || served.taken() == 12);
        }
    }
}

/// A ticker publishes to 5,000 rooms in a loop, through a queue of 64.
#[test]
fn a_ticker_waits_and_loses_nothing() {
    const ROOMS: usize = 5_000;
    let config = patient().command_entries(64).subscriptions_max(ROOMS);
    let mut served = Served::start(config);
    served.client.send(&text(&format!("join {ROOMS}")));
    assert_eq!(served.client.read_frame(), ServerFrame::text("joined"));
    let handle = served.server.handle();
    let ticker = thread::spawn(move || {
        for room in 0..ROOMS {
            let (room, message) = (format!("room {room}"), format!("tick {room}"));
            match room.len() % 2 {
                0 => handle.waiting().publish_blocking(&room, &message).unwrap(),
                _ => block_on(handle.waiting().publish(&room, &message)).unwrap(),
            }
        }
        handle
    });
    for room in 0..ROOMS {
        assert_eq!(served.client.read_frame(), ServerFrame::text(&format!("tick {room}")));
    }
    let metrics = ticker.join().unwrap().metrics();
    assert_eq!((metrics.commands_refused, metrics.messages_dropped), (0, 0));
    assert_eq!((metrics.publishes, metrics.publishes_lost), (ROOMS as u64, 0));
}

/// What is named by an id that nobody has any more has no effect, and is no error.
#[test]
fn commands_to_the_dead() {
    let mut served = Served::start(patient());
    let (handle, id) = (served.server.handle(), served.id);
    served.client.send(&harness::close(1000, ""));
    served.client.expect_close(1000);
    served.client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    wait_until("it is gone", || handle.metrics().connections_now == 0);
    // Its slot has another tenant.
    let mut next = served.server.open();
    assert_eq!(handle.send(id, "x"), Ok(()));
    assert_eq!(handle.close(id, CloseCode::NORMAL, ""), Ok(()));
    assert_eq!(handle.terminate(id), Ok(()));
    assert_eq!(handle.command(0, 1), Ok(()));
    wait_until("they are carried out", || served.taken() == 1);
    next.send(&text("still there?"));
    assert_eq!(next.read_frame(), ServerFrame::text("still there?"));
    let metrics = handle.metrics();
    assert_eq!((metrics.messages_sent, metrics.commands_lost), (1, 0));
}

#[test]
fn commands_to_a_stopped_server() {
    let served = Served::start(patient());
    let Served { client, id, server, .. } = served;
    let handle = server.handle();
    drop(client);
    server.stop().unwrap();
    let stopped = Err(HandleError::Stopped);
    assert_eq!(handle.send(id, "x"), stopped);
    assert_eq!(handle.publish("room", "x"), stopped);
    assert_eq!(handle.close(id, CloseCode::NORMAL, ""), stopped);
    assert_eq!(handle.terminate(id), stopped);
    assert_eq!(handle.command(0, 1), stopped);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(handle.adopt(None, ours, Vec::new(), ()), stopped);
    RawClient::expect_closed(&theirs);
    assert_eq!(handle.waiting().publish_blocking("room", "x"), stopped);
    assert_eq!(handle.waiting().command_blocking(0, 1), stopped);
    assert_eq!(handle.waiting().send_blocking(id, "x"), stopped);
    assert_eq!(block_on(handle.waiting().publish("room", "x")), stopped);
    assert_eq!(block_on(handle.waiting().command(0, 1)), stopped);
    assert_eq!(block_on(handle.waiting().send(id, "x")), stopped);
    handle.stop();
    let Metrics { commands_refused, commands_lost, .. } = handle.metrics();
    assert_eq!((commands_refused, commands_lost), (6, 0));
    // Of another server that runs: it is not taken for its own.
    let other = TestServer::start(1, patient(), |_| Echo);
    let _client = other.open();
    assert_eq!(other.handle().send(id, "x"), Err(HandleError::OtherServer));
    assert_eq!(other.handle().waiting().send_blocking(id, "x"), Err(HandleError::OtherServer));
}

/// Waits on its own shard, in each callback that a message can bring about and where it is made.
struct Impatient {
    told: Sender<Vec<Result<(), HandleError>>>,
}

impl Impatient {
    fn wait(&self, handle: &Handle) {
        let waiting = handle.waiting();
        let results = vec![
            waiting.publish_blocking("room", "x"),
            waiting.command_blocking(0, ()),
            block_on(waiting.publish("room", "x")),
            block_on(waiting.command(0, ())),
        ];
        self.told.send(results).unwrap();
    }
}

impl Handler for Impatient {
    type State = ();
    type Command = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.wait(&cx.handle());
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        self.wait(&cx.handle());
        Upgrade::accept(())
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        self.wait(&conn.handle());
    }

    fn on_stop(&mut self, cx: &mut Context<'_, Self>) {
        self.wait(&cx.handle());
    }
}

#[test]
fn a_callback_does_not_wait_for_a_shard() {
    let (sender, told) = channel();
    let config = patient().command_entries(1);
    let server = TestServer::start(2, config, move |start| {
        let impatient = Impatient { told: sender.clone() };
        // Full, so that waiting would be for ever.
        let _ = start.handle.command(0, ());
        impatient.wait(&start.handle);
        impatient
    });
    drop(server.open());
    server.stop().unwrap();
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told.len(), 2 + 2 + 2 + 2, "made, started, one handshake, stopped");
    assert!(told.into_iter().flatten().all(|result| result == Err(HandleError::OnShard)));
}

/// A start that fails after a handler was made: those who wait with its handle are told.
#[test]
fn a_start_that_fails_lets_those_go_who_wait() {
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let threads = Arc::clone(&waiting);
    let config = patient().command_entries(1);
    let server = builder().listen(format!("{}:0", own_ip())).shards(2).config(config);
    let started = server.start(move |start| {
        let mut threads = threads.lock().unwrap_or_else(|lock| lock.into_inner());
        for _ in 0..3 {
            let handle = start.handle.clone();
            threads.push(thread::spawn(move || handle.waiting().command_blocking(0, ())));
        }
        if start.index == 1 {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        Echo
    });
    assert!(matches!(started.err(), Some(StartError::ShardPanicked { shard: 1 })));
    let threads = std::mem::take(&mut *waiting.lock().unwrap_or_else(|lock| lock.into_inner()));
    assert!(threads.len() >= 3);
    for thread in threads {
        let result = thread.join().unwrap();
        assert!(matches!(result, Ok(()) | Err(HandleError::Stopped)), "{result:?}");
    }
}

/// Sends to others of its shard, many times in one callback.
struct Many {
    ids: Vec<ConnId>,
}

impl Handler for Many {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        self.ids.push(conn.id());
        conn.send("open");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), _message: Message<'_>) {
        for number in 0..1_500 {
            let id = self.ids[number % self.ids.len()];
            let status = conn.send_to(id, format!("message {number}"));
            assert_eq!(status, SendStatus::Queued, "{number}");
        }
    }
}

#[test]
fn a_callback_sends_to_many_of_its_own_shard() {
    // No queue is in between.
    let config = patient().command_entries(1);
    let server = TestServer::start(1, config, |_| Many { ids: Vec::new() });
    let mut clients: Vec<RawClient> = (0..10)
        .map(|_| {
            let mut client = server.open();
            assert_eq!(client.read_frame(), ServerFrame::text("open"));
            client
        })
        .collect();
    clients[3].send(&text("go"));
    for number in 0..1_500 {
        let expected = ServerFrame::text(&format!("message {number}"));
        assert_eq!(clients[number % 10].read_frame(), expected);
    }
    assert_eq!(server.handle().metrics().panics, 0);
}
