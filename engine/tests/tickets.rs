//! Tickets of real connections: answered by other threads while they expire, while their peers
//! leave, and when the server has ended.

mod harness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{PATIENCE, RawClient, ServerFrame, TestServer, handshake, patient, text, wait_until};
use ringwire::{
    CloseCode, Config, Conn, Context, Handler, Message, Offer, Reply, Request, Response, Ticket,
    Upgrade,
};

/// What was opened, closed and dropped.
#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    closed: AtomicUsize,
    dropped: AtomicUsize,
}

struct State(Arc<Counts>);

impl Drop for State {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Gives every ticket to the test.
struct Later {
    tickets: Sender<Ticket<Later>>,
    counts: Arc<Counts>,
}

impl Handler for Later {
    type State = State;
    type Command = ();

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<State> {
        let ticket = cx.ticket();
        let later = Upgrade::later(&ticket);
        self.tickets.send(ticket).unwrap();
        later
    }

    fn on_open(&mut self, _conn: &mut Conn<'_, Self>, _state: &mut State) {
        self.counts.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut State, message: Message<'_>) {
        conn.send(message);
    }

    fn on_close(&mut self, _: &mut Conn<'_, Self>, _: &mut State, _: CloseCode, _: &str) {
        self.counts.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, _request: &Request<'_>) -> Reply {
        let ticket = cx.ticket();
        let later = Reply::later(&ticket);
        self.tickets.send(ticket).unwrap();
        later
    }
}

fn later(config: Config) -> (TestServer, Receiver<Ticket<Later>>, Arc<Counts>) {
    let (sender, tickets) = channel();
    let counts = Arc::new(Counts::default());
    let (sender, counted) = (Mutex::new(sender), Arc::clone(&counts));
    let make =
        move |_| Later { tickets: sender.lock().unwrap().clone(), counts: Arc::clone(&counted) };
    (TestServer::start(2, config, make), tickets, counts)
}

fn begin(server: &TestServer, behind: &[u8]) -> RawClient {
    let mut client = server.connect();
    client.send(&[&handshake(), behind].concat());
    client
}

/// Each thread answers about when the ticket expires: the peer gets one answer, whichever comes
/// first, and everything is counted once.
#[test]
fn answered_at_the_time_of_expiry() {
    const TICKETS: usize = 200;
    let (server, tickets, counts) = later(Config { ticket_timeout_ms: 60, ..patient() });
    let mut clients: Vec<RawClient> =
        (0..TICKETS).map(|_| begin(&server, &text("early"))).collect();
    let answering: Vec<_> = (0..TICKETS)
        .map(|number| {
            let ticket = tickets.recv_timeout(PATIENCE).unwrap();
            let state = State(Arc::clone(&counts));
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(number as u64 % 150));
                ticket.upgrade(Upgrade::accept(state));
            })
        })
        .collect();
    let mut opened = 0;
    for client in &mut clients {
        match client.read_status() {
            101 => {
                opened += 1;
                assert_eq!(client.read_frame(), ServerFrame::text("early"));
                client.send(&text("hello"));
                assert_eq!(client.read_frame(), ServerFrame::text("hello"));
            }
            503 => assert_eq!(client.read_to_end(), b""),
            status => panic!("{status}"),
        }
    }
    answering.into_iter().for_each(|thread| thread.join().unwrap());
    let handle = server.handle();
    wait_until("each ticket has its end", || {
        let metrics = handle.metrics();
        metrics.tickets_late == (TICKETS - opened) as u64
    });
    let metrics = handle.metrics();
    assert_eq!(metrics.handshakes_accepted, opened as u64);
    assert_eq!(metrics.tickets_expired, (TICKETS - opened) as u64);
    assert_eq!(counts.opened.load(Ordering::SeqCst), opened);
    assert_eq!(counts.dropped.load(Ordering::SeqCst), TICKETS - opened);
    drop(clients);
    server.wait_until_empty();
    wait_until("all are closed", || counts.closed.load(Ordering::SeqCst) == opened);
    assert_eq!(counts.dropped.load(Ordering::SeqCst), TICKETS);
}

/// The peer leaves while another thread answers: opened and closed, or not opened at all.
#[test]
fn answered_while_the_peer_leaves() {
    const TICKETS: usize = 100;
    let (server, tickets, counts) = later(patient());
    let clients: Vec<RawClient> = (0..TICKETS).map(|_| begin(&server, b"")).collect();
    let taken: Vec<_> = (0..TICKETS).map(|_| tickets.recv_timeout(PATIENCE).unwrap()).collect();
    let states = Arc::clone(&counts);
    let answering = std::thread::spawn(move || {
        for (number, ticket) in taken.into_iter().enumerate() {
            match number % 4 {
                0 => ticket.respond(Response::new(401)),
                1 => drop(ticket),
                _ => ticket.upgrade(Upgrade::accept(State(Arc::clone(&states)))),
            }
        }
    });
    for (number, client) in clients.into_iter().enumerate() {
        match number % 3 {
            0 => client.reset(),
            _ => drop(client),
        }
    }
    answering.join().unwrap();
    server.wait_until_empty();
    let opened = counts.opened.load(Ordering::SeqCst);
    assert_eq!(counts.closed.load(Ordering::SeqCst), opened);
    assert_eq!(counts.dropped.load(Ordering::SeqCst), TICKETS / 2);
    let metrics = server.handle().metrics();
    assert_eq!((metrics.panics, metrics.handshakes_accepted), (0, opened as u64));
}

