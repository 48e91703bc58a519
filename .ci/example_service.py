"""The checks of the example `service`. Called by examples.py, which says how."""

import json
import select
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from urllib.parse import quote

from example_client import ask, client, drained, get, handshake, receive, refused, send_at_once, visit
from example_people import Person, answers, bearer, enter, enter_both_shards, sign, token
from example_server import TIMEOUT_S, ExampleServer

# What the services that are asked take (`SLOW` in main.rs), and the name that one of them does not let in.
SLOW_S = 0.2
BANNED = "mallory"
MESSAGES_MAX = 50
WINDOW_S = 10


def check_service_serves_machines_and_people():
    for shards in (1, 2):
        with ExampleServer("service", "--shards", shards) as server, enter(server, "Ada"):
            response, body = get(server, "/")
            assert response.status == 200 and "new WebSocket" in body, response.status
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"
            assert get(server, "/health")[1] == "ok\n"
            # Each counter is at most one tick old.
            deadline = time.monotonic() + TIMEOUT_S
            while "ringwire_handshakes_accepted_total 1\n" not in (body := get(server, "/metrics")[1]):
                assert time.monotonic() < deadline, body
            assert f'ringwire_driver{{driver="{server.driver}"}} 1\n' in body, body
            for path in ("/nothing", "/rooms/tea", "/rooms/", "/ws"):
                assert get(server, path)[0].status == 404, path
            assert get(server, "/", "POST")[0].status == 404
            with refused(404):
                visit(client(server, "/", additional_headers=bearer("Ada")))
            server.stop()


def check_service_wants_a_token():
    now_s = int(time.time())
    valid = {"sub": "Ada", "exp": now_s + 600}
    invalid = {
        "no token": "",
        "no JWT": "Ada",
        "no signature": ".".join(sign(valid).split(".")[:2]),
        "another secret": sign(valid, "guessed"),
        "another algorithm": sign(valid, algorithm="HS512"),
        "none": sign(valid, algorithm="none"),
        "another name": ".".join([sign({**valid, "sub": "Eve"}).rsplit(".", 1)[0], sign(valid).rsplit(".", 1)[1]]),
        "expired": sign({**valid, "exp": now_s - 1}),
        "expired long ago": sign({**valid, "exp": 1}),
        "without an end": sign({"sub": "Ada"}),
        "not yet": sign({**valid, "nbf": now_s + 600}),
        "without a name": sign({"exp": now_s + 600}),
        "an empty name": sign({**valid, "sub": ""}),
        "a long name": sign({**valid, "sub": "A" * 33}),
        "a name with a line break": sign({**valid, "sub": "A\n"}),
    }
    with ExampleServer("service") as server, enter(server, "Bob") as bob:
        bob.do("join", room="tea")
        for why, bad in invalid.items():
            try:
                with refused(401):
                    visit(client(server, "/ws", additional_headers={"Authorization": f"Bearer {bad}"}))
                with refused(401):
                    visit(client(server, f"/ws?token={quote(bad)}"))
                with refused(401):
                    visit(client(server, "/ws", additional_headers={"Cookie": f"token={bad}"}))
                response, _ = ask(server, "POST", f"/rooms/tea?token={quote(bad)}", "hello")
                assert response.status == 401, response.status
                assert response.headers["WWW-Authenticate"] == "Bearer"
            except AssertionError as error:
                raise AssertionError(f"{why}: {error}") from error
        with refused(401):
            visit(client(server, "/ws"))
        # Nothing of this was said.
        bob.send("say", room="tea", text="alone")
        assert bob.hear("said")["text"] == "alone"
        server.stop()


def check_service_takes_a_token_from_three_places():
    with ExampleServer("service") as server:
        ada = token("Ada")
        places = [
            {"path": "/ws", "additional_headers": {"Authorization": f"Bearer {ada}"}},
            {"path": "/ws", "additional_headers": {"authorization": f"bearer {ada}"}},
            {"path": f"/ws?token={ada}"},
            {"path": f"/ws?a=b&token={ada}&c"},
            {"path": "/ws", "additional_headers": {"Cookie": f"token={ada}"}},
            {"path": "/ws", "additional_headers": {"Cookie": f"a=b; token={ada}; c=d"}},
        ]
        for place in places:
            with client(server, **place) as websocket:
                Person(websocket, "Ada")
        # A page of another site has its visitor's cookie, and may not use it.
        evil = {"origin": "http://evil.example"}
        with refused(401):
            visit(client(server, **places[4], **evil))
        with refused(403):
            visit(client(server, **places[2], **evil))
        with client(server, **places[4], origin=f"http://{server.address}") as websocket:
            Person(websocket, "Ada")
        server.stop()


