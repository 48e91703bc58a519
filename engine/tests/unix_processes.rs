//! Servers on Unix sockets in processes of their own, which are killed, limited, or in another folder.

mod harness;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use harness::folder::Folder;
use harness::{Echo, PATIENCE, RawClient, ServerFrame, builder, handshake, text, wait_until};

fn assert_echoes(client: &mut RawClient) {
    client.send(&text("still there?"));
    assert_eq!(client.read_frame(), ServerFrame::text("still there?"));
}

/// Set in the process that is to be killed: where it listens.
const ADDRESS: &str = "RINGWIRE_TEST_LISTENS";

/// A server is back at once where its last owner was killed with many connections.
#[test]
fn restarts_right_after_sigkill() {
    if let Ok(address) = env::var(ADDRESS) {
        return serve(address);
    }
    let folder = Folder::new();
    for _ in 0..5 {
        let mut killed = spawn(&folder, "restarts_right_after_sigkill");
        let clients: Vec<RawClient> =
            (0..100).map(|_| RawClient::open_unix(&folder.addr())).collect();
        killed.0.kill().expect("it lives");
        // Not waited for: whoever restarts it does not know either when the kernel is done.
        let _next = spawn(&folder, "restarts_right_after_sigkill");
        assert_echoes(&mut RawClient::open_unix(&folder.addr()));
        drop(clients);
    }
}

/// The process that is to be killed.
fn serve(address: String) {
    let running = builder().listen(address).shards(2).start(|_| Echo);
    match &running {
        Ok(running) => println!("listening on {}", running.local_addrs()[0]),
        Err(error) => println!("listening on nothing: {error}"),
    }
    std::thread::sleep(PATIENCE);
}

/// When descriptors run out, every client is answered, and shards whose turn it is keep nobody
/// waiting who could be served.
#[test]
fn more_clients_than_descriptors() {
    if let Ok(address) = env::var(ADDRESS) {
        return serve(address);
    }
    let folder = Folder::new();
    // A shell, since the limit must be there before the server raises it.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 80 && exec \"$0\" \"$@\""]).arg(this_binary());
    let _server = spawn_by(limited, &folder, "more_clients_than_descriptors");
    let mut clients: Vec<RawClient> =
        (0..200).map(|_| RawClient::connect_unix(&folder.addr())).collect();
    for client in &mut clients {
        client.send(&handshake());
    }
    let mut open = Vec::new();
    for mut client in clients {
        match client.read_status() {
            101 => open.push(client),
            status => assert_eq!(status, 503),
        }
    }
    assert!((20..76).contains(&open.len()), "{} are open", open.len());
    open.iter_mut().for_each(assert_echoes);
    drop(open);
    wait_until("there is room again", || {
        let mut client = RawClient::connect_unix(&folder.addr());
        client.send(&handshake());
        client.read_status() == 101
    });
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn this_binary() -> PathBuf {
    env::current_exe().expect("a test knows its binary")
}

fn spawn(folder: &Folder, test: &str) -> Killed {
    spawn_by(Command::new(this_binary()), folder, test)
}

fn spawn_by(mut command: Command, folder: &Folder, test: &str) -> Killed {
    let mut child = command
        .args(["--exact", test, "--nocapture"])
        .env(ADDRESS, folder.listen())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let child = Killed(child);
    let line = stdout.lines().map(|line| line.expect("text")).find(|l| l.contains("listening on"));
    let line = line.expect("it says where it listens");
    assert!(line.ends_with(&folder.listen()), "{line}");
    child
}

/// The file goes although the working directory has changed since. In a process of its own.
#[test]
fn a_relative_path() {
    let folder = Folder::new();
    if env::var_os(ADDRESS).is_some() {
        let running = builder().listen("unix:ws.sock").shards(1).start(|_| Echo).unwrap();
        assert_eq!(running.local_addrs()[0].to_string(), "unix:ws.sock");
        assert!(PathBuf::from("ws.sock").exists());
        let socket = std::path::absolute("ws.sock").unwrap();
        env::set_current_dir("/").unwrap();
        running.handle().stop();
        running.join().expect("no shard panics");
        assert!(fs::symlink_metadata(socket).is_err(), "it is removed");
        return;
    }
    let mut alone = Command::new(this_binary());
    alone.args(["--exact", "a_relative_path"]).env(ADDRESS, "1");
    let output = alone.current_dir(folder.socket().parent().unwrap()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
}
