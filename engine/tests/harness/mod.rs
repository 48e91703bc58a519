//! What the tests over real sockets share: a server that stops by itself, and a client that
//! speaks raw bytes, so that it can break every rule.

#![allow(dead_code, unreachable_pub)] // each test binary uses its part

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringwire::{
    Builder, Config, Conn, Context, DriverChoice, DriverKind, Handle, Handler, Message, Offer,
    Request, RunError, Running, Server, ShardStart, Upgrade,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

pub mod folder;
pub mod process;
pub mod recorder;
pub mod requests;

/// Far beyond what anything here takes, also on a loaded machine: a test that reaches it
/// has found something that hangs. Also beyond the default ping interval: Linux 6.18 may not
/// tell a multishot receive of a reset that comes right behind data (liburing#1549 is the
/// same with FIN), and then it is the next ping that finds the peer gone.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A deadline beyond every test's patience.
pub const NEVER_MS: u32 = 600_000;

/// No other deadline than those that a test sets.
pub fn patient() -> Config {
    Config::new()
        .handshake_timeout_ms(NEVER_MS)
        .message_timeout_ms(0)
        .idle_timeout_ms(0)
        .ping_interval_ms(0)
        .write_timeout_ms(0)
        .close_timeout_ms(NEVER_MS)
}

/// The driver that every test runs on: `auto`, `io_uring` or `epoll`, as `RINGWIRE_DRIVER` says;
/// `auto` without it.
pub fn driver_choice() -> DriverChoice {
    let Some(name) = std::env::var_os("RINGWIRE_DRIVER") else { return DriverChoice::Auto };
    let name = name.to_string_lossy();
    name.parse().unwrap_or_else(|error| panic!("RINGWIRE_DRIVER: {error}"))
}

/// Whether the tests speak to their servers through Unix sockets: `RINGWIRE_TRANSPORT` is `unix`, and
/// not `tcp` or missing.
pub fn is_unix() -> bool {
    let Some(name) = std::env::var_os("RINGWIRE_TRANSPORT") else { return false };
    match name.to_str() {
        Some("tcp") => false,
        Some("unix") => true,
        _ => panic!("RINGWIRE_TRANSPORT is tcp or unix"),
    }
}

/// The abstract name of the Unix socket of a server that also listens on that address of its own.
fn unix_name(addr: impl fmt::Display) -> String {
    format!("ringwire-test-{addr}")
}

/// A builder of a server on the driver asked for ([`driver_choice`]).
pub fn builder() -> Builder {
    Server::builder().driver(driver_choice())
}

/// Sends every message back, and leaves everything else as it is by default.
pub struct Echo;

impl Handler for Echo {
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

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.send(message);
    }
}

/// An address of this machine that no other test listens on, in whatever process: what is free
/// there stays free. Loopback has 16 million of them.
pub fn own_ip() -> Ipv4Addr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // 14 bits of the process and 8 of the test, in 127.64.0.0/10.
    let process = std::process::id() & 0x3FFF;
    let test = TAKEN.fetch_add(1, Ordering::Relaxed) & 0xFF;
    Ipv4Addr::from_bits(0x7F40_0000 | process << 8 | test)
}

/// A running server; dropping it stops it and waits for its end.
pub struct TestServer<C: Send + 'static = ()> {
    running: Option<Running<C>>,
}

