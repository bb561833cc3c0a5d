"""A long run over MPI with a fault every so many arrivals: what does each rank hold on to?

    python tests/soak/soak.py arrivals=1000000 every=10000 record=sampled workers=3

The faults are of all kinds that a run survives, by turns, and meet the workers by turns; each death takes a
spare rank. Memory, file handles and threads of every rank are read every few seconds. They are flat if, after
a first minute (a fifth of a short run), none is more in the second half than in the first, memory by more
than `SLACK` MiB. Nor may a process stay behind that nobody has waited for. The exit code is 1 if that does
not hold.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pdcode.trace.reader import TraceReader

KINDS = [
    "kind = 'kill'",
    *(f"kind = '{kind}', for_s = 0.01" for kind in ("corrupt", "nan", "lie", "drop", "duplicate", "delay")),
    *(f"kind = '{kind}', for_s = 0.3" for kind in ("stop", "hang", "slow", "cut")),
]
JOB = """
problem = {{kind = "least-squares", data = "synthetic", samples = 64, features = 8, batch = 4}}
code = {{blocks = 2, weight = 1}}
optimizer = {{rate = 0.01}}
update = {{clip = "median"}}
workers = {{count = {workers}, spares = {spares}}}
stop = {{updates = {arrivals}}}
trace = {{path = "{folder}/soak.h5", arrivals = "{record}"}}
faults = {{events = [
{events}
]}}
"""
SLACK = 1.0  # MiB
PATIENCE_S = 10.0  # until somebody has waited for a process that has ended
RANK = b"OMPI_COMM_WORLD_RANK="


class Held(NamedTuple):
    """What a rank holds."""

    memory: float  # resident, MiB
    files: int
    threads: int


class Soak(NamedTuple):
    """What came of a run."""

    exitcode: int
    faults: int  # in the configuration
    trace: TraceReader
    times_s: list[float]  # when the ranks were looked at, since the start
    held: dict[int, dict[float, Held]]  # rank -> time -> what it held
    left: set[int]  # processes that had ended, and that nobody waited for
    output: str

    def halves(self, rank: int) -> tuple[Held, Held] | None:
        """Return the most that a rank held in the halves of the time after the start; None if it was gone."""
        end_s = self.times_s[-1]
        start_s = min(60.0, end_s / 5)
        middle_s = (start_s + end_s) / 2
        found = [
            [held for at_s, held in self.held[rank].items() if from_s <= at_s < to_s]
            for from_s, to_s in ((start_s, middle_s), (middle_s, end_s + 1))
        ]
        return tuple(Held(*map(max, zip(*half, strict=True))) for half in found) if all(found) else None

    def grown(self) -> list[int]:
        """List the ranks that held more in the second half."""
        return [
            rank
            for rank in self.held
            if (halves := self.halves(rank)) and (np.subtract(halves[1], halves[0]) > (SLACK, 0, 0)).any()
        ]


def soak(folder: Path, arrivals: int, every: int, record: str = "sampled", workers: int = 3) -> Soak:
    """Run a job with a fault every so many arrivals, and look at its ranks meanwhile."""
    count = arrivals // every
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    events = []
    for number, kind in enumerate(kinds[:-1], 1):
        worker = 1 + number % (workers - 1) if kind == KINDS[0] else number % workers  # one lives all along
        events.append(f"  {{{kind}, worker = {worker}, task = {number * every // workers}}},")
    job = JOB.format(
        workers=workers, spares=kinds.count(KINDS[0]), arrivals=arrivals, folder=folder, record=record,
        events="\n".join(events),
    )  # fmt: skip
    (folder / "soak.toml").write_text(job)
    began, times_s, held, left = time.monotonic(), list[float](), dict[int, dict[float, Held]](), set[int]()
    ended: dict[int, float] = {}
    with (folder / "output").open("w+") as output:
        run = subprocess.Popen(
            [sys.executable, "-P", "-m", "pdcode", "run", str(folder / "soak.toml")],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while run.poll() is None:
            times_s.append(time.monotonic() - began)
            before, ended = ended, {}
            for process in _below(run.pid):
                if _state(process) == "Z":
                    ended[process] = before.get(process, times_s[-1])
                elif (found := _held(process)) is not None:
                    held.setdefault(found[0], {})[times_s[-1]] = found[1]
            left |= {process for process, at_s in ended.items() if times_s[-1] - at_s > PATIENCE_S}
            time.sleep(min(5.0, max(0.2, times_s[-1] / 50)))
        output.seek(0)
        return Soak(
            run.returncode, len(events), TraceReader(folder / "soak.h5"), times_s, held, left, output.read()
        )


def _below(process: int) -> Iterator[int]:
    """Yield the processes that descend from one."""
    for task in _listed(f"/proc/{process}/task"):
        for child in map(int, _read(f"/proc/{process}/task/{task}/children").split()):
            yield child
            yield from _below(child)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _state(process: int) -> str:
    return _read(f"/proc/{process}/stat").rpartition(b") ")[2][:1].decode()


def _held(process: int) -> tuple[int, Held] | None:
    """Return the rank of a process, and what it holds; None if it is no rank."""
    ranks = [each for each in _read(f"/proc/{process}/environ").split(b"\0") if each.startswith(RANK)]
    if not ranks or b"pdcode" not in _read(f"/proc/{process}/cmdline"):
        return None
    values = dict(
        line.split(b":", 1) for line in _read(f"/proc/{process}/status").splitlines() if b":" in line
    )
    files = len(_listed(f"/proc/{process}/fd"))
    if b"VmRSS" not in values or not files:
        return None
    held = Held(int(values[b"VmRSS"].split()[0]) / 1024, files, int(values[b"Threads"]))
    return int(ranks[0].removeprefix(RANK)), held


def told(soak: Soak) -> str:
    """Describe what came of a run."""
    updates, arrivals = (getattr(soak.trace, name).rows for name in ("updates", "arrivals"))
    lines = [
        f"{len(soak.times_s)} looks in {soak.times_s[-1]:.0f} s; {soak.faults} faults; "
        f"{updates:,} updates, {arrivals:,} rows of arrivals",
        "most in the first and in the second half",
        f"{'rank':>4}  {'memory, MiB':^19}  {'files':^13}  {'threads':^11}",
    ]
    for rank in sorted(soak.held):
        if halves := soak.halves(rank):
            pairs = [
                f"{was:{width}.5g} {now:{width}.5g}"
                for was, now, width in zip(*halves, (9, 6, 5), strict=True)
            ]
            lines.append(f"{rank:4}  " + "  ".join(pairs))
        else:
            lines.append(f"{rank:4}  gone, or came, meanwhile")
    totals = (
        (key, soak.trace.counters.get(key, 0)) for key in ("used", "clipped", "refused", "strays", "lost")
    )
    lines.append("payloads: " + ", ".join(f"{count:,} {key}" for key, count in totals))
    kinds, counts = np.unique(soak.trace.faults["kind"], return_counts=True)
    lines.append(
        "in /faults: " + ", ".join(f"{count} {kind}" for kind, count in zip(kinds, counts, strict=True))
    )
    lines.append(
        f"processes left behind: {sorted(soak.left) or 'none'}; grown: ranks {soak.grown() or 'none'}"
    )
    return "\n".join(lines)


def command_line() -> int:
    given = {"arrivals": "1000000", "every": "10000", "record": "sampled", "workers": "3"}
    given |= dict(word.split("=", 1) for word in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        numbers = {key: int(given[key]) for key in ("arrivals", "every", "workers")}
        done = soak(Path(name), record=given["record"], **numbers)
        print(told(done))
        if done.exitcode:
            print(done.output[-2000:])
    return int(bool(done.exitcode or done.left or done.grown()))


if __name__ == "__main__":
    sys.exit(command_line())
