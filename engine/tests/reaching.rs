//! Every method that names a connection, in every callback, about a connection of another shard.

mod harness;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{PATIENCE, RawClient, ServerFrame, TestServer, close, frame, patient, text};
use ringwire::{
    CloseCode, Conn, ConnId, Context, HandleError, Handler, Message, Offer, Reply, Request,
    Response, TimerId, Upgrade,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callback {
    Upgrade,
    Open,
    Message,
    Pong,
    Drain,
    Close,
    Request,
    Command,
    Timer,
    Stop,
}

const CALLBACKS: [Callback; 10] = [
    Callback::Upgrade,
    Callback::Open,
    Callback::Message,
    Callback::Pong,
    Callback::Drain,
    Callback::Close,
    Callback::Request,
    Callback::Command,
    Callback::Timer,
    Callback::Stop,
];

type Method = (&'static str, fn(&mut Context<'_, Reacher>, ConnId) -> String, &'static str);

const METHODS: [Method; 8] = [
    ("send_to", |cx, id| format!("{:?}", cx.send_to(id, "hello")), "Queued"),
    (
        "close_other",
        |cx, id| format!("{:?}", cx.close_other(id, CloseCode::NORMAL, "by another")),
        "Ok(())",
    ),
    ("terminate_other", |cx, id| format!("{:?}", cx.terminate_other(id)), "Ok(())"),
    ("state_of", |cx, id| format!("{:?}", cx.state_of(id)), "None"),
    ("is_open", |cx, id| cx.is_open(id).to_string(), "false"),
    ("command", |cx, id| format!("{:?}", cx.command(id.shard(), Order::Tell)), "Ok(())"),
    ("Handle::send", |cx, id| format!("{:?}", cx.handle().send(id, "hello")), "Ok(())"),
    (
        "Waiting::send",
        |cx, id| format!("{:?}", cx.handle().waiting().send_blocking(id, "hello")),
        "Err(OnShard)",
    ),
];

enum Order {
    /// Tells the test that it has come.
    Tell,
    /// Brings `on_command` about.
    Go,
    SetTimer,
}

/// What one callback of the first shard is to do.
#[derive(Clone, Copy)]
struct Armed {
    callback: Callback,
    call: fn(&mut Context<'_, Reacher>, ConnId) -> String,
    target: ConnId,
}

#[derive(Clone)]
struct Reacher {
    armed: Arc<Mutex<Option<Armed>>>,
    told: Sender<String>,
    /// Which shard has had a command.
    commanded: Sender<usize>,
    ids: Sender<ConnId>,
}

impl Reacher {
    fn called(&self, callback: Callback, cx: &mut Context<'_, Self>) {
        let mut armed = self.armed.lock().unwrap();
        if cx.shard() != 0 || armed.is_none_or(|armed| armed.callback != callback) {
            return;
        }
        let Armed { call, target, .. } = armed.take().expect("seen just before");
        drop(armed);
        self.told.send(call(cx, target)).unwrap();
    }
}

impl Handler for Reacher {
    type State = &'static str;
    type Command = Order;

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<&'static str> {
        self.called(Callback::Upgrade, cx);
        Upgrade::accept("accepted")
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, name: &mut &'static str) {
        if *name == "target" {
            self.ids.send(conn.id()).unwrap();
        }
        self.called(Callback::Open, conn);
    }

    fn on_message(
        &mut self,
        conn: &mut Conn<'_, Self>,
        _name: &mut &'static str,
        message: Message<'_>,
    ) {
        if message == Message::Text("fill") {
            // Over the mark: `on_drain` follows.
            conn.send([0; 100_000]);
        }
        conn.send("echo");
        self.called(Callback::Message, conn);
    }

    fn on_pong(&mut self, conn: &mut Conn<'_, Self>, _name: &mut &'static str, _: &[u8]) {
        self.called(Callback::Pong, conn);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, Self>, _name: &mut &'static str) {
        self.called(Callback::Drain, conn);
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        _name: &mut &'static str,
        _code: CloseCode,
        _reason: &str,
    ) {
        self.called(Callback::Close, conn);
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, _request: &Request<'_>) -> Reply {
        self.called(Callback::Request, cx);
        Response::new(200).into()
    }

    fn on_command(&mut self, cx: &mut Context<'_, Self>, order: Order) {
        match order {
            Order::Tell => self.commanded.send(cx.shard()).unwrap(),
            Order::Go => self.called(Callback::Command, cx),
            Order::SetTimer => drop(cx.set_timer(Duration::ZERO).expect("the first")),
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, _timer: TimerId) {
        self.called(Callback::Timer, cx);
    }

    fn on_stop(&mut self, cx: &mut Context<'_, Self>) {
        self.called(Callback::Stop, cx);
    }
}

/// Two shards, a connection on the second, and what the first says.
struct Shards {
    server: Option<TestServer<Order>>,
    reacher: Reacher,
    told: Receiver<String>,
    commanded: Receiver<usize>,
    opened: Receiver<ConnId>,
}

impl Shards {
    fn start() -> Self {
        let (tell, told) = channel();
        let (ids, opened) = channel();
        let (command, commanded) = channel();
        let armed = Arc::new(Mutex::new(None));
        let reacher = Reacher { armed, told: tell, commanded: command, ids };
        let make = Mutex::new(reacher.clone());
        let server = TestServer::start(2, patient(), move |_| make.lock().unwrap().clone());
        Self { server: Some(server), reacher, told, commanded, opened }
    }

    fn server(&self) -> &TestServer<Order> {
        self.server.as_ref().expect("not stopped yet")
    }

    fn adopt(&self, shard: usize, name: &'static str) -> RawClient {
        let (client, socket) = RawClient::pair();
        self.server().handle().adopt(Some(shard), socket, Vec::new(), name).unwrap();
        client
    }

    fn next(&self) -> String {
        self.told.recv_timeout(PATIENCE).expect("a callback says something")
    }

    /// Whether the first shard has not called it yet.
    fn is_armed(&self) -> bool {
        self.reacher.armed.lock().unwrap().is_some()
    }

    /// Brings a callback of the first shard about.
    fn cause(&mut self, callback: Callback) -> Vec<RawClient> {
        let mut clients = Vec::new();
        let handle = self.server().handle();
        match callback {
            // The kernel deals connections out.
            Callback::Upgrade => {
                while self.is_armed() {
                    clients.push(self.server().open());
                }
            }
            Callback::Request => {
                while self.is_armed() {
                    let mut client = self.server().connect();
                    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(client.read_response().status, 200);
                }
            }
            Callback::Command => handle.command(0, Order::Go).unwrap(),
            Callback::Timer => handle.command(0, Order::SetTimer).unwrap(),
            Callback::Stop => handle.stop(),
            Callback::Open
            | Callback::Message
            | Callback::Pong
            | Callback::Drain
            | Callback::Close => {
                let mut own = self.adopt(0, "own");
                match callback {
                    Callback::Message => own.send(&text("go")),
                    Callback::Pong => own.send(&frame(0x8A, b"")),
                    Callback::Drain => own.send(&text("fill")),
                    Callback::Close => own.send(&close(1000, "")),
                    _ => {}
                }
                clients.push(own);
            }
        }
        clients
    }
}

#[test]
fn every_method_in_every_callback_about_another_shard() {
    for callback in CALLBACKS {
        for (method, call, expected) in METHODS {
            let what = format!("{method} in {callback:?}");
            let mut shards = Shards::start();
            let mut target = shards.adopt(1, "target");
            let mut observer = shards.adopt(1, "observer");
            let id = shards.opened.recv_timeout(PATIENCE).unwrap();
            assert_eq!(id.shard(), 1);
            *shards.reacher.armed.lock().unwrap() = Some(Armed { callback, call, target: id });
            let clients = shards.cause(callback);
            let returned = shards.next();
            if callback == Callback::Stop {
                // The other shard may be gone by then.
                let is_stopped = returned == format!("{:?}", Err::<(), _>(HandleError::Stopped));
                assert!(returned == expected || is_stopped || returned == "Gone", "{what}");
            } else {
                assert_eq!(returned, expected, "{what}");
                match method {
                    "send_to" | "Handle::send" => {
                        assert_eq!(target.read_frame(), ServerFrame::text("hello"), "{what}");
                    }
                    "close_other" => {
                        let closed = target.read_frame();
                        assert_eq!(closed.close_code(), 1000, "{what}");
                        assert_eq!(closed.payload[2..], *b"by another", "{what}");
                    }
                    "terminate_other" => target.expect_gone(),
                    "command" => {
                        assert_eq!(shards.commanded.recv_timeout(PATIENCE), Ok(1), "{what}");
                    }
                    _ => {
                        target.send(&text("still there?"));
                        assert_eq!(target.read_frame(), ServerFrame::text("echo"), "{what}");
                    }
                }
                observer.send(&text("still there?"));
                assert_eq!(observer.read_frame(), ServerFrame::text("echo"), "{what}");
            }
            drop((clients, target, observer));
            let server = shards.server.take().expect("stopped only now");
            let handle = server.handle();
            server.stop().unwrap();
            assert_eq!(handle.metrics().panics, 0, "{what}");
        }
    }
}

/// The connection has ended when the other shard gets the message: it is not sent, and no error.
#[test]
fn a_connection_of_another_shard_that_has_ended() {
    for (method, call, expected) in METHODS {
        let mut shards = Shards::start();
        let target = shards.adopt(1, "target");
        let id = shards.opened.recv_timeout(PATIENCE).unwrap();
        drop(target);
        shards.server().wait_until_empty();
        // Its slot has another tenant.
        let mut next = shards.adopt(1, "next");
        let armed = Armed { callback: Callback::Command, call, target: id };
        *shards.reacher.armed.lock().unwrap() = Some(armed);
        shards.cause(Callback::Command);
        assert_eq!(shards.next(), expected, "{method}");
        if method == "command" {
            assert_eq!(shards.commanded.recv_timeout(PATIENCE), Ok(1));
        }
        next.send(&text("still there?"));
        assert_eq!(next.read_frame(), ServerFrame::text("echo"), "{method}");
    }
}

/// Text that nobody has written: the id of a shard that is not there, or of another server.
#[test]
fn ids_that_somebody_has_made_up() {
    let mut shards = Shards::start();
    let _target = shards.adopt(1, "target");
    let id = shards.opened.recv_timeout(PATIENCE).unwrap();
    let parts: Vec<String> = id.to_string().split('-').map(str::to_owned).collect();
    let made_up = [
        format!("{}-2-{}-{}", parts[0], parts[2], parts[3]),
        format!("{}-65535-{}-{}", parts[0], parts[2], parts[3]),
        format!("{}-1-4294967295-{}", parts[0], parts[3]),
        format!("{}-0-4294967295-4294967295", parts[0]),
        format!("4294967295-0-{}-{}", parts[2], parts[3]),
    ];
    for text in made_up {
        let id: ConnId = text.parse().expect("it has the form of one");
        let is_elsewhere = text.contains("-1-4294967295");
        for (method, call, expected) in &METHODS[..5] {
            let armed = Armed { callback: Callback::Command, call: *call, target: id };
            *shards.reacher.armed.lock().unwrap() = Some(armed);
            shards.cause(Callback::Command);
            let expected = match *method {
                "send_to" if !is_elsewhere => "Gone",
                _ => expected,
            };
            assert_eq!(shards.next(), expected, "{method} of {text}");
        }
    }
    assert_eq!(shards.server().handle().metrics().panics, 0);
}