def check_service_takes_the_tokens_of_its_script():
    script = "examples/service/token"
    made = subprocess.run([script, "Ada"], capture_output=True, text=True, check=True).stdout.strip()
    with ExampleServer("service") as server, client(server, f"/ws?token={made}") as websocket:
        Person(websocket, "Ada")
        server.stop()
    assert subprocess.run([script], capture_output=True, text=True).returncode == 1


def check_service_asks_a_slow_service_before_the_101():
    with ExampleServer("service", "--shards", 1) as server:
        with refused(403):
            visit(client(server, "/ws", additional_headers=bearer(BANNED)))
        assert ask(server, "POST", "/rooms/tea", "hello", bearer(BANNED))[0].status == 403
        began = time.monotonic()
        with enter(server, "Ada"):
            assert time.monotonic() - began >= SLOW_S
        # Meanwhile the shard serves others: one such moment is enough.
        assert any(is_served_during_a_handshake(server) for _ in range(20))
        server.stop()


def is_served_during_a_handshake(server):
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as peer:
        peer.sendall(handshake(f"/ws?token={token('Eve')}"))
        assert get(server, "/health")[0].status == 200
        was_answered = bool(select.select([peer], [], [], 0)[0])
        assert b" 101 " in peer.recv(4096)
        return not was_answered


def check_service_has_rooms():
    with ExampleServer("service", "--shards", 2) as server:
        with enter(server, "Ada", "Bob", "Eve") as (ada, bob, eve):
            for person, room in [(ada, "tea"), (bob, "tea"), (eve, "coffee"), (bob, "grüße 🦀")]:
                person.do("join", room=room)
            text = 'h\u00e9 "<b>" \u2028 🦀'
            said = {"kind": "said", "room": "tea", "from": "Ada", "text": text}
            # The acks have come, so the subscriptions are there, on whichever shards.
            assert ada.say("tea", text) == said
            assert bob.hear("said") == said
            # Not for the other room: what comes next there is her own.
            assert eve.say("coffee", "alone")["from"] == "Eve"
            # Who is not in a room, does not speak there and hears nothing.
            assert "not there" in ada.fail("say", room="coffee", text="x")
            assert "not there" in ada.fail("leave", room="coffee")
            bob.do("leave", room="tea")
            assert "not there" in bob.fail("say", room="tea", text="x")
            ada.say("tea", "again")
            assert bob.say("grüße 🦀", "mine")["room"] == "grüße 🦀"
        server.stop()


def check_service_answers_nonsense_with_an_error():
    bad = [
        ("", None),
        ("hello", None),
        ("[" * 100_000, None),
        ("[1]", None),
        ("null", None),
        (b"\0\xff", None),
        ('{"kind":"join","room":"tea"}', None),
        ('{"kind":"join","room":"tea","seq":-1}', None),
        ('{"kind":"join","room":"tea","seq":"1"}', None),
        ('{"kind":"join","room":"tea","seq":1.5}', None),
        ('{"seq":7}', 7),
        ('{"kind":"dance","seq":7}', 7),
        ('{"kind":7,"seq":7}', 7),
        ('{"kind":"join","seq":7}', 7),
        ('{"kind":"join","room":7,"seq":7}', 7),
        ('{"kind":"join","room":"","seq":7}', 7),
        ('{"kind":"join","room":" ","seq":7}', 7),
        ('{"kind":"join","room":"a\\nb","seq":7}', 7),
        (json.dumps({"kind": "join", "room": "t" * 33, "seq": 7}), 7),
        (json.dumps({"kind": "join", "room": "tea", "as": "Eve", "seq": 7}), 7),
        (json.dumps({"kind": "say", "room": "tea", "text": "", "seq": 7}), 7),
        (json.dumps({"kind": "say", "room": "tea", "text": "x" * 2001, "seq": 7}), 7),
        (json.dumps({"kind": "whisper", "to": "", "text": "x", "seq": 7}), 7),
        (json.dumps({"kind": "find", "seq": 18446744073709551615}), 18446744073709551615),
    ]
    with ExampleServer("service") as server, enter(server, "Ada") as ada:
        ada.do("join", room="tea")
        for message, seq in bad:
            ada.websocket.send(message)
            error = ada.hear("error")
            assert error["seq"] == seq and error["reason"], f"{message[:60]!r}: {error}"
        # The connection has stayed, and the longest words are taken.
        ada.do("join", room="é" * 32)
        ada.say("tea", "🦀" * 2000)
        # JSON is taken as binary, too.
        ada.websocket.send(ada.order("leave", room="tea").encode())
        assert ada.hear("ack")["seq"] == ada.seq
        server.stop()


