"""Talks to an example as its users do, by libraries that are not ours: Python's `websockets` and
`http.client`. Knows what WebSocket and HTTP are, and nothing of any example."""

import http.client
import socket
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from example_server import TIMEOUT_S

KIB = 1024
# The key of RFC 6455 §1.3, and its answer.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def client(server, path="/", **more):
    return connect(f"ws://{server.address}{path}", open_timeout=TIMEOUT_S, proxy=None, **more)


def receive(websocket):
    return websocket.recv(timeout=TIMEOUT_S)


def visit(websocket):
    """Opens a connection and closes it again."""
    with websocket:
        pass


def close_of(websocket):
    """The code and reason the server closes with."""
    try:
        received = receive(websocket)
    except ConnectionClosed as closed:
        assert closed.rcvd, f"no Close frame: {closed}"
        return closed.rcvd.code, closed.rcvd.reason
    raise AssertionError(f"{received!r} instead of a Close frame")


def drained(websocket):
    """The code the server closes with, whatever it still says before that."""
    for _ in range(100):
        try:
            receive(websocket)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
    raise AssertionError("no end of messages")


@contextmanager
def refused(status):
    try:
        yield
    except InvalidStatus as error:
        assert error.response.status_code == status, error
        if status == 401:
            assert error.response.headers["WWW-Authenticate"] == "Bearer", error.response.headers
    else:
        raise AssertionError(f"accepted instead of {status}")


def ask(server, method, path, body=None, headers=None):
    """The answer to one request, and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


def get(server, path, method="GET"):
    return ask(server, method, path)


def exchange(server, request):
    """Everything the server answers to these bytes and a FIN."""
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as peer:
        peer.sendall(request)
        peer.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: peer.recv(4 * KIB), b""))


def handshake(path, *lines, key=KEY):
    """An opening handshake in bytes."""
    head = [f"GET {path} HTTP/1.1", "Host: h", "Upgrade: websocket", "Connection: Upgrade"]
    head += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *lines]
    return "".join(f"{line}\r\n" for line in [*head, ""]).encode()


def text_frame(text):
    """A message in bytes, as a client sends it."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=True)


def send_at_once(websocket, messages):
    """Sends messages in one piece, so that they arrive together."""
    websocket.socket.sendall(b"".join(map(text_frame, messages)))
