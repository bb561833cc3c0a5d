"""What signals do to a run."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from pdcode.util import signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_the_first_signal_interrupts_and_a_later_one_ends(number, monkeypatch):
    now_s = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    run = SimpleNamespace(interrupted=False)
    with signals.handled(signals.interrupts(run)):
        signal.raise_signal(number)
        assert run.interrupted
        now_s[0] += 0.5
        signal.raise_signal(signal.SIGTERM)  # the same wish, from SLURM or mpirun
        now_s[0] += 0.6
        with pytest.raises(SystemExit) as error:
            signal.raise_signal(number)
        assert error.value.code == 128 + number


@pytest.mark.parametrize("nohup", [True, False])
def test_a_hang_up_that_the_process_was_started_to_ignore_stays_ignored(nohup, monkeypatch):
    """Not one that a rank ignores until rank 0 handles it."""
    monkeypatch.setattr(signals, "NOHUP", nohup)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = SimpleNamespace(interrupted=False)
        with signals.handled(signals.interrupts(run)):
            signal.raise_signal(signal.SIGHUP)
        assert run.interrupted == (not nohup)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_deferred_signal_is_not_lost_by_an_error() -> None:
    run = SimpleNamespace(interrupted=False)
    with signals.handled(signals.interrupts(run)):
        with suppress(ValueError), signals.deferred():
            signal.raise_signal(signal.SIGTERM)
            assert not run.interrupted
            raise ValueError
        assert run.interrupted


def test_signals_of_a_moment_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `timeout` sends them to the process and to its group: the second would break off the end."""
    now_s = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    with signals.handled(signals.as_keyboard_interrupt()):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            now_s[0] += signals.SAME_REQUEST_S


def test_another_ctrl_c_at_the_very_end_prints_no_traceback() -> None:
    code = (
        "import signal; from pdcode.__main__ import main, supervised; "
        "supervised.report_exit = lambda code: signal.raise_signal(signal.SIGINT); main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "codes"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert "Traceback" not in done.stderr