impl<C: Send + 'static> TestServer<C> {
    /// Starts a server on a free port, on the driver asked for ([`driver_choice`]).
    pub fn start<H: Handler<Command = C>>(
        shards: usize,
        config: Config,
        make: impl Fn(ShardStart<C>) -> H + Send + Sync + 'static,
    ) -> Self {
        let ip = own_ip();
        let mut server = builder().listen(format!("{ip}:0")).shards(shards).config(config);
        if is_unix() {
            server = server.listen(format!("unix:@{}", unix_name(ip)));
        }
        let running = server.start(make).unwrap_or_else(|error| panic!("{error}"));
        match driver_choice() {
            DriverChoice::Auto => {}
            DriverChoice::IoUring => assert_eq!(running.driver(), DriverKind::IoUring),
            DriverChoice::Epoll => assert_eq!(running.driver(), DriverKind::Epoll),
        }
        Self { running: Some(running) }
    }

    fn running(&self) -> &Running<C> {
        self.running.as_ref().expect("running until dropped")
    }

    pub fn addr(&self) -> SocketAddr {
        self.running().local_addr()
    }

    pub fn driver(&self) -> DriverKind {
        self.running().driver()
    }

    pub fn handle(&self) -> Handle<C> {
        self.running().handle()
    }

    /// A raw connection that has not sent anything yet.
    pub fn connect(&self) -> RawClient {
        RawClient::connect(self.addr())
    }

    /// A raw connection behind its opening handshake.
    pub fn open(&self) -> RawClient {
        RawClient::open(self.addr())
    }

    /// A new connection is opened and a message echoed.
    pub fn assert_serves(&self) {
        let mut client = self.open();
        client.send(&text("still there?"));
        assert_eq!(client.read_frame(), ServerFrame::text("still there?"));
    }

    /// Every connection has left, and its slot is free.
    pub fn wait_until_empty(&self) {
        let handle = self.handle();
        wait_until("no connection is left", || handle.metrics().connections_now == 0);
    }

    /// Stops the server and waits for its end.
    pub fn stop(mut self) -> Result<(), RunError> {
        let running = self.running.take().expect("running until dropped");
        running.handle().stop();
        running.join()
    }
}

impl<C: Send + 'static> Drop for TestServer<C> {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.handle().stop();
        let ended = running.join();
        if !std::thread::panicking() {
            ended.expect("no shard panics");
        }
    }
}

/// A plain valid opening handshake.
pub fn handshake() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        .to_vec()
}

/// A client's frame with the given first byte (FIN, RSV, opcode), masked with a fixed key.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

pub fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

pub fn binary(payload: &[u8]) -> Vec<u8> {
    frame(0x82, payload)
}

pub fn ping(payload: &[u8]) -> Vec<u8> {
    frame(0x89, payload)
}

pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

/// The last response of a connection, with everything up to the server's FIN as its body.
#[derive(Debug)]
pub struct LastResponse {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl LastResponse {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The value of the first header of that name in a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.into_iter().find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(value))
}

/// There is one Date, and it is an IMF-fixdate (RFC 9110 §5.6.7, §6.6.1).
pub fn assert_is_date(response: &LastResponse) {
    let dates = response.head.lines().filter_map(|line| line.strip_prefix("Date: "));
    let [date] = dates.collect::<Vec<_>>()[..] else { panic!("{}", response.head) };
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    assert_eq!(date.len(), now.len(), "{date}");
    let sent = httpdate::parse_http_date(date).expect("an IMF-fixdate");
    assert_eq!(httpdate::fmt_http_date(sent), date);
    let age = std::time::SystemTime::now().duration_since(sent).expect("not from the future");
    assert!(age < PATIENCE * 2, "{date} is {age:?} old");
}

/// A frame of the server: its first byte and its payload.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerFrame {
    pub first: u8,
    pub payload: Vec<u8>,
}

/// Of a long payload only the start: a failed assertion shall stay readable.
impl fmt::Debug for ServerFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.payload[..self.payload.len().min(64)];
        write!(f, "{:#04x}, {} bytes: ", self.first, self.payload.len())?;
        write!(f, "{:?}", String::from_utf8_lossy(shown))
    }
}

impl ServerFrame {
    pub fn text(payload: &str) -> Self {
        Self { first: 0x81, payload: payload.as_bytes().to_vec() }
    }

    /// The code of a Close frame; 1005 if it has none.
    pub fn close_code(&self) -> u16 {
        assert_eq!(self.first, 0x88, "not a Close frame: {self:?}");
        match self.payload[..] {
            [] => 1005,
            [high, low, ..] => u16::from_be_bytes([high, low]),
            [_] => panic!("a Close frame of one byte"),
        }
    }
}

pub struct RawClient {
    pub stream: TcpStream,
    /// Read and not yet looked at.
    input: Vec<u8>,
}

