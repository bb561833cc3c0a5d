"""Threads of BLAS in the caller's process: results do not depend on what it had before."""

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import pdcode
from pdcode.util.threads import VARIABLES, one_thread


def threads() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_one_thread_unless_the_user_sets_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with threadpool_limits(2, "blas"):
        with one_thread():
            assert threads() == {1}
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with one_thread():
            assert threads() == {2}


def test_a_replay_is_bit_identical_in_a_process_of_many_threads(tmp_path, monkeypatch):
    config = {"problem": {"data": "digits", "hidden": [64]}, "stop": {"updates": 20}}
    settings = {"trace.progress_s": 1e-4}
    trace = pdcode.simulate(config, workers=3, output=tmp_path / "a.h5", set=settings, progress=False)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with threadpool_limits(2, "blas"):
        assert trace.replay(progress=False).tobytes() == trace.theta.tobytes()
