"""Parts of the transport over MPI by themselves."""

from pathlib import Path

import pytest
from launches import on_ranks

pytestmark = pytest.mark.slow


def test_parts_on_one_rank() -> None:
    done = on_ranks(1, str(Path(__file__).parent / "programs" / "parts.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.split()) == 10
