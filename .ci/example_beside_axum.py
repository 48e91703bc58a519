"""The checks of the example `beside-axum`. Called by examples.py, which says how."""

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from example_client import (
    ACCEPT,
    KIB,
    ask,
    client,
    close_of,
    get,
    handshake,
    receive,
    refused,
    text_frame,
    visit,
)
from example_server import TIMEOUT_S, ExampleServer, run

KEY_OF_ADA, KEY_OF_BOB = "ada-7e0f", "bob-51c2"
os.environ["API_KEYS"] = f"Ada={KEY_OF_ADA},Bob={KEY_OF_BOB}"
ADA = {"Authorization": f"Bearer {KEY_OF_ADA}"}


def enter(server, room="tea", **more):
    return client(server, f"/ws/{quote(room, '')}?key={KEY_OF_ADA}", **more)


def check_beside_axum_has_axums_routes():
    with ExampleServer("beside-axum") as server:
        assert "axum" in get(server, "/")[1]
        assert get(server, "/health")[1] == "ok\n"
        assert f'ringwire_driver{{driver="{server.driver}"}} 1\n' in get(server, "/metrics")[1]
        assert ask(server, "GET", "/me", headers=ADA)[1] == "Ada"
        assert get(server, f"/me?key={KEY_OF_BOB}")[1] == "Bob"
        assert get(server, "/nothing")[0].status == 404
        assert ask(server, "GET", "/rooms/tea", headers=ADA)[0].status == 405
        server.stop()


def check_beside_axum_wants_a_key():
    with ExampleServer("beside-axum") as server:
        for key in ["", "Ada", KEY_OF_ADA[:-1], f"{KEY_OF_ADA}x", KEY_OF_ADA.upper()]:
            headers = {"Authorization": f"Bearer {key}"}
            for method, path in [("GET", "/me"), ("POST", "/rooms/tea")]:
                for response, _ in [
                    ask(server, method, path, headers=headers),
                    ask(server, method, f"{path}?key={quote(key)}"),
                    ask(server, method, path),
                ]:
                    assert response.status == 401, f"{key}: {response.status}"
                    assert response.headers["WWW-Authenticate"] == "Bearer"
            with refused(401):
                visit(client(server, "/ws/tea", additional_headers=headers))
            with refused(401):
                visit(client(server, f"/ws/tea?key={quote(key)}"))
        with client(server, "/ws/tea", additional_headers=ADA) as websocket:
            websocket.send("hello")
            assert receive(websocket) == "hello"
        server.stop()


def check_beside_axum_takes_no_other_key_than_its_own():
    for keys in ["", "Ada", "=key", "Ada="]:
        ended = run("beside-axum", "--api-key", keys)
        assert ended.returncode == 2 and "--api-key" in ended.stderr, ended
    # The keys of the environment are not shown.
    helped = run("beside-axum", "--help")
    assert "API_KEYS" in helped.stdout and KEY_OF_ADA not in helped.stdout


def check_beside_axum_refuses_what_is_no_handshake():
    with ExampleServer("beside-axum") as server:
        path = f"/ws/tea?key={KEY_OF_ADA}"
        good = handshake(path).decode()
        for bad in [
            good.replace("Upgrade: websocket\r\n", ""),
            good.replace("Connection: Upgrade\r\n", ""),
            good.replace("Version: 13", "Version: 8"),
            re.sub("Sec-WebSocket-Key: .*\r\n", "", good),
            re.sub("Sec-WebSocket-Key: .*\r\n", "Sec-WebSocket-Key: short\r\n", good),
            good.replace("HTTP/1.1", "HTTP/1.0"),
        ]:
            with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as peer:
                peer.sendall(bad.encode())
                answer = read_head(peer)
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")), f"{bad} {answer}"
        assert get(server, path)[0].status == 400
        with refused(400):
            visit(enter(server, "t" * 129))
        # Lists, in any letters.
        listed = good.replace("Connection: Upgrade", "Connection: keep-alive, upgrade")
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as peer:
            peer.sendall(listed.replace("websocket\r\n", "WebSocket\r\n").encode())
            assert ACCEPT in read_head(peer)
        server.stop()


def read_head(peer):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.recv(1) or b"no end of the head\r\n\r\n"
    return head


def read_exactly(peer, count):
    received = b""
    while len(received) < count:
        more = peer.recv(count - len(received))
        assert more, f"the end instead of {count} bytes: {received[:100]!r}"
        received += more
    return received


