"""An example as a process: started, its one line read, ended. Knows nothing of WebSocket.

The binaries are taken from the folder named by $EXAMPLES, which the scripts beside this set. They run on
the driver named by $RINGWIRE_DRIVER, which they read themselves: `auto` without it.
"""

import os
import re
import select
import signal
import subprocess
import tempfile
from pathlib import Path

# Far longer than a start or a drain takes, so that only a hang reaches it.
TIMEOUT_S = 20

# An address of this machine that no other process listens on: a port that is given up there stays
# free until it is taken again.
OWN_HOST = f"127.{64 | os.getpid() >> 16 & 63}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"

DRIVER = os.environ.get("RINGWIRE_DRIVER", "auto")

LINE = re.compile(
    r"listening on (?:ws://((?:127\.\d+\.\d+\.\d+|\[::1\]):(\d+))|ws\+unix:(\S+))"
    r" \((\d+) shards, (io_uring|epoll)\)\n"
)


def command(name, *options):
    return [Path(os.environ["EXAMPLES"]) / name, *map(str, options)]


def run(name, *options):
    """Runs an example that is expected to end by itself."""
    return subprocess.run(command(name, *options), capture_output=True, text=True, timeout=TIMEOUT_S)


class ExampleServer:
    """A running example; leaving the `with` block kills it if it still runs.

    `program` starts it in place of its binary. It has to run on `driver`, unless that is `auto`. `listen`
    takes the place of host and port; its first listener has the first line.
    """

    def __init__(
        self, name, *options, host="127.0.0.1", port=0, listen=None, program=None, driver=DRIVER
    ):
        self.name = name
        listeners = listen or [f"{host}:{port}"]
        self._log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [
                *(program or command(name)),
                *(word for listener in listeners for word in ("--listen", listener)),
                *map(str, options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        line = self.process.stdout.readline() if ready else ""
        match = LINE.fullmatch(line)
        if not match or driver not in ("auto", match[5]):
            self.kill()
            raise AssertionError(f"{name}, asked for {driver}, printed {line!r}; its log:\n{self.log()}")
        self.address, self.path = match[1], match[3]
        self.port = int(match[2]) if match[2] else None
        self.shards, self.driver = int(match[4]), match[5]

    def next_line(self):
        """The address or the path of the next listener."""
        line = self.process.stdout.readline()
        match = LINE.fullmatch(line)
        assert match, f"{self.name} printed {line!r}; its log:\n{self.log()}"
        return match[1] or match[3]

    def log(self):
        self._log.seek(0)
        return self._log.read()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """Waits for the end and gives the exit status and what else came on standard output."""
        rest, _ = self.process.communicate(timeout=TIMEOUT_S)
        # A name with several addresses has a line for each.
        return self.process.returncode, LINE.sub("", rest)

    def stop(self):
        """Ends it as an operator would, and insists that it ends well."""
        self.signal(signal.SIGTERM)
        status, rest = self.wait()
        assert (status, rest) == (0, ""), f"{self.name}: status {status}, printed {rest!r}\n{self.log()}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdout.close()
        self._log.close()
