"""Runs Autobahn's fuzzing client against the echo example and judges its report.

Called by the script `autobahn` beside this, which says what for.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from example_server import DRIVER, ExampleServer

EXPECTED = Path(__file__).with_name("autobahn-expected.json")
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
# INFORMATIONAL: the case only records what a server does, where the RFC leaves a choice.
GOOD = {"OK", "INFORMATIONAL"}
# Cases 9.* echo messages of up to 16 MiB, and the client does not read while it sends.
OPTIONS = ["--max-message", 16 << 20, "--max-backpressure", 64 << 20]
TIMEOUT_S = 400


def report(shards, folder):
    """Case → {"behavior": .., "behaviorClose": ..}, from a run against so many shards."""
    agent = f"{shards} shards, {DRIVER}"
    with ExampleServer("echo", "--shards", shards, *OPTIONS) as echo:
        spec = {
            "outdir": str(folder),
            "servers": [{"agent": agent, "url": f"ws://{echo.address}"}],
            "cases": CASES,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        spec_file = folder / "spec.json"
        spec_file.write_text(json.dumps(spec))
        with (folder / "log").open("w") as log:
            client = subprocess.run(
                [os.environ["WSTEST"], "-m", "fuzzingclient", "-s", spec_file],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=TIMEOUT_S,
            )
        index = folder / "index.json"
        if client.returncode != 0 or not index.exists():
            sys.exit(f"wstest failed, status {client.returncode}:\n{(folder / 'log').read_text()[-4000:]}")
        echo.stop()
    return json.loads(index.read_text())[agent]


def in_order(case):
    return [int(part) for part in case.split(".")]


def judge(shards, results, expected):
    """Prints a line on a run and every case that is not as it should be; true if none is."""
    wrong = []
    for case in sorted(results.keys() | expected.keys(), key=in_order):
        result = results.get(case, {"behavior": "MISSING", "behaviorClose": "MISSING"})
        behavior, close = result["behavior"], result["behaviorClose"]
        if {behavior, close} - GOOD or behavior != expected.get(case):
            wrong.append(f"  {case}: {behavior}, close {close}; expected {expected.get(case)}")
    counts = Counter(result["behavior"] for result in results.values())
    summary = ", ".join(f"{count} {behavior}" for behavior, count in sorted(counts.items(), reverse=True))
    print(f"Autobahn, {shards} shard(s), {DRIVER}: {len(results)} cases: {summary}; {len(wrong)} wrong", flush=True)
    for line in wrong:
        print(line)
    return not wrong


def main():
    bless = sys.argv[1:] == ["--bless"]
    good = True
    expected = None if bless else json.loads(EXPECTED.read_text())
    for shards in (1, 2):
        with tempfile.TemporaryDirectory(prefix="autobahn-") as folder:
            results = report(shards, Path(folder))
        if expected is None:
            expected = {case: results[case]["behavior"] for case in sorted(results, key=in_order)}
        good &= judge(shards, results, expected)
    if bless and good:
        EXPECTED.write_text(json.dumps(expected, indent=0) + "\n")
        print(f"wrote {EXPECTED.name}")
    sys.exit(0 if good else 1)


main()
