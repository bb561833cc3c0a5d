"""Time to a training loss by who adds up payloads, and in how many bits, on the virtual clock.

Digits, 64-64-10: without delays, with exponential ones of 2 ms, and without over links of 10 MB/s.
"""

import argparse

from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.virtual.simulation import Simulation

MEMORY = ["memory.kind=worker"]
SETTINGS = {
    "no delays": [],
    "delays of 2 ms": ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.002"],
    "10 MB/s": ["link.bandwidth=1e7"],
}


def ways(bits: int) -> dict[str, list[str]]:
    """Return the keys of each way to add up payloads."""
    rounded, integers = [*MEMORY, "wire.dtype=int8"], [*MEMORY, f"reduce.bits={bits}"]
    return {
        "star, float32": [],
        "star, int8": rounded,
        f"star, {bits} bits": integers,
        "relay, int8": [*rounded, "downlink.kind=codewords"],
        "all-reduce, float32": ["reduce.kind=allreduce"],
        "all-reduce, int8, owners": ["reduce.kind=allreduce", *rounded],
        f"all-reduce, {bits} bits": ["reduce.kind=allreduce", *integers],
        f"tree of 4, {bits} bits": ["reduce.kind=tree", *integers],
        f"tree of 2, {bits} bits": ["reduce.kind=tree", "reduce.fanout=2", *integers],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--loss", type=float, default=0.5)
    parser.add_argument("--without", default="", help="names of ways to leave out, such as relay,owners")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    workers, loss = (4, 2.0) if given.quick else (given.workers, given.loss)
    common = [
        "scheme.name=uncoded", "update.mode=all", "problem.hidden=[64]", "problem.batch=32",
        "optimizer.rate=0.3", f"workers.count={workers}", f"stop.loss={loss}", "stop.updates=200",
        "trace.progress_updates=1",
    ]  # fmt: skip
    left_out = [name for name in given.without.split(",") if name]
    for name, how in ways(given.bits).items():
        if any(each in name for each in left_out):
            continue
        for setting, more in SETTINGS.items():
            run, result = Simulation(prepare(configfile.resolve({}, [*common, *how, *more]))).run()
            wraps = run.coordinator.incidents.wraps
            print(
                f"{name:26} {setting:15} {1e3 * result.seconds:9.1f} ms {result.updates:4} updates "
                f"{result.bytes_up / 1e6:9.1f} MB up, wraps {wraps}",
                flush=True,
            )


if __name__ == "__main__":
    main()
