"""Talks to the peers as a load generator does, and insists on the behaviour they share. Called by
the script `check` beside this.

The first difference in a peer ends its checks; the others are still checked. Any makes the exit
status 1.
"""

import json
import re
import select
import signal
import subprocess
import sys
import tomllib
from contextlib import ExitStack, contextmanager
from pathlib import Path

from websockets.sync.client import connect

HERE = Path(__file__).resolve().parent
RUST = ["fastwebsockets", "tokio-tungstenite", "tokio-websockets", "sockudo-ws", "tokio-uring"]
NPM = ["ws", "socket.io", "bun"]

# Far longer than anything takes here, so that only a hang reaches it.
TIMEOUT_S = 20
KIB = 1024

LINE = re.compile(r"listening on ws://127\.0\.0\.1:(\d+) \((\S+) (\S+)\)\n")


# --- A peer and its clients ----------------------------------------------------------------


def locked_version(peer):
    """The version of the library by the lock file."""
    if peer in NPM:
        lock = json.loads((HERE / peer / "package-lock.json").read_text())
        return lock["packages"][f"node_modules/{peer}"]["version"]
    lock = tomllib.loads((HERE / "Cargo.lock").read_text())
    return next(package["version"] for package in lock["package"] if package["name"] == peer)


@contextmanager
def running(peer, mode):
    """A started peer; gives its port. Leaving the block ends it and insists that it ends well."""
    process = subprocess.Popen(
        [HERE / "start", peer, "--listen", "127.0.0.1:0", "--mode", mode],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ready, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
        line = process.stdout.readline() if ready else ""
        match = LINE.fullmatch(line)
        assert match, f"it printed {line!r}; is it built? benches/peers/build {peer}"
        assert match[2] == peer, f"it calls itself {match[2]}"
        assert match[3] == locked_version(peer), f"it says it has version {match[3]}"
        yield int(match[1])
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, rest) == (0, ""), (process.returncode, rest)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


class Client:
    """One connection: a message is a frame."""

    PATH = "/"

    def __init__(self, websocket):
        self.websocket = websocket
        extensions = websocket.protocol.extensions
        assert not extensions, f"it accepted {extensions}"

    def frame(self):
        return self.websocket.recv(timeout=TIMEOUT_S)

    def send(self, message):
        self.websocket.send(message)

    def receive(self):
        return self.frame()

    def expect(self, message):
        received = self.receive()
        assert received == message, f"{show(received)} instead of {show(message)}"

    def ping(self):
        assert self.websocket.ping(b"ping").wait(TIMEOUT_S), "no Pong"

    def close(self):
        self.websocket.close(1000)
        received = self.websocket.protocol.close_rcvd
        assert received and received.code == 1000, f"{received} instead of a Close with 1000"


class SocketIoClient(Client):
    """One connection: a message is an event of that name, by Engine.IO 4 and Socket.IO 5."""

    PATH = "/socket.io/?EIO=4&transport=websocket"
    BINARY = '451-["message",{"_placeholder":true,"num":0}]'

    def __init__(self, websocket):
        super().__init__(websocket)
        opened = self.frame()
        assert opened.startswith("0{"), opened
        self.websocket.send("40")
        connected = self.frame()
        assert connected.startswith("40{"), connected

    def send(self, message):
        if isinstance(message, bytes):
            self.websocket.send(self.BINARY)
            self.websocket.send(message)
        else:
            self.websocket.send("42" + json.dumps(["message", message]))

    def receive(self):
        frame = self.frame()
        if frame == self.BINARY:
            return self.frame()
        assert frame.startswith("42"), frame
        name, message = json.loads(frame[2:])
        assert name == "message", frame
        return message


@contextmanager
def client(peer, port):
    kind = SocketIoClient if peer == "socket.io" else Client
    # Offers compression, which no peer may accept.
    with connect(
        f"ws://127.0.0.1:{port}{kind.PATH}",
        open_timeout=TIMEOUT_S,
        close_timeout=TIMEOUT_S,
        ping_interval=None,
        max_size=None,
        proxy=None,
    ) as websocket:
        yield kind(websocket)


def show(message):
    return message if len(message) < 80 else f"{message[:40]}… ({len(message)} of {type(message)})"


# --- What every peer does ------------------------------------------------------------------


def check_messages_come_back_as_they_were(peer):
    with running(peer, "echo") as port, client(peer, port) as first:
        for message in [
            "",
            "hello",
            "naïve 🎺",
            b"",
            bytes(range(64)),
            bytes(16 * KIB),
            bytes(index % 251 for index in range(256 * KIB)),
            bytes(KIB * KIB),
        ]:
            first.send(message)
            first.expect(message)
        first.close()


def check_pipelined_messages_keep_their_order(peer):
    with running(peer, "echo") as port, client(peer, port) as first:
        messages = [f"message {number}" if number % 2 else bytes([number]) * 64 for number in range(20)]
        for message in messages:
            first.send(message)
        for message in messages:
            first.expect(message)
        first.close()


def check_fragments_come_back_as_one_message(peer):
    with running(peer, "echo") as port, client(peer, port) as first:
        whole = '42["message","in pieces"]' if peer == "socket.io" else "in pieces"
        first.websocket.send([whole[:2], whole[2:5], whole[5:]])
        first.expect("in pieces")
        first.close()


def check_pings_are_answered(peer):
    for mode in ["echo", "broadcast"]:
        with running(peer, mode) as port, client(peer, port) as first:
            first.ping()
            first.send("between")
            first.expect("between")
            first.ping()
            first.close()


def check_broadcasts_reach_everyone(peer):
    with running(peer, "broadcast") as port, ExitStack() as stack:
        clients = [stack.enter_context(client(peer, port)) for _ in range(5)]
        messages = [f"message {number}" for number in range(20)] + [bytes(64), bytes(256 * KIB), "", b""]
        for message in messages:
            clients[1].send(message)
        for each in clients:
            for message in messages:
                each.expect(message)
        # Whoever leaves takes nobody along.
        clients.pop().close()
        clients[0].send("without you")
        for each in clients:
            each.expect("without you")


def check_sigterm_ends_it_with_clients_connected(peer):
    for mode in ["echo", "broadcast"]:
        with ExitStack() as stack, running(peer, mode) as port:
            for _ in range(5):
                stack.enter_context(client(peer, port))


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]


def main(peers):
    failed = False
    for peer in peers:
        try:
            for check in CHECKS:
                check(peer)
        except Exception as error:  # Whatever it is, the peer did not behave.
            failed = True
            print(f"{peer}: {check.__name__}: {type(error).__name__}: {error}")
        else:
            print(f"{peer} {locked_version(peer)}: {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or RUST + NPM))
