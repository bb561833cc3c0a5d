"""The virtual clock beside a real run: the same delays, the same descent."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from pdcode import Trace
from pdcode.bench import runs
from pdcode.session.run import close_trace, open_trace
from pdcode.session.setup import prepare
from pdcode.virtual import costs
from pdcode.virtual.simulation import Simulation

TEXT = """
[problem]
data = "digits"
hidden = [16]
batch = 16
[code]
blocks = [8, 1]
weight = 4
[update]
mode = "all"
[workers]
count = 3
[stragglers]
kind = "shifted-exponential"
shift_s = 0.002
mean_s = 0.004
[stop]
updates = 40
"""


@pytest.mark.usefixtures("on_pool")
def test_a_simulated_run_meets_the_delays_of_the_real_one_and_descends_as_it_did(tmp_path: Path) -> None:
    config, real = runs.run_over_mpi(TEXT, [], tmp_path / "real.h5")
    fitted = costs.load(str(tmp_path / "real.h5"), config)
    assert fitted != config
    assert fitted.link.broadcast == "star"
    table = msgspec.structs.replace(config.trace, path=str(tmp_path / "virtual.h5"))
    simulation = Simulation(prepare(msgspec.structs.replace(fitted, trace=table)))
    trace = open_trace(simulation.config, TEXT, simulation.components, simulation.fleet, clock="virtual")
    close_trace(trace, simulation.run(trace)[0])
    virtual = Trace(tmp_path / "virtual.h5")
    delays = []
    for run in (real, virtual):
        rows = run.arrivals
        order = np.lexsort((rows["task"], rows["worker"]))
        delays.append(rows["injected_delay_ns"][order])
    assert len(delays[0]) == 120
    np.testing.assert_array_equal(*delays)
    # Only the order in which an update's three payloads are summed up may differ.
    np.testing.assert_allclose(virtual.theta, real.theta, rtol=1e-4, atol=1e-5)


def test_a_real_run_that_fails_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="InjectedFault"):
        runs.run_over_mpi(TEXT, ['faults.events=[{kind="raise", worker=0, task=0}]'], tmp_path / "t.h5")
