"""`pdcode.train`: runs on communicators of a program that goes on after them, however they end."""

from pathlib import Path

import pytest
from launches import on_ranks

from pdcode import Trace

pytestmark = pytest.mark.slow
OWN, OTHERS = "ZeroDivisionError: of this rank", "Failure: worker 1 failed: ZeroDivisionError: of this rank"


def test_runs_on_halves_of_a_world_and_failures_as_exceptions(tmp_path: Path) -> None:
    program = Path(__file__).parent / "programs" / "halves.py"
    done = on_ranks(5, str(program), str(tmp_path), timeout_s=110)
    assert done.returncode == 0, done.stdout + done.stderr
    notes = [line for file in tmp_path.glob("rank*.txt") for line in file.read_text().splitlines()]
    lines = dict(line.split(": ", 1) for line in notes)

    def came(name: str) -> list[str]:
        return [lines[f"{name} {rank}"] for rank in range(5)]

    assert {lines[f"even {rank}"] for rank in (0, 2)} == {lines["odd 1"]} == {"none"}
    assert (lines["even 4"], lines["odd 3"]) == ("40 updates by 2", "40 updates by 1")
    for name in ("data", "again"):
        assert came(name) == ["40 updates by 4", *["none"] * 4]
    assert {line.partition(":")[0] for line in came("input") + came("missing")} == {"InputError"}
    assert all("no.npz" in line for line in came("missing"))
    for name in ("star", "exchange", "ring", "first"):
        assert came(name) == [f"{OTHERS} with a trace", OTHERS, OWN, OTHERS, OTHERS]
    assert came("pace") == [OTHERS, OTHERS, OWN, OTHERS, OTHERS]
    diverges, *others = came("diverges")
    assert [diverges] == [f"{line} with a trace" for line in {*others}]
    assert others[0].startswith("Failure: diverged")
    assert set(came("signal")) == {"KeyboardInterrupt: "}
    assert all(line.startswith("Failure: not waited for any longer: worker") for line in came("drain"))
    assert came("end") == ["5"] * 5
    assert Trace(tmp_path / "signal.h5").summary()["failure"] == "interrupted"
    assert Trace(tmp_path / "star.h5").summary()["failure"] == OTHERS.removeprefix("Failure: ")
    trace = Trace(tmp_path / "even.h5")
    assert trace.finished
    assert trace.replay(progress=False).tobytes() == trace.theta.tobytes()
