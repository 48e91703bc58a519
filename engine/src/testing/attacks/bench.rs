//! A shard whose handler does in one callback what a test wants, with a connection in each stage
//! beside the one that the callback is about.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::DerefMut;
use std::rc::Rc;
use std::time::Duration;

use ringwire_proto::{CloseCode, Message, Offer, Request, Response};

use crate::config::{Config, Overflow};
use crate::conn::{Conn, ConnId};
use crate::context::Context;
use crate::handler::{Gap, Handler, Reply, Upgrade};
use crate::testing::driver::SharedWire;
use crate::testing::{Received, TestClient, TestShard};
use crate::ticket::Ticket;
use crate::{Metrics, TimerId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Callback {
    Start,
    Upgrade,
    Open,
    Message,
    Pong,
    Drain,
    Gap,
    Close,
    Request,
    Command,
    Timer,
    Stop,
}

/// All but `on_start`, before which there are no connections.
pub(super) const CALLBACKS: [Callback; 11] = [
    Callback::Upgrade,
    Callback::Open,
    Callback::Message,
    Callback::Pong,
    Callback::Drain,
    Callback::Gap,
    Callback::Close,
    Callback::Request,
    Callback::Command,
    Callback::Timer,
    Callback::Stop,
];

impl Callback {
    /// Whether it is about an open connection, or one that was open.
    pub(super) fn has_conn(self) -> bool {
        match self {
            Self::Open | Self::Message | Self::Pong | Self::Drain | Self::Gap | Self::Close => true,
            Self::Start
            | Self::Upgrade
            | Self::Request
            | Self::Command
            | Self::Timer
            | Self::Stop => false,
        }
    }
}

/// What a callback has.
pub(super) enum At<'c, 'a> {
    Conn(&'c mut Conn<'a, Scripted>),
    Shard(&'c mut Context<'a, Scripted>),
}

impl<'a> At<'_, 'a> {
    pub(super) fn cx(&mut self) -> &mut Context<'a, Scripted> {
        match self {
            Self::Conn(conn) => conn.deref_mut(),
            Self::Shard(cx) => cx,
        }
    }

    /// The connection that the callback is about.
    pub(super) fn conn(&mut self) -> &mut Conn<'a, Scripted> {
        match self {
            Self::Conn(conn) => conn,
            Self::Shard(_) => panic!("a callback about no open connection"),
        }
    }
}

type Act = Box<dyn FnOnce(&mut At<'_, '_>)>;
type TimerAct = Box<dyn FnOnce(&mut At<'_, '_>, TimerId)>;

/// Does what is armed, once, in the callback it is armed for.
pub(super) struct Scripted {
    shared: Rc<Shared>,
}

/// What the test and the handler both see.
#[derive(Default)]
pub(super) struct Shared {
    armed: RefCell<Option<(Callback, Act)>>,
    /// Every callback about a connection: which, of whom, and what it says.
    pub(super) calls: RefCell<Vec<(Callback, String, String)>>,
    pub(super) ids: RefCell<HashMap<String, ConnId>>,
    pub(super) tickets: RefCell<Vec<Ticket<Scripted>>>,
    on_timer: RefCell<Option<TimerAct>>,
}

impl Shared {
    /// Has the next such callback do this; of those about a connection only the one called `own`.
    pub(super) fn arm(&self, callback: Callback, act: impl FnOnce(&mut At<'_, '_>) + 'static) {
        *self.armed.borrow_mut() = Some((callback, Box::new(act)));
    }

    /// Has the next timer that fires do this.
    pub(super) fn arm_timer(&self, act: impl FnOnce(&mut At<'_, '_>, TimerId) + 'static) {
        *self.on_timer.borrow_mut() = Some(Box::new(act));
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.borrow().is_some()
    }

    fn called(&self, callback: Callback, name: &str, what: impl Into<String>, at: &mut At<'_, '_>) {
        let call = (callback, name.to_owned(), what.into());
        self.calls.borrow_mut().push(call);
        let is_meant = matches!(at, At::Shard(_)) || name == "own";
        let armed = self.armed.borrow().as_ref().map(|(armed, _)| *armed);
        if is_meant && armed == Some(callback) {
            let (_, act) = self.armed.borrow_mut().take().expect("seen just before");
            act(at);
        }
    }
}

