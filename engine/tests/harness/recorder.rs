//! A handler that tells the test what happens to its connections, and does as it is told in
//! each callback. It keeps nothing and decides nothing.

use std::sync::mpsc::{Receiver, Sender, channel};

use ringwire::{CloseCode, Config, Conn, ConnId, Context, Handler, Message, Offer, Request};
use ringwire::{Reply, Response, Upgrade};

use super::{PATIENCE, TestServer};

/// A callback that has been called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Open,
    Message(Vec<u8>),
    Drain,
    Close(u16, String),
}

/// What is done in each callback. Default: accept, echo, 404 for plain HTTP.
#[derive(Clone, Copy)]
pub struct Acts {
    pub upgrade: fn(&Request<'_>, &Offer<'_>) -> Upgrade<()>,
    pub open: fn(&mut Conn<'_, Recorder>),
    pub message: fn(&mut Conn<'_, Recorder>, Message<'_>),
    pub drain: fn(&mut Conn<'_, Recorder>),
    pub close: fn(&mut Conn<'_, Recorder>),
    pub request: fn(&Request<'_>) -> Response,
}

impl Default for Acts {
    fn default() -> Self {
        Self {
            upgrade: |_, _| Upgrade::accept(()),
            open: |_| {},
            message: |conn, message| {
                conn.send(message);
            },
            drain: |_| {},
            close: |_| {},
            request: |_| Response::new(404),
        }
    }
}

/// The handler of a recorded server.
pub struct Recorder {
    acts: Acts,
    calls: Sender<(ConnId, Call)>,
}

impl Recorder {
    /// Before it is acted upon, so that a panic is recorded too.
    fn record(&self, conn: &Conn<'_, Self>, call: Call) {
        // A test that is over listens no more.
        let _ = self.calls.send((conn.id(), call));
    }
}

impl Handler for Recorder {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        offer: &Offer<'_>,
    ) -> Upgrade<()> {
        (self.acts.upgrade)(request, offer)
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        self.record(conn, Call::Open);
        (self.acts.open)(conn);
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        self.record(conn, Call::Message(message.payload().to_vec()));
        (self.acts.message)(conn, message);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        self.record(conn, Call::Drain);
        (self.acts.drain)(conn);
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        _state: &mut (),
        code: CloseCode,
        reason: &str,
    ) {
        self.record(conn, Call::Close(code.as_u16(), reason.to_owned()));
        (self.acts.close)(conn);
    }

    fn on_request(&mut self, _cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        (self.acts.request)(request).into()
    }
}

/// What a recorded server has called.
pub struct Calls {
    calls: Receiver<(ConnId, Call)>,
}

impl Calls {
    /// The next call, of whatever connection.
    pub fn next(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a callback is called").1
    }

    /// The code and reason of the next close; calls before it are passed over.
    pub fn next_close(&self) -> (u16, String) {
        loop {
            if let Call::Close(code, reason) = self.next() {
                return (code, reason);
            }
        }
    }

    /// Waits until a message of these bytes has been received; calls before it are passed
    /// over.
    pub fn wait_for_message(&self, bytes: &[u8]) {
        while self.next() != Call::Message(bytes.to_vec()) {}
    }

    /// Stops the server, and returns the calls not yet looked at.
    pub fn rest(self, server: TestServer) -> Vec<(ConnId, Call)> {
        server.stop().expect("no shard panics");
        self.calls.try_iter().collect()
    }
}

/// A server of one shard whose callbacks do as told and are recorded.
pub fn recorded(config: Config, acts: Acts) -> (TestServer, Calls) {
    let (sender, calls) = channel();
    let make = move |_| Recorder { acts, calls: sender.clone() };
    (TestServer::start(1, config, make), Calls { calls })
}
