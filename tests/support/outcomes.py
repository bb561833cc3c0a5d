"""Outcomes that tests of many parts expect: a refusal in one line, a replay to the same bits, faults."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdcode.__main__ import main
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import InputError


@contextmanager
def refused(*words: str, start: str = "") -> Iterator[None]:
    """Expect an `InputError` of one line with these words, which starts in this way."""
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert message.startswith(start)
    assert "\n" not in message
    for word in words:
        assert word in message


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line on standard error; there is exactly one."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def assert_replays(path: str | Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(path)]) == 0
    assert "bit-identical" in capsys.readouterr().out


def faults_of(trace: TraceReader) -> list[str]:
    """Return the kinds of faults, without a worker that is slow as the machine is busy."""
    return [kind for kind in trace.faults["kind"].tolist() if kind not in ("overdue", "returned")]


def png_size(path: Path) -> tuple[int, int]:
    """Width and height from the header of a PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