def check_service_acknowledges_by_number():
    with ExampleServer("service") as server, enter(server, "Ada") as ada:
        numbers = [1, 2, 7, 7, 0, 3, 2**53, 2**64 - 1]
        send_at_once(
            ada.websocket,
            [json.dumps({"kind": "join", "room": f"room {n % 5}", "seq": n}) for n in numbers],
        )
        assert [ada.hear("ack")["seq"] for _ in numbers] == numbers
        server.stop()


def check_service_whispers_across_shards():
    with ExampleServer("service", "--shards", 2) as server, enter_both_shards(server) as shards:
        a, b = shards[0][:2]
        c, d = shards[1][:2]
        for sender, receiver in [(a, b), (a, c), (c, a), (c, d), (d, b), (a, a)]:
            text = f"{sender.name} to {receiver.name}"
            whisper = {"kind": "whispered", "from": sender.name, "text": text}
            if sender is receiver:
                sender.send("whisper", to=sender.name, text=text)
                assert sender.hear("whispered") == whisper
                assert sender.hear("ack")["seq"] == sender.seq
            else:
                whisper_known(sender, receiver.name, text)
                assert receiver.hear("whispered") == whisper
        # Nobody has heard more of it.
        for person in [a, b, c, d]:
            person.do("join", room="tea")
        assert "nobody" in a.fail("whisper", to="no such name", text="x")
        server.stop()


def whisper_known(sender, to, text):
    """Whispers to somebody of whom the sender's shard may hear a moment later."""
    for _ in range(40):
        sender.send("whisper", to=to, text=text)
        answer = answers(sender, 1)[0]
        if answer == {"kind": "ack", "seq": sender.seq}:
            return
        assert "nobody" in answer["reason"], answer
        time.sleep(0.25)
    raise AssertionError(f"{to} is never known to {sender.name} on shard {sender.shard}")


def check_service_knows_one_name_on_two_connections():
    with ExampleServer("service", "--shards", 2) as server, enter(server, "Ada") as ada:
        with enter(server, "Twin") as first:
            # On another shard than the first, unless the kernel does not want that.
            with ExitStack() as stack:
                second = stack.enter_context(enter(server, "Twin"))
                for _ in range(50):
                    if second.shard != first.shard:
                        break
                    second = stack.enter_context(enter(server, "Twin"))
                ada.await_people("Ada", "Twin")
                assert any(both_hear(ada, first, second) for _ in range(20))
            # One has gone; the name is still there, and its list has not lost it.
            with enter(server, "Eve"):
                ada.await_people("Ada", "Eve", "Twin")
            ada.await_people("Ada", "Twin")
            whisper_known(ada, "Twin", "one")
            while first.hear("whispered")["text"] != "one":
                pass
        ada.await_people("Ada")
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            ada.send("whisper", to="Twin", text="none")
            if answers(ada, 1)[0]["kind"] == "error":
                break
            assert time.monotonic() < deadline
            time.sleep(0.25)
        server.stop()


def both_hear(sender, first, second):
    """Whether a whisper to a name reaches its second connection, too, soon."""
    whisper_known(sender, "Twin", "both")
    first.hear("whispered")
    return any(json.loads(receive(second.websocket))["kind"] == "whispered" for _ in range(3))


def check_service_lists_who_is_there():
    with ExampleServer("service", "--shards", 2) as server, enter(server, "Ada") as ada:
        ada.await_people("Ada")
        with enter(server, "Grace") as grace:
            grace.await_people("Ada", "Grace")
            ada.await_people("Ada", "Grace")
            # A connection that is cut off has gone, too.
            grace.websocket.socket.shutdown(socket.SHUT_RDWR)
        ada.await_people("Ada")
        with enter(server, *"BCDEFGHIJ"):
            ada.await_people("Ada", *"BCDEFGHIJ")
        ada.await_people("Ada")
        server.stop()


def check_service_limits_the_rate():
    with ExampleServer("service") as server, enter(server, "Ada", "Bob") as (ada, bob):
        began = time.monotonic()
        # In one packet, so that they are taken in one moment. What makes no sense counts, too.
        messages = ["no JSON", *(ada.order("join", room="tea") for _ in range(MESSAGES_MAX + 9))]
        send_at_once(ada.websocket, messages)
        assert ada.hear("error")["seq"] is None
        for seq in range(1, MESSAGES_MAX):
            assert ada.hear("ack")["seq"] == seq
        for seq in range(MESSAGES_MAX, ada.seq + 1):
            error = ada.hear("error")
            assert error["seq"] == seq and "50" in error["reason"], error
        # Nobody else is limited by that; and she is, for ten seconds.
        bob.do("join", room="tea")
        while True:
            ada.send("say", room="tea", text="again")
            if answers(ada, 1)[0]["kind"] != "error":
                break
            assert time.monotonic() < began + WINDOW_S + TIMEOUT_S
            time.sleep(0.1)
        # The shard's clock has a granularity of some milliseconds.
        assert time.monotonic() - began > WINDOW_S - 0.1
        server.stop()