impl From<TcpStream> for RawClient {
    fn from(stream: TcpStream) -> Self {
        Self { stream, input: Vec::new() }
    }
}

impl RawClient {
    /// A client of a server that is not there yet, and the server's end of its connection.
    pub fn pair() -> (Self, TcpStream) {
        let listener = TcpListener::bind((own_ip(), 0)).unwrap();
        let client = Self::connect(listener.local_addr().unwrap());
        (client, listener.accept().unwrap().0)
    }

    /// As [`TestServer::connect`].
    pub fn connect(addr: SocketAddr) -> Self {
        Self::patient(connect(addr))
    }

    /// As [`TestServer::open`].
    pub fn open(addr: SocketAddr) -> Self {
        Self::upgraded(connect(addr))
    }

    /// A raw connection over a Unix socket.
    pub fn connect_unix(path: &SockAddr) -> Self {
        Self::patient(try_connect_unix(path).expect("the server accepts"))
    }

    /// The same behind its opening handshake.
    pub fn open_unix(path: &SockAddr) -> Self {
        Self::upgraded(try_connect_unix(path).expect("the server accepts"))
    }

    /// As [`TestServer::open`], with a receive buffer so small that the server's machine sees how
    /// fast this end reads.
    pub fn open_narrow(addr: SocketAddr) -> Self {
        const RECEIVE_BUFFER_BYTES: usize = 32 << 10;
        if is_unix() {
            // It holds no more than what the server's send buffer has room for.
            return Self::open(addr);
        }
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        socket.connect(&addr.into()).expect("the server accepts");
        Self::upgraded(socket.into())
    }

    fn upgraded(stream: TcpStream) -> Self {
        let mut client = Self::patient(stream);
        client.send(&handshake());
        let response = client.read_head();
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        client
    }

    fn patient(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        // Unix sockets have no such option.
        let is_tcp = stream.local_addr().is_ok();
        assert_eq!(stream.set_nodelay(true).is_ok(), is_tcp);
        Self::from(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends what the server may no longer want to hear: an error says so. One that only stops to
    /// read, and says nothing, is a failure.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.stream.write_all(bytes);
        if let Err(error) = &sent {
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "neither reads nor resets");
        }
        sent
    }