def check_beside_axum_hands_over_what_came_with_the_request():
    """The first frames are read by hyper, behind the request, and belong to Ringwire."""
    with ExampleServer("beside-axum", "--shards", 2) as server, enter(server, "tea") as other:
        other.send("ready")
        assert receive(other) == "ready"
        # 7, 16 and 64 bits of length; the last one is only in part with the request.
        for size in (0, 5, 1_000, 70_000):
            text = "x" * size
            frame = text_frame(text)
            head = b"\x81" + (
                bytes([size])
                if size < 126
                else b"\x7e" + size.to_bytes(2, "big")
                if size < 65_536
                else b"\x7f" + size.to_bytes(8, "big")
            )
            cuts = {0, 1, 3, len(frame) // 2, len(frame)}
            for cut in sorted(cut for cut in cuts if cut <= len(frame)):
                with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as peer:
                    peer.sendall(handshake(f"/ws/tea?key={KEY_OF_ADA}") + frame[:cut])
                    answer = read_head(peer)
                    assert b" 101 " in answer and ACCEPT in answer, answer
                    peer.sendall(frame[cut:])
                    assert read_exactly(peer, len(head) + size) == head + text.encode()
                    assert receive(other) == text
        # Several messages and a Close frame, all in one packet.
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as peer:
            frames = text_frame("one") + text_frame("two") + b"\x88\x82\0\0\0\0\x03\xe8"
            peer.sendall(handshake(f"/ws/tea?key={KEY_OF_ADA}") + frames)
            assert b" 101 " in read_head(peer)
            assert [receive(other) for _ in range(2)] == ["one", "two"]
            received = b"".join(iter(lambda: peer.recv(4 * KIB), b""))
            assert received == b"\x81\x03one\x81\x03two\x88\x02\x03\xe8", received
        server.stop()


def check_beside_axum_serves_adopted_sockets_like_others():
    messages = ["hello", "", "grüße 🦀", "x" * 1_000 * KIB, b"", b"\0\xff", bytes(range(256)) * 3_000]
    for shards in (1, 2):
        options = ["--shards", shards, "--max-message", 1_000 * KIB]
        with ExampleServer("beside-axum", *options) as server, ExitStack() as stack:
            clients = [
                stack.enter_context(enter(server, f"room {n}", compression=None, max_size=None))
                for n in range(10)
            ]
            for message in messages:
                for websocket in clients:
                    websocket.send(message)
                for websocket in clients:
                    assert receive(websocket) == message
            assert clients[0].ping(b"ping").wait(TIMEOUT_S)
            clients[0].send(["a", "b", "c"])
            assert receive(clients[0]) == "abc"
            clients[1].send("x" * (1_000 * KIB + 1))
            assert close_of(clients[1])[0] == 1009
            metrics = get(server, "/metrics")[1]
            assert "\nringwire_connections_accepted_total 10\n" in f"\n{metrics}", metrics
            server.stop()


def check_beside_axum_publishes_to_adopted_sockets():
    with ExampleServer("beside-axum", "--shards", 2) as server, ExitStack() as stack:
        # The emptiest shard takes the next one, so both have some.
        tea = [stack.enter_context(enter(server, "tea/🦀")) for _ in range(8)]
        other = stack.enter_context(enter(server, "coffee"))
        for websocket in [*tea, other]:
            # Adopted, and in its room: its own message comes back.
            websocket.send(f"ready {id(websocket)}")
            while receive(websocket) != f"ready {id(websocket)}":
                pass
        for text in ("hello", "x" * 200 * KIB, "last"):
            response, _ = ask(server, "POST", f"/rooms/{quote('tea/🦀', '')}", text.encode(), ADA)
            assert response.status == 204, response.status
        for websocket in tea:
            texts = []
            while texts[-1:] != ["last"]:
                text = receive(websocket)
                if not text.startswith("ready"):
                    texts.append(text)
            assert texts == ["hello", "x" * 200 * KIB, "last"], [text[:9] for text in texts]
        # Nothing of it was for the other room.
        other.send("alone")
        assert receive(other) == "alone"
        assert ask(server, "POST", "/rooms/tea", b"\xff", ADA)[0].status == 400
        assert ask(server, "POST", f"/rooms/{'t' * 129}", b"x", ADA)[0].status == 400
        server.stop()


def check_beside_axum_has_one_door():
    """Ringwire listens nowhere itself, so nobody comes in past axum."""
    with ExampleServer("beside-axum", "--shards", 2) as server:
        folder = Path("/proc") / str(server.process.pid)
        own = {os.readlink(file) for file in (folder / "fd").iterdir()}
        ports = []
        for table in ("tcp", "tcp6"):
            for line in (folder / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                # 0A is LISTEN (proc_net_tcp in the kernel's documentation).
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                    ports.append(int(fields[1].split(":")[1], 16))
        assert ports == [server.port], f"listens on {ports}"
        server.stop()


def check_beside_axum_ends_in_order():
    """Requests that are there are answered, and every adopted connection gets its Close frame."""
    with ExampleServer("beside-axum", "--shards", 2) as server, ExitStack() as stack:
        clients = [stack.enter_context(enter(server)) for _ in range(5)]
        for websocket in clients:
            websocket.send("ready")
            receive(websocket)
        # A connection that is kept alive does not hold the end up.
        kept = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S))
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"200 OK" in kept.recv(4 * KIB)
        server.stop()
        assert "panicked" not in server.log(), server.log()
