//! Listeners that the server did not open: handed in by the application, or inherited. And servers with
//! many listeners of every kind, and with none.

mod harness;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use harness::folder::Folder;
use harness::{
    Echo, RawClient, ServerFrame, builder, handshake, own_ip, patient, text, wait_until,
};
use ringwire::{Config, ListenAddr, Running, StartError};
use socket2::{Domain, SockAddr, Socket, Type};

fn assert_echoes(client: &mut RawClient) {
    client.send(&text("hello"));
    assert_eq!(client.read_frame(), ServerFrame::text("hello"));
}

fn stop(running: Running) {
    running.handle().stop();
    running.join().expect("no shard panics");
}

fn any_port() -> SocketAddr {
    SocketAddr::from((own_ip(), 0))
}

/// Those that waited before the server started come first.
#[test]
fn a_listener_with_connections_that_wait() {
    for shards in [1, 2] {
        for is_nonblocking in [false, true] {
            let listener = TcpListener::bind(any_port()).unwrap();
            let address = listener.local_addr().unwrap();
            listener.set_nonblocking(is_nonblocking).unwrap();
            let mut waiting: Vec<RawClient> =
                (0..20).map(|_| RawClient::connect(address)).collect();
            for client in &mut waiting {
                client.send(&handshake());
            }
            let server = builder().listen_on(listener).shards(shards).config(patient());
            let running = server.start(|_| Echo).unwrap();
            assert_eq!(running.local_addrs(), [ListenAddr::Tcp(address)]);
            assert_eq!(running.local_addr(), address);
            for client in &mut waiting {
                assert_eq!(client.read_status(), 101);
                assert_echoes(client);
            }
            (0..20).for_each(|_| assert_echoes(&mut RawClient::open(address)));
            drop(waiting);
            stop(running);
            let refused =
                TcpStream::connect(address).expect_err("the server had the only descriptor");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
}

/// Others who have the socket go on listening when the server has ended, as systemd does.
#[test]
fn the_listening_of_others_goes_on() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        let running = builder().listen_on(listener.try_clone().unwrap()).shards(2).start(|_| Echo);
        let running = running.unwrap();
        assert_echoes(&mut RawClient::open(address));
        stop(running);
    }
    let _client = TcpStream::connect(address).expect("it still listens");
    listener.set_nonblocking(false).unwrap();
    listener.accept().expect("and can be accepted from");

    let folder = Folder::new();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let descriptor: OwnedFd = listener.try_clone().unwrap().into();
    let running = builder().listen_on(descriptor).shards(2).start(|_| Echo).unwrap();
    assert_eq!(running.local_addrs(), [ListenAddr::Unix(folder.socket())]);
    (0..20).for_each(|_| assert_echoes(&mut RawClient::open_unix(&folder.addr())));
    stop(running);
    assert!(folder.socket().exists(), "the file is its maker's");
    UnixStream::connect(folder.socket()).expect("it still listens");
}

fn error(descriptor: impl Into<OwnedFd>) -> StartError {
    let started = builder().listen_on(descriptor).shards(2).start(|_| Echo);
    started.map(drop).expect_err("it must not start")
}