impl Handler for Scripted {
    type State = String;
    type Command = String;

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.shared.called(Callback::Start, "", "", &mut At::Shard(cx));
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<String> {
        let name = &request.path()[1..];
        let taken = self.shared.tickets.borrow().len();
        self.shared.called(Callback::Upgrade, name, "", &mut At::Shard(cx));
        let tickets = self.shared.tickets.borrow();
        // A ticket that the act has taken is what the answer waits for.
        if tickets.len() > taken { Upgrade::later(&tickets[taken]) } else { accept(name) }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, name: &mut String) {
        self.shared.ids.borrow_mut().insert(name.clone(), conn.id());
        assert_eq!(conn.subscribe("room"), Ok(()));
        self.shared.called(Callback::Open, name, "", &mut At::Conn(conn));
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, name: &mut String, message: Message<'_>) {
        let text = String::from_utf8_lossy(message.payload()).into_owned();
        if text == "echo" {
            conn.send("echo");
        }
        self.shared.called(Callback::Message, name, text, &mut At::Conn(conn));
    }

    fn on_pong(&mut self, conn: &mut Conn<'_, Self>, name: &mut String, _payload: &[u8]) {
        self.shared.called(Callback::Pong, name, "", &mut At::Conn(conn));
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, Self>, name: &mut String) {
        self.shared.called(Callback::Drain, name, "", &mut At::Conn(conn));
    }

    fn on_gap(&mut self, conn: &mut Conn<'_, Self>, name: &mut String, _gap: Gap) {
        self.shared.called(Callback::Gap, name, "", &mut At::Conn(conn));
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        name: &mut String,
        code: CloseCode,
        _reason: &str,
    ) {
        self.shared.called(Callback::Close, name, code.to_string(), &mut At::Conn(conn));
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        let taken = self.shared.tickets.borrow().len();
        self.shared.called(Callback::Request, request.path(), "", &mut At::Shard(cx));
        let tickets = self.shared.tickets.borrow();
        if tickets.len() > taken {
            Reply::later(&tickets[taken])
        } else {
            Response::new(200).body("text/plain", request.body().to_vec()).into()
        }
    }

    fn on_command(&mut self, cx: &mut Context<'_, Self>, command: String) {
        self.shared.called(Callback::Command, "", command, &mut At::Shard(cx));
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, timer: TimerId) {
        let act = self.shared.on_timer.borrow_mut().take();
        if let Some(act) = act {
            act(&mut At::Shard(cx), timer);
        }
        self.shared.called(Callback::Timer, "", "", &mut At::Shard(cx));
    }

    fn on_stop(&mut self, cx: &mut Context<'_, Self>) {
        self.shared.called(Callback::Stop, "", "", &mut At::Shard(cx));
    }
}

pub(super) fn accept(name: &str) -> Upgrade<String> {
    Upgrade::accept(name.to_owned())
}

/// A shard with a connection in each stage, and another server.
pub(super) struct Bench {
    pub(super) shard: TestShard<Scripted>,
    pub(super) shared: Rc<Shared>,
    /// By their names.
    pub(super) clients: HashMap<&'static str, TestClient>,
    /// One that has begun its handshake.
    pub(super) handshake: SharedWire,
    /// Another server.
    foreign: Option<TestShard<Scripted>>,
}

/// No deadline ends anybody, and a slow reader is not closed.
pub(super) fn config() -> Config {
    Config::new().ping_interval_ms(0).idle_timeout_ms(0).overflow(Overflow::Drop)
}

impl Bench {
    /// A shard without connections.
    pub(super) fn empty(config: Config) -> Self {
        Self::starting(config, Rc::new(Shared::default()))
    }

    /// The same, with something armed perhaps.
    pub(super) fn starting(config: Config, shared: Rc<Shared>) -> Self {
        let handler = Scripted { shared: Rc::clone(&shared) };
        let shard = TestShard::with_config(config, |_start| handler);
        let handshake = SharedWire::default();
        Self { shard, shared, clients: HashMap::new(), handshake, foreign: None }
    }

    /// A shard with everybody that a callback can name.
    pub(super) fn new() -> Self {
        let mut this = Self::empty(config());
        for name in ["observer", "other", "closing", "ended"] {
            this.connect(name);
        }
        let code = CloseCode::new(4001).expect("an application's code");
        this.shard.handle().close(this.id("closing"), code, "at the start").unwrap();
        this.shard.run();
        this.client("ended").leave();
        this.shard.run();
        let before = this.shard.shard.served();
        this.handshake = this.shard.world.connect();
        this.handshake.borrow_mut().to_server.extend_from_slice(HANDSHAKE_BEGUN);
        this.shard.run();
        let served = this.shard.shard.served();
        let key = served.into_iter().find(|key| !before.contains(key)).expect("one more");
        let handshake = ConnId { key, ..this.id("observer") };
        this.shared.ids.borrow_mut().insert("handshake".into(), handshake);
        let mut foreign = Self::empty(config());
        foreign.connect("stranger");
        let stranger = foreign.id("stranger");
        this.shared.ids.borrow_mut().insert("stranger".into(), stranger);
        this.foreign = Some(foreign.shard);
        let mut nobody = this.id("other");
        nobody.shard = 7;
        this.shared.ids.borrow_mut().insert("other shard".into(), nobody);
        this
    }