    /// A response head, up to and with its empty line.
    pub fn read_head(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read_more() > 0, "ended within a head: {:?}", self.input);
        };
        String::from_utf8(self.input.drain(..end).collect()).expect("a head is text")
    }

    /// The status of a response.
    pub fn read_status(&mut self) -> u16 {
        let head = self.read_head();
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    /// A response other than 101, and the end of the connection without reset.
    pub fn read_last_response(&mut self) -> LastResponse {
        let head = self.read_head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        LastResponse { status: status.expect("a status line"), head, body: self.read_to_end() }
    }

    /// A response whose end its Content-Length tells; what is behind it stays.
    pub fn read_response(&mut self) -> LastResponse {
        let head = self.read_head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let response = LastResponse { status: status.expect("a status line"), head, body: vec![] };
        let length = response.header("Content-Length").map_or(0, |text| text.parse().unwrap());
        self.fill(length);
        LastResponse { body: self.input.drain(..length).collect(), ..response }
    }

    /// The next frame that is no ping of the engine's own.
    pub fn read_past_pings(&mut self) -> ServerFrame {
        loop {
            let frame = self.read_frame();
            if frame.first != 0x89 {
                return frame;
            }
        }
    }

    pub fn read_frame(&mut self) -> ServerFrame {
        self.fill(2);
        assert_eq!(self.input[1] & 0x80, 0, "a server does not mask");
        let (header, payload) = match self.input[1] {
            126 => {
                self.fill(4);
                (4, usize::from(u16::from_be_bytes([self.input[2], self.input[3]])))
            }
            127 => {
                self.fill(10);
                let length: [u8; 8] = self.input[2..10].try_into().unwrap();
                (10, u64::from_be_bytes(length) as usize)
            }
            length => (2, usize::from(length)),
        };
        self.fill(header + payload);
        let frame: Vec<u8> = self.input.drain(..header + payload).collect();
        ServerFrame { first: frame[0], payload: frame[header..].to_vec() }
    }

    /// Everything up to the server's FIN. A reset is a failure: it is what makes a browser
    /// report 1006 after a proper Close.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more() > 0 {}
        std::mem::take(&mut self.input)
    }

    /// Reads `bytes` in pieces of at most `piece_bytes`, with a pause of some 60 ms before
    /// each, and keeps them for the next frame.
    pub fn read_slowly(&mut self, bytes: usize, piece_bytes: usize) {
        let mut piece = vec![0; piece_bytes];
        let until = self.input.len() + bytes;
        while self.input.len() < until {
            std::thread::sleep(Duration::from_millis(60));
            let read = self.stream.read(&mut piece).expect("the server does not reset");
            assert!(read > 0, "ended early");
            self.input.extend_from_slice(&piece[..read]);
        }
    }

    /// Reads until nothing has come for half a second, and keeps it for the next frame.
    pub fn read_what_is_there(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut bytes = [0; 64 * 1024];
        while let Ok(read) = self.stream.read(&mut bytes) {
            assert!(read > 0, "ended early");
            self.input.extend_from_slice(&bytes[..read]);
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Reads so many bytes, and keeps them for the next frame.
    pub fn read_exactly(&mut self, bytes: usize) {
        let start = self.input.len();
        self.input.resize(start + bytes, 0);
        self.stream.read_exact(&mut self.input[start..]).expect("the server goes on");
    }

    /// Reads up to so many bytes, and forgets them; `None` if the connection is gone.
    pub fn try_read(&mut self, bytes: usize) -> Option<usize> {
        self.stream.read(&mut vec![0; bytes]).ok().filter(|read| *read > 0)
    }

    /// Expects a Close frame with `code` and then FIN, without reset.
    pub fn expect_close(&mut self, code: u16) {
        let frame = self.read_frame();
        assert_eq!(frame.close_code(), code, "{:?}", String::from_utf8_lossy(&frame.payload));
        assert_eq!(self.read_to_end(), b"");
    }

    /// Sends byte after byte, some 20 ms apart, until the server says something.
    pub fn drip_until_answered(&mut self, bytes: impl IntoIterator<Item = u8>) {
        self.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let is_answered = bytes.into_iter().any(|byte| {
            self.send(&[byte]);
            self.stream.peek(&mut [0]).is_ok()
        });
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(is_answered, "the server has heard all of it and says nothing");
    }

    /// Vanishes with RST instead of FIN.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Waits until the other end of a pair is closed, behind whatever came before.
    pub fn expect_closed(stream: &std::os::unix::net::UnixStream) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        match (&*stream).read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Waits until the connection is gone, by FIN or reset, whatever came before.
    pub fn expect_gone(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn fill(&mut self, bytes: usize) {
        while self.input.len() < bytes {
            assert!(
                self.read_more() > 0,
                "ended within a frame: {:?}",
                self.input.first_chunk::<8>()
            );
        }
    }

    fn read_more(&mut self) -> usize {
        let mut bytes = [0; 16 * 1024];
        let read = self.stream.read(&mut bytes).expect("the server answers and does not reset");
        self.input.extend_from_slice(&bytes[..read]);
        read
    }
}

/// A connection to a [`TestServer`], or to any other server.
fn connect(addr: SocketAddr) -> TcpStream {
    if is_unix() {
        let name = format!("\0{}", unix_name(addr.ip()));
        match try_connect_unix(&SockAddr::unix(name).unwrap()) {
            // A server that a test has built itself.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            connected => return connected.expect("the server accepts"),
        }
    }
    TcpStream::connect(addr).expect("the server accepts")
}

/// A stream of std has every call that a test makes, whatever the socket is.
fn try_connect_unix(path: &SockAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect(path)?;
    Ok(TcpStream::from(OwnedFd::from(socket)))
}

/// Waits until `holds`, for as long as patience lasts.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
