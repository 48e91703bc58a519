"""Runs the README's first command and talks to what it starts. Called by the script `first-command`
beside this, which says where."""

import http.client
import json
from pathlib import Path

from websockets.sync.client import connect

from example_server import TIMEOUT_S, ExampleServer

COMMAND = "cargo run --release --example chat"


def main():
    commands = [
        line.partition("#")[0].strip()
        for block in Path("README.md").read_text().split("```sh\n")[1:]
        for line in block.partition("```")[0].splitlines()
    ]
    assert commands[0] == COMMAND, f"the README's first command is {commands[0]!r}"
    # On a free port; the README's own may be taken here.
    with ExampleServer("chat", program=[*COMMAND.split(), "--"], driver="epoll") as server:
        page = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
        page.request("GET", "/")
        assert page.getresponse().status == 200, "the page"
        with connect(f"ws://{server.address}/ws?room=tea&nick=Ada", open_timeout=TIMEOUT_S, proxy=None) as ada:
            assert json.loads(ada.recv(timeout=TIMEOUT_S))["kind"] == "welcome"
            ada.send(json.dumps({"id": "1", "text": "hello"}))
            assert json.loads(ada.recv(timeout=TIMEOUT_S))["text"] == "hello"
        warnings = [line for line in server.log().splitlines() if "io_uring" in line]
        assert len(warnings) == 1 and "WARN" in warnings[0], server.log()
        assert "seccomp" in warnings[0] and "--security-opt" in warnings[0], warnings[0]
        server.stop()
    print(f"`{COMMAND}` serves without io_uring: {server.shards} shards, {server.driver}")


main()