    pub(super) fn connect(&mut self, name: &'static str) {
        let client = self.shard.connect(&format!("/{name}"), &[]).expect("it lets everybody in");
        self.clients.insert(name, client);
    }

    pub(super) fn id(&self, name: &str) -> ConnId {
        self.shared.ids.borrow()[name]
    }

    pub(super) fn client(&mut self, name: &str) -> &mut TestClient {
        self.clients.get_mut(name).unwrap_or_else(|| panic!("no client {name}"))
    }

    pub(super) fn received(&mut self, name: &str) -> Vec<Received> {
        self.client(name).received()
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.shard.handle().metrics()
    }

    /// Brings a callback about; those about a connection are about the one called `own`.
    pub(super) fn cause(&mut self, callback: Callback) {
        let handle = self.shard.handle();
        if callback.has_conn() && callback != Callback::Open {
            self.connect("own");
        }
        match callback {
            Callback::Start => panic!("it was before everything else"),
            Callback::Upgrade | Callback::Open => {
                let own = self.shard.begin("/own", &[]);
                self.clients.insert("own", own);
            }
            Callback::Message => self.client("own").send("go"),
            Callback::Pong => self.client("own").send_bytes(&[0x8A, 0x80, 0, 0, 0, 0]),
            Callback::Drain => handle.send(self.id("own"), [0; 100_000]).unwrap(),
            Callback::Gap => {
                self.shard.shard.lose_publish();
                // A tick that nothing has brought about.
                self.shard.run();
            }
            Callback::Close => self.client("own").leave(),
            Callback::Request => {
                let own = self.shard.world.connect();
                own.borrow_mut().to_server.extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            Callback::Command => handle.command(0, "go".into()).unwrap(),
            Callback::Timer => {
                let armed = self.shared.armed.borrow_mut().take();
                self.shared.arm(Callback::Command, |at| {
                    let _ = at.cx().set_timer(Duration::from_millis(5)).expect("the first");
                });
                handle.command(0, "set a timer".into()).unwrap();
                self.shard.run();
                *self.shared.armed.borrow_mut() = armed;
                self.shard.advance(Duration::from_millis(10));
            }
            Callback::Stop => handle.stop(),
        }
        self.shard.run();
        assert!(!self.shared.is_armed(), "{callback:?} was not called");
        self.check();
    }

    /// The rules of the engine.
    pub(super) fn check(&self) {
        self.shard.shard.check(self.shard.shard.driver().open_sockets());
    }

    /// The observer is served on.
    pub(super) fn assert_serves(&mut self) {
        self.received("observer");
        self.client("observer").send("echo");
        self.shard.run();
        assert_eq!(self.received("observer"), [Received::Text("echo".into())]);
    }

    /// Finishes the handshake that was begun; whether it was let in.
    pub(super) fn finish_handshake(&mut self) -> bool {
        self.handshake.borrow_mut().to_server.extend_from_slice(HANDSHAKE_REST);
        self.shard.run();
        self.handshake.borrow().to_client.starts_with(b"HTTP/1.1 101 ")
    }

    /// What a connection's `on_close` was told, if it was called.
    pub(super) fn close_told(&self, name: &str) -> Option<String> {
        let calls = self.shared.calls.borrow();
        let mut closes = calls.iter().filter(|call| call.0 == Callback::Close && call.1 == name);
        closes.next().map(|(_, _, code)| code.clone())
    }

    /// Everybody leaves, the server stops, and all has its order: one open, one close, nothing
    /// behind it.
    pub(super) fn end(mut self) -> Metrics {
        self.clients.values_mut().for_each(TestClient::leave);
        self.shard.run();
        self.check();
        self.shard.handle().stop();
        self.shard.world.hang_up();
        self.shard.run();
        self.check();
        assert!(self.shard.shard.is_finished(), "it has ended");
        let calls = self.shared.calls.borrow();
        let (mut open, mut closed) = (HashSet::new(), HashSet::new());
        for (callback, name, what) in calls.iter().filter(|(callback, ..)| callback.has_conn()) {
            match callback {
                Callback::Open => assert!(open.insert(name.clone()), "{name} opens twice"),
                Callback::Close => {
                    assert!(open.remove(name), "{name} closes with {what} and is not open");
                    closed.insert(name.clone());
                }
                _ => assert!(open.contains(name), "{callback:?} of {name}, which is not open"),
            }
        }
        assert_eq!(open, HashSet::new(), "never closed");
        let metrics = self.metrics();
        assert_eq!(metrics.connections_now, 0);
        assert_eq!(metrics.handshakes_accepted, closed.len() as u64);
        metrics
    }
}

const HANDSHAKE_BEGUN: &[u8] = b"GET /handshake HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n";
const HANDSHAKE_REST: &[u8] = b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