def check_service_looks_up_for_the_one_who_asks():
    with ExampleServer("service", "--shards", 1) as server, enter(server, "Ada", "Bob") as (ada, bob):
        began = time.monotonic()
        # In one packet: the shard takes the second order while the look-up of the first one blocks.
        send_at_once(ada.websocket, [ada.order("find", key="straße"), ada.order("join", room="tea")])
        assert [ada.hear("ack")["seq"] for _ in range(2)] == [1, 2]
        assert ada.hear("found") == {"kind": "found", "seq": 1, "key": "straße", "value": "STRASSE"}
        assert time.monotonic() - began >= SLOW_S
        # Each answer has the number of its question, in whatever order they come.
        send_at_once(ada.websocket, [ada.order("find", key=f"key {n}") for n in range(20)])
        notices = answers(ada, 40)
        found = {notice["key"]: notice["seq"] for notice in notices if notice["kind"] == "found"}
        assert found == {f"key {n}": 3 + n for n in range(20)}, found
        # Bob has heard none of it.
        bob.do("join", room="tea")
        # One who has left is not waited for.
        with enter(server, "Eve") as eve:
            eve.do("find", key="nothing")
        ada.do("find", key="more")
        assert ada.hear("found")["value"] == "MORE"
        server.stop()


def check_service_publishes_its_state():
    with ExampleServer("service", "--shards", 2) as server, enter(server, "Ada") as ada:
        ada.await_people("Ada")
        clocks = [ada.hear("state")["clock_ms"]]
        deadline = time.monotonic() + TIMEOUT_S
        # A busy machine may skip some; of 20 gaps in a row none is ever short, and once none is long.
        while len(clocks) < 21 or clocks[-1] - clocks[-21] > 2_400:
            assert time.monotonic() < deadline, clocks
            clocks.append(ada.hear("state")["clock_ms"])
        for first, last in zip(clocks, clocks[20:]):
            assert last - first > 1_890, clocks
        server.stop()


def check_service_publishes_what_is_posted():
    with ExampleServer("service", "--shards", 2) as server, enter_both_shards(server) as shards:
        people = [*shards[0], *shards[1]]
        for person in people:
            person.do("join", room="grüße")
        poster = token("Poster")
        for how in [
            {"headers": {"Authorization": f"Bearer {poster}"}},
            {"headers": {"Cookie": f"token={poster}"}},
            {"headers": {"Cookie": f"token={poster}", "Origin": f"http://{server.address}"}},
            {"path": f"?token={poster}"},
        ]:
            path = f"/rooms/{quote('grüße')}{how.get('path', '')}"
            text = f"by {how}"
            response, _ = ask(server, "POST", path, text.encode(), how.get("headers"))
            assert response.status == 204, response.status
            said = {"kind": "said", "room": "grüße", "from": "Poster", "text": text}
            for person in people:
                assert person.hear("said") == said
        evil = {"Cookie": f"token={poster}", "Origin": "http://evil.example"}
        for path, body, headers, status in [
            ("/rooms/tea", "hello", {}, 401),
            ("/rooms/tea", "hello", evil, 401),
            ("/rooms/tea", "", bearer("Poster"), 400),
            ("/rooms/tea", "x" * 2001, bearer("Poster"), 400),
            (f"/rooms/{'t' * 33}", "hello", bearer("Poster"), 400),
            ("/rooms/%0a", "hello", bearer("Poster"), 400),
            ("/rooms", "hello", bearer("Poster"), 404),
        ]:
            response, _ = ask(server, "POST", path, body, headers)
            assert response.status == status, f"{path} {body[:9]} {response.status}"
        server.stop()


def check_service_ends_in_order():
    for shards in (1, 2):
        with ExampleServer("service", "--shards", shards) as server:
            with enter(server, "Ada", "Bob", "Eve") as people, socket.socket() as late:
                late.connect(("127.0.0.1", server.port))
                late.sendall(handshake(f"/ws?token={token('Late')}"))
                for person in people:
                    person.do("find", key="much")
                server.signal(signal.SIGTERM)
                for person in people:
                    assert drained(person.websocket) == 1001
                # The one who was still being looked at may try again, or has just come in.
                assert late.recv(4096).startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 101 "))
                late.close()
                assert server.wait() == (0, ""), server.log()
                assert "panicked" not in server.log(), server.log()
