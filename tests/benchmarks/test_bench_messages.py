"""The benchmark of messages: rank 0's path beside a worker in its own process, without a launcher."""

import subprocess
import sys

from paths import ROOT
from shell import environment

ALONE = """
import tempfile, time
from pathlib import Path
from benchmarks import loopback, messages
from pdcode import codes
from pdcode.transport.layout import Layout
messages.ROUNDS = 60
code = codes.design("net", workers=16, blocks=16, weight=4)
layout = Layout([messages.LAYER], [1], [code.weight], messages.DTYPE)
assert loopback.exchange(60, layout) > 0
with tempfile.TemporaryDirectory() as folder:
    fleet = loopback.LoopbackFleet(layout)
    print(messages.measure_rate(fleet, layout, code, Path(folder) / "t.h5", time.process_time) > 0)
"""


def test_rank_0_serves_a_worker_in_its_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
