"""Talks to the examples as their users do. Called by the script `examples` beside this.

Every function named check_* runs once, in order; the first failure ends the run. Those of the larger examples
are in files of their own, example_*.py.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

from websockets.sync.client import connect, unix_connect

import example_beside_axum
import example_service
from example_client import (
    ACCEPT,
    KIB,
    client,
    close_of,
    drained,
    exchange,
    get,
    handshake,
    receive,
    refused,
    visit,
)
from example_people import token
from example_server import DRIVER, OWN_HOST, TIMEOUT_S, ExampleServer, run

# Those whose port is the engine's, and all.
OWN_PORT = ["echo", "broadcast", "chat", "service"]
NAMES = [*OWN_PORT, "beside-axum"]
# Where a WebSocket is, if it is not at `/`.
PATHS = {
    "chat": "/ws?room=r&nick=n",
    "service": f"/ws?token={token('Nobody')}",
    "beside-axum": f"/ws/room?key={example_beside_axum.KEY_OF_ADA}",
}


# --- Every example -------------------------------------------------------------------------


def path_of(name):
    return PATHS.get(name, "/")


def check_the_line_says_where_and_how_many():
    for name in NAMES:
        for shards in (1, 2):
            with ExampleServer(name, "--shards", shards) as server:
                assert server.port != 0 and server.shards == shards
                visit(client(server, path_of(name)))
                server.stop()


def check_the_driver_is_the_one_asked_for():
    for name in NAMES:
        # The option is stronger than the environment.
        with ExampleServer(name, "--driver", "epoll", driver="epoll") as server:
            visit(client(server, path_of(name)))
            server.stop()
            assert "io_uring" not in server.log(), server.log()
        with ExampleServer(name, "--driver", "auto", driver="auto") as server:
            visit(client(server, path_of(name)))
            server.stop()


def check_signals_drain():
    for name in NAMES:
        for number in (signal.SIGTERM, signal.SIGINT):
            with ExampleServer(name, "--shards", 2) as server, ExitStack() as stack:
                clients = [stack.enter_context(client(server, path_of(name))) for _ in range(5)]
                if name == "chat":
                    for websocket in clients:
                        assert json.loads(receive(websocket))["kind"] == "welcome"
                        # The others' comings and goings are told until the Close frame.
                server.signal(number)
                for websocket in clients:
                    code = drained(websocket)
                    assert code == 1001, f"{name}: closed with {code}"
                assert server.wait() == (0, ""), server.log()


def check_a_second_signal_ends_at_once():
    with ExampleServer("echo", "--shards", 1) as server:
        # Shakes hands, and then never answers the Close frame that the first signal brings.
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as mute:
            mute.sendall(handshake("/"))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += mute.recv(1) or b"no end of the head\r\n\r\n"
            assert b" 101 " in head and ACCEPT in head, head
            server.signal(signal.SIGTERM)
            frame = mute.recv(4 * KIB)
            assert frame[:1] == b"\x88", frame
            # Within a second it is the same wish: one Ctrl-C that a runner forwards.
            server.signal(signal.SIGINT)
            time.sleep(0.3)
            assert server.process.poll() is None, server.log()
            time.sleep(1)
            server.signal(signal.SIGTERM)
            assert server.wait() == (1, ""), server.log()


def check_one_address_belongs_to_one_server():
    for name in NAMES:
        with ExampleServer(name, "--shards", 2) as server:
            second = run(name, "--shards", 2, "--listen", server.address)
            assert second.returncode == 1 and second.stdout == "", second
            assert server.address in second.stderr and "port" in second.stderr, second.stderr
            visit(client(server, path_of(name)))
            server.stop()


def check_listens_where_a_name_points():
    for name in NAMES:
        with ExampleServer(name, host="localhost") as server:
            visit(client(server, path_of(name)))
            server.stop()
        for nowhere in ("9001", "127.0.0.1:65536", "no host name:80"):
            ended = run(name, "--listen", nowhere)
            assert ended.returncode == 1 and ended.stdout == "", ended
            assert f'"{nowhere}"' in ended.stderr and "ADDR:PORT" in ended.stderr, ended.stderr


def check_listens_on_unix_sockets_too():
    for name in OWN_PORT:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/ws.sock"
            # As a server leaves it that was killed.
            with socket.socket(socket.AF_UNIX) as left_over:
                left_over.bind(path)
            listen = [f"unix:{path}", "127.0.0.1:0", f"unix:@{OWN_HOST}"]
            with ExampleServer(name, "--shards", 2, "--unix-mode", 600, listen=listen) as server:
                assert (server.address, server.path) == (None, path)
                assert os.stat(path).st_mode & 0o777 == 0o600
                address, abstract = server.next_line(), server.next_line()
                assert abstract == f"@{OWN_HOST}"
                visit(connect(f"ws://{address}{path_of(name)}", open_timeout=TIMEOUT_S, proxy=None))
                for where in (path, f"\0{OWN_HOST}"):
                    uri = f"ws://localhost{path_of(name)}"
                    visit(unix_connect(where, uri, open_timeout=TIMEOUT_S))
                second = run(name, "--listen", f"unix:{path}")
                assert second.returncode == 1 and path in second.stderr, second
                server.stop()
                assert not os.path.exists(path)
            with open(path, "w") as precious:
                precious.write("precious")
            ended = run(name, "--listen", f"unix:{path}")
            assert ended.returncode == 1 and "no socket" in ended.stderr, ended
            assert open(path).read() == "precious"


NGINX_LINES = re.compile(r"### nginx in front.*?```nginx\n(.*?)```", re.DOTALL)


def check_nginx_forwards_to_a_unix_socket():
    """With the lines of docs/operations.md."""
    lines = NGINX_LINES.search(Path("docs/operations.md").read_text())[1]
    assert "unix:/run/app/ws.sock;" in lines, lines
    with tempfile.TemporaryDirectory() as folder:
        # Its workers run as another user, who is not in our group.
        os.chmod(folder, 0o755)
        path, port = f"{folder}/ws.sock", free_port()
        configuration = Path(folder, "nginx.conf")
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        configuration.write_text(
            f"daemon off; pid {folder}/pid; error_log stderr; worker_processes 2; events {{}}\n"
            f"http {{ access_log off; server {{ listen {OWN_HOST}:{port};\n"
            + "".join(f"{name}_temp_path {folder}/{name};\n" for name in temporary)
            + lines.replace("/run/app/ws.sock", path)
            + "}}\n"
        )
        options = ("--shards", 2, "--unix-mode", 666)
        with ExampleServer("echo", *options, listen=[f"unix:{path}"]) as server:
            with Proxy(["nginx", "-c", str(configuration), "-p", folder], port), ExitStack() as stack:
                origin = f"http://{OWN_HOST}:{port}"
                uri = f"ws://{OWN_HOST}:{port}/"
                clients = [
                    stack.enter_context(
                        connect(uri, open_timeout=TIMEOUT_S, proxy=None, origin=origin)
                    )
                    for _ in range(20)
                ]
                for message in ("hello", "x" * 300 * KIB, b"\0\xff"):
                    for websocket in clients:
                        websocket.send(message)
                    for websocket in clients:
                        assert receive(websocket) == message
                with refused(403):
                    visit(connect(uri, proxy=None, origin="https://other.example"))
                server.signal(signal.SIGTERM)
                for websocket in clients:
                    assert drained(websocket) == 1001
                assert server.wait() == (0, ""), server.log()


def free_port():
    with socket.socket() as probe:
        probe.bind((OWN_HOST, 0))
        return probe.getsockname()[1]


class Proxy:
    """A process that listens on that port of our host while the `with` block runs."""

    def __init__(self, words, port):
        self._words, self._port = words, port

    def __enter__(self):
        self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL)
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection((OWN_HOST, self._port), TIMEOUT_S).close()
                return self
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.__exit__()
        raise AssertionError(f"{self._words[0]} does not listen")

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(TIMEOUT_S)


def check_pages_of_other_sites_are_refused_unless_named():
    for name in NAMES:
        with ExampleServer(name) as server:
            visit(client(server, path_of(name), origin=f"http://{server.address}"))
            for origin in ("https://app.example", "null"):
                with refused(403):
                    visit(client(server, path_of(name), origin=origin))
            server.stop()
        named = ["--allow-origin", "https://app.example", "--allow-origin", "http://b.example:81"]
        with ExampleServer(name, *named) as server:
            for origin in ("https://app.example", "http://b.example:81"):
                visit(client(server, path_of(name), origin=origin))
            with refused(403):
                visit(client(server, path_of(name), origin="http://app.example"))
            server.stop()
        with ExampleServer(name, "--allow-origin", "any") as server:
            for origin in ("https://app.example", "null"):
                visit(client(server, path_of(name), origin=origin))
            server.stop()


def check_load_balancers_find_an_answer():
    for name in OWN_PORT:
        with ExampleServer(name) as server:
            for request, status in [
                ("OPTIONS / HTTP/1.0\r\n\r\n", 204),
                ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 204),
                ("GET /health HTTP/1.0\r\n\r\n", 200),
                ("HEAD /health HTTP/1.0\r\n\r\n", 200),
                ("GET /health HTTP/1.1\r\nHost: h\r\n\r\n", 200),
            ]:
                answer = exchange(server, request.encode()).decode()
                assert answer.startswith(f"HTTP/1.1 {status} "), f"{name}: {request} {answer}"
                assert answer.endswith("ok\n") == (status == 200 and request[0] == "G"), answer
                is_last = request.endswith("HTTP/1.0\r\n\r\n")
                assert "\r\nDate: " in answer and ("\r\nConnection: close\r\n" in answer) == is_last, answer
            server.stop()


def check_wrong_options_are_explained():
    for name in NAMES:
        for options, named in [
            (["--shards", "0"], "--shards"),
            (["--max-message", "-1"], "-1"),
            (["--idle-timeout", "soon"], "--idle-timeout"),
            (["--colour"], "--colour"),
            (["--driver", "kqueue"], "--driver"),
            (["--unix-mode", "rw"], "--unix-mode"),
            (["--allow-origin", "https://app.example/"], "--allow-origin"),
            (["--allow-origin", "null"], "--allow-origin"),
        ]:
            ended = run(name, *options)
            assert ended.returncode == 2 and ended.stdout == "", ended
            assert named in ended.stderr and "--help" in ended.stderr, ended.stderr
        helped = run(name, "--help")
        assert helped.returncode == 0 and "--max-backpressure" in helped.stdout


# --- echo ----------------------------------------------------------------------------------


def check_echo_gives_back_what_it_gets():
    messages = ["hello", "", "grüße 🦀", "x" * 100 * KIB, b"", b"\0\xff", bytes(range(256)) * 300]
    for shards in (1, 2):
        with ExampleServer("echo", "--shards", shards) as server, ExitStack() as stack:
            clients = [
                stack.enter_context(client(server, compression=None)) for _ in range(10)
            ]
            for message in messages:
                for websocket in clients:
                    websocket.send(message)
                for websocket in clients:
                    assert receive(websocket) == message
            assert clients[0].ping(b"ping").wait(TIMEOUT_S)
            clients[0].send(["a", "b", "c"])
            assert receive(clients[0]) == "abc"


def check_echo_limits_a_message():
    with ExampleServer("echo", "--max-message", 1000) as server:
        with client(server) as websocket:
            websocket.send("x" * 1000)
            assert receive(websocket) == "x" * 1000
            websocket.send("x" * 1001)
            assert close_of(websocket)[0] == 1009
        server.stop()


# --- broadcast -----------------------------------------------------------------------------


def check_broadcast_reaches_everyone_in_order():
    with ExampleServer("broadcast", "--shards", 2) as server, ExitStack() as stack:
        clients = [stack.enter_context(client(server)) for _ in range(8)]
        # A subscription is there once its own message came back through it.
        for number, websocket in enumerate(clients):
            websocket.send(f"ready {number}")
            while receive(websocket) != f"ready {number}":
                pass
        for number, websocket in enumerate(clients):
            for count in range(50):
                websocket.send(f"{number} {count}" if count % 2 else f"{number} {count}".encode())
        for websocket in clients:
            next_count = [0] * len(clients)
            while sum(next_count) < 50 * len(clients):
                message = receive(websocket)
                text = message if isinstance(message, str) else message.decode()
                if text.startswith("ready"):
                    continue
                number, count = map(int, text.split())
                assert count == next_count[number], f"{text} instead of {next_count[number]}"
                assert isinstance(message, str) == bool(count % 2), f"{message!r} changed its type"
                next_count[number] += 1
        server.stop()


# --- chat ----------------------------------------------------------------------------------


def enter(server, nick, room="tea", **more):
    query = urlencode({"room": room, "nick": nick})
    return client(server, f"/ws?{query}", **more)


def notice(websocket, kind):
    received = json.loads(receive(websocket))
    assert received["kind"] == kind, f"{received} instead of {kind}"
    return received


def check_chat_serves_its_page():
    with ExampleServer("chat") as server:
        for path, content_type in [
            ("/", "text/html; charset=utf-8"),
            ("/?room=tea&nick=Ada", "text/html; charset=utf-8"),
            ("/style.css", "text/css; charset=utf-8"),
            ("/script.js", "text/javascript; charset=utf-8"),
            ("/icon.svg", "image/svg+xml"),
        ]:
            response, body = get(server, path)
            assert response.status == 200 and body, path
            assert response.headers["Content-Type"] == content_type, path
            assert "default-src 'none'" in response.headers["Content-Security-Policy"], path
            assert "unsafe" not in response.headers["Content-Security-Policy"], path
            assert response.headers["X-Content-Type-Options"] == "nosniff", path
            head, nothing = get(server, path, "HEAD")
            assert (head.status, nothing) == (200, ""), path
            assert head.headers["Content-Length"] == str(len(body.encode())), path
        assert get(server, "/nothing")[0].status == 404
        assert get(server, "/../Cargo.toml")[0].status == 404
        assert get(server, "/ws")[0].status == 426
        assert get(server, "/", "POST")[0].status == 405
        server.stop()


def check_chat_lets_in_whom_it_should():
    with ExampleServer("chat", "--allow-origin", "https://chat.example") as server:
        # https is what the page's origin is behind a proxy that adds TLS.
        own = [f"http://{server.address}", f"https://{server.address}"]
        for origin in [None, *own, "https://chat.example"]:
            with enter(server, "Ada", origin=origin) as websocket:
                notice(websocket, "welcome")
        for origin in ["http://chat.example", "https://chat.example.evil", "http://evil.example", "null"]:
            with refused(403):
                visit(enter(server, "Ada", origin=origin))
        for room, nick in [("", "Ada"), ("tea", ""), ("t" * 33, "Ada"), ("tea", "A" * 33), ("tea", "A\n")]:
            with refused(400):
                visit(enter(server, nick, room))
        for path in ["/ws", "/ws?room=tea", "/ws?room=tea&nick=%ff%0a"]:
            with refused(400):
                visit(client(server, path))
        with refused(404):
            visit(client(server, "/?room=tea&nick=Ada"))
        with enter(server, "🦀" * 32, "é" * 32) as websocket:
            notice(websocket, "welcome")
        server.stop()


def check_chat_talks():
    with ExampleServer("chat", "--shards", 2) as server:
        with enter(server, "Ada") as ada, enter(server, "Eve", "coffee") as eve:
            shard = notice(ada, "welcome")["shard"]
            notice(eve, "welcome")
            with enter(server, "Grace") as grace:
                notice(grace, "welcome")
                assert notice(ada, "joined")["nick"] == "Grace"
                text = 'h\u00e9 "<b>" \n\u2028 🦀'
                ada.send(json.dumps({"id": "1", "text": text}))
                said = {"kind": "said", "id": "1", "nick": "Ada", "text": text, "shard": shard}
                assert notice(ada, "said") == said
                assert notice(grace, "said") == said
            assert notice(ada, "left")["nick"] == "Grace"
            # Nothing of this was for the other room.
            eve.send(json.dumps({"id": "2", "text": "alone"}))
            assert notice(eve, "said")["text"] == "alone"
        server.stop()


def check_chat_shrugs_off_the_malicious():
    with ExampleServer("chat", "--shards", 2) as server, enter(server, "Ada") as ada:
        notice(ada, "welcome")
        for message, code in [
            (b"\0", 1003),
            ("hello", 1008),
            ("[" * 100_000, 1008),
            ('{"id":"1","text":"x","nick":"Ada"}', 1008),
            (json.dumps({"id": "1", "text": "x" * 2001}), 1008),
            (json.dumps({"id": "1", "text": ""}), 1008),
            (json.dumps({"id": "x" * 65, "text": "x"}), 1008),
        ]:
            with enter(server, "Mallory") as mallory:
                notice(mallory, "welcome")
                notice(ada, "joined")
                mallory.send(message)
                closed, reason = close_of(mallory)
                assert closed == code and reason, f"{message[:40]!r}: {closed} {reason}"
            notice(ada, "left")
        ada.send(json.dumps({"id": "1", "text": "🦀" * 2000}))
        assert notice(ada, "said")["text"] == "🦀" * 2000
        server.stop()


def checks_of(module):
    checks = [(name, check) for name, check in vars(module).items() if name.startswith("check_")]
    assert checks, f"nothing to check in {module}"
    return checks


def main():
    modules = [sys.modules[__name__], example_service, example_beside_axum]
    checks = [check for module in modules for check in checks_of(module)]
    for name, check in checks:
        started = time.monotonic()
        check()
        title = name.removeprefix("check_").replace("_", " ")
        print(f"ok  {title} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"examples: {len(checks)} checks passed on {DRIVER}")


sys.exit(main())