#[test]
fn what_is_no_listener() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound.bind(&SockAddr::from(any_port())).unwrap();
    let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let unfit: [(OwnedFd, &str); 6] = [
        (stream.into(), "does not listen"),
        (bound.into(), "does not listen"),
        (UdpSocket::bind(any_port()).unwrap().into(), "stream"),
        (packets.into(), "stream"),
        (std::fs::File::open("/dev/null").unwrap().into(), "no socket"),
        (reader.into(), "no socket"),
    ];
    for (descriptor, words) in unfit {
        let error = error(descriptor);
        assert!(matches!(error, StartError::NotListening { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn listeners_of_every_kind() {
    let folder = Folder::new();
    let made = TcpListener::bind(any_port()).unwrap();
    let made_address = made.local_addr().unwrap();
    let name = format!("ringwire-kinds-{}", std::process::id());
    let running = builder()
        .listen(any_port().to_string())
        .listen(folder.listen())
        .listen_on(made)
        .listen(format!("unix:@{name}"))
        .shards(2)
        .config(patient())
        .start(|_| Echo)
        .unwrap();
    let addresses = running.local_addrs();
    assert_eq!(
        addresses[1..],
        [
            ListenAddr::Unix(folder.socket()),
            ListenAddr::Tcp(made_address),
            ListenAddr::UnixAbstract(name.clone().into()),
        ]
    );
    let abstract_addr = SockAddr::unix(format!("\0{name}")).unwrap();
    let mut clients: Vec<RawClient> = Vec::new();
    for _ in 0..10 {
        clients.push(RawClient::open(running.local_addr()));
        clients.push(RawClient::open_unix(&folder.addr()));
        clients.push(RawClient::open(made_address));
        clients.push(RawClient::open_unix(&abstract_addr));
    }
    clients.iter_mut().for_each(assert_echoes);
    running.handle().stop();
    for client in &mut clients {
        assert_eq!(client.read_frame().close_code(), 1001);
    }
    drop(clients);
    running.join().expect("no shard panics");
}

#[test]
fn an_address_that_is_asked_for_twice() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let free = TcpListener::bind(any_port()).unwrap().local_addr().unwrap().to_string();
    let any = format!("0.0.0.0:{}", listener.local_addr().unwrap().port());
    let clone = || listener.try_clone().unwrap();
    let twice = [
        builder().listen(&free).listen(&free),
        builder().listen_on(clone()).listen(&address),
        builder().listen(any).listen_on(clone()),
        builder().listen_on(clone()).listen_on(clone()),
    ];
    for server in twice {
        let error = server.shards(2).start(|_| Echo).map(drop).expect_err("twice");
        assert!(matches!(error, StartError::ListenedTwice { .. }), "{error}");
    }
    // Port 0 is another one each time.
    let ip = own_ip();
    let server = builder().listen(format!("{ip}:0")).listen(format!("{ip}:0"));
    let running = server.shards(1).start(|_| Echo).unwrap();
    assert_ne!(running.local_addrs()[0], running.local_addrs()[1]);
    stop(running);
}

/// The kernel deals out connections within a group that somebody else has made (SO_REUSEPORT).
#[test]
fn two_sockets_of_one_address() {
    let socket = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(16).unwrap();
        socket
    };
    let first = socket(any_port());
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let second = socket(address);
    let running = builder().listen_on(first).listen_on(second).shards(2).start(|_| Echo).unwrap();
    (0..20).for_each(|_| assert_echoes(&mut RawClient::open(address)));
    stop(running);
}

/// `[::]` leaves IPv4 to an inherited listener of the same port.
#[test]
fn all_of_ipv6_beside_an_inherited_listener_of_ipv4() {
    // No IPv6 at all here: there is nothing to leave.
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Config::new().bind_timeout_ms(0);
    let server = builder().listen_on(listener).listen(format!("[::]:{port}")).config(config);
    match server.shards(2).start(|_| Echo) {
        Ok(running) => {
            assert_echoes(&mut RawClient::open(SocketAddr::from(([127, 0, 0, 1], port))));
            assert_echoes(&mut RawClient::open(format!("[::1]:{port}").parse().unwrap()));
            stop(running);
        }
        // Somebody has that port on IPv6.
        Err(error) => assert!(matches!(error, StartError::AddressInUse { .. }), "{error}"),
    }
}

/// Connections that others have accepted and upgraded, and no listener.
#[test]
fn a_server_without_a_listener() {
    let running = builder().no_listener().shards(2).config(patient()).start(|_| Echo).unwrap();
    assert!(running.local_addrs().is_empty());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut unix = RawClient::from(TcpStream::from(OwnedFd::from(ours)));
    running.handle().adopt(None, theirs, text("early"), ()).unwrap();
    assert_eq!(unix.read_frame(), ServerFrame::text("early"));
    let door = TcpListener::bind(any_port()).unwrap();
    let mut tcp = RawClient::from(TcpStream::connect(door.local_addr().unwrap()).unwrap());
    running.handle().adopt(Some(1), door.accept().unwrap().0, Vec::new(), ()).unwrap();
    for client in [&mut unix, &mut tcp] {
        assert_echoes(client);
    }
    let handle = running.handle();
    drop(unix);
    wait_until("it has left", || handle.metrics().connections_now == 1);
    handle.stop();
    assert_eq!(tcp.read_frame().close_code(), 1001);
    drop(tcp);
    running.join().expect("no shard panics");

    let server = builder().no_listener().listen(any_port().to_string());
    let error = server.start(|_| Echo).map(drop).expect_err("a contradiction");
    assert!(matches!(error, StartError::Config { .. }), "{error}");
}