/// The tickets outlive the server: their peers were told, and answering has no effect.
#[test]
fn answered_when_the_server_has_ended() {
    let (server, tickets, counts) = later(patient());
    let mut clients: Vec<RawClient> = (0..4).map(|_| begin(&server, b"")).collect();
    let mut request = server.connect();
    request.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let taken: Vec<_> = (0..5).map(|_| tickets.recv_timeout(PATIENCE).unwrap()).collect();
    let handle = server.handle();
    handle.stop();
    for client in clients.iter_mut().chain([&mut request]) {
        let response = client.read_last_response();
        assert_eq!((response.status, response.header("Retry-After")), (503, Some("5")));
    }
    drop((clients, request));
    server.stop().unwrap();
    for (number, ticket) in taken.into_iter().enumerate() {
        match number {
            0 => drop(ticket),
            1 => ticket.respond(Response::new(200)),
            _ => ticket.upgrade(Upgrade::accept(State(Arc::clone(&counts)))),
        }
    }
    assert_eq!(counts.dropped.load(Ordering::SeqCst), 3);
    assert_eq!(counts.opened.load(Ordering::SeqCst), 0);
    assert_eq!(handle.metrics().commands_lost, 5);
}

/// Up to the bound what comes before the answer is kept, a byte more ends the connection, and what
/// the kernel holds back meanwhile is not lost.
#[test]
fn early_bytes_up_to_their_bound() {
    const MAX: usize = 10_000;
    let (server, tickets, counts) = later(Config { early_bytes_max: MAX, ..patient() });
    let frame = text(&"x".repeat(94));
    assert_eq!(frame.len(), 100);
    for is_behind_head in [true, false] {
        let early = frame.repeat(MAX / 100);
        let mut client = match is_behind_head {
            true => begin(&server, &early),
            false => begin(&server, b""),
        };
        let ticket = tickets.recv_timeout(PATIENCE).unwrap();
        if !is_behind_head {
            client.send(&early);
        }
        ticket.upgrade(Upgrade::accept(State(Arc::clone(&counts))));
        assert_eq!(client.read_status(), 101);
        for _ in 0..MAX / 100 {
            assert_eq!(client.read_frame().payload.len(), 94);
        }
        let mut client = begin(&server, b"");
        let ticket = tickets.recv_timeout(PATIENCE).unwrap();
        let _ = client.try_send(&[&early[..], b"x"].concat());
        client.expect_gone();
        ticket.upgrade(Upgrade::accept(State(Arc::clone(&counts))));
    }
    let handle = server.handle();
    wait_until("both are counted", || handle.metrics().tickets_late == 2);
    assert_eq!(handle.metrics().violations, 2);
}

/// Gives every ticket to a thread, which gives it back to the shard as a command: for a state that
/// no thread may have. Commands that hold tickets may be lost at the end of a server, too.
struct Returning {
    threads: Sender<Ticket<Returning>>,
}

impl Handler for Returning {
    type State = std::rc::Rc<str>;
    type Command = Ticket<Self>;

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<Self::State> {
        let ticket = cx.ticket();
        let later = Upgrade::later(&ticket);
        self.threads.send(ticket).unwrap();
        later
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, name: &mut Self::State) {
        conn.send(&**name);
    }

    fn on_command(&mut self, cx: &mut Context<'_, Self>, ticket: Ticket<Self>) {
        cx.answer(ticket, Upgrade::accept("of this thread".into()));
    }
}

#[test]
fn tickets_that_come_back_as_commands() {
    let (sender, tickets) = channel();
    let sender = Mutex::new(sender);
    let server = TestServer::start(2, patient(), move |_| {
        let threads = sender.lock().unwrap().clone();
        Returning { threads }
    });
    let handle = server.handle();
    for _ in 0..10 {
        let mut client = begin_at(server.addr());
        let ticket = tickets.recv_timeout(PATIENCE).unwrap();
        handle.command(ticket.shard(), ticket).unwrap();
        assert_eq!(client.read_status(), 101);
        assert_eq!(client.read_frame(), ServerFrame::text("of this thread"));
    }
    // To the wrong shard: it is dropped, and answered with 500.
    let mut client = begin_at(server.addr());
    let ticket = tickets.recv_timeout(PATIENCE).unwrap();
    handle.command(1 - ticket.shard(), ticket).unwrap();
    assert_eq!(client.read_last_response().status, 500);
    drop(client);
    // Given back when nobody takes it any more.
    let mut client = begin_at(server.addr());
    let ticket = tickets.recv_timeout(PATIENCE).unwrap();
    handle.stop();
    assert_eq!(client.read_last_response().status, 503);
    drop(client);
    server.stop().unwrap();
    assert_eq!(handle.command(0, ticket), Err(ringwire::HandleError::Stopped));
    assert_eq!(handle.metrics().panics, 1);
}

fn begin_at(addr: std::net::SocketAddr) -> RawClient {
    let mut client = RawClient::connect(addr);
    client.send(&handshake());
    client
}
