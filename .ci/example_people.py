"""People of the example `service`: their tokens, their orders, and what they hear."""

import base64
import hashlib
import hmac
import json
import os
import time
from contextlib import ExitStack, contextmanager

from example_client import client, receive
from example_server import TIMEOUT_S

SECRET = "the secret that the issuer of tokens shares with the service"
os.environ["JWT_SECRET"] = SECRET


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(claims, secret=SECRET, algorithm="HS256"):
    """A JSON Web Token (RFC 7519, RFC 7515)."""
    head = {"alg": algorithm, "typ": "JWT"}
    signed = ".".join(encode(json.dumps(part).encode()) for part in (head, claims))
    if algorithm == "none":
        return f"{signed}."
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
    return f"{signed}.{encode(hmac.digest(secret.encode(), signed.encode(), digest))}"


def token(name, ends_in_s=600):
    return sign({"sub": name, "exp": int(time.time()) + ends_in_s})


def bearer(name):
    return {"Authorization": f"Bearer {token(name)}"}


class Person:
    """A client with a name. It hears everything but the state, unless it waits for that."""

    def __init__(self, websocket, name):
        self.websocket, self.name, self.seq = websocket, name, 0
        welcome = self.hear("welcome")
        assert welcome["name"] == name, welcome
        self.shard = welcome["shard"]

    def hear(self, kind):
        """The next message, which is of this kind; states are passed over if another one is wanted."""
        if kind == "state":
            notice = json.loads(receive(self.websocket))
        else:
            [notice] = answers(self, 1)
        assert notice["kind"] == kind, f"{notice} instead of {kind}"
        return notice

    def order(self, kind, **fields):
        """An order as JSON, with the next number."""
        self.seq += 1
        return json.dumps({"kind": kind, "seq": self.seq, **fields})

    def send(self, kind, **fields):
        self.websocket.send(self.order(kind, **fields))

    def do(self, kind, **fields):
        """Gives an order that is carried out."""
        self.send(kind, **fields)
        assert self.hear("ack") == {"kind": "ack", "seq": self.seq}

    def say(self, room, text):
        """Speaks in a room, and gives back what is heard of it there, which comes before the ack."""
        self.send("say", room=room, text=text)
        said = self.hear("said")
        assert said["text"] == text and self.hear("ack")["seq"] == self.seq, said
        return said

    def fail(self, kind, **fields):
        """Gives an order that is not, and says why not."""
        self.send(kind, **fields)
        error = self.hear("error")
        assert error["seq"] == self.seq and error["reason"], error
        return error["reason"]

    def await_people(self, *names):
        """Waits until these people are there, and no others."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.hear("state").get("people") != sorted(names):
            assert time.monotonic() < deadline, f"never {names}"


@contextmanager
def enter(server, *names):
    with ExitStack() as stack:
        people = []
        for name in names:
            # Without a limit: a queue full of states would keep the Close frame from being read.
            websocket = client(server, "/ws", additional_headers=bearer(name), max_queue=None)
            people.append(Person(stack.enter_context(websocket), name))
        yield people if len(people) > 1 else people[0]


@contextmanager
def enter_both_shards(server):
    """Two people on each of two shards, as the kernel deals them out."""
    with ExitStack() as stack:
        shards = {0: [], 1: []}
        count = 0
        while min(map(len, shards.values())) < 2:
            count += 1
            assert count < 100, "the kernel prefers a shard"
            person = stack.enter_context(enter(server, f"person {count:02}"))
            shards[person.shard].append(person)
        yield shards


def answers(person, count):
    """So many messages that are no state. States never end, so that alone is no reason to go on waiting."""
    notices = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(notices) < count:
        assert time.monotonic() < deadline, f"nothing but {notices}"
        notice = json.loads(receive(person.websocket))
        if notice["kind"] != "state":
            notices.append(notice)
    return notices
