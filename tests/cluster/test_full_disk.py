"""A short soak on a disk that fills, which is mounted for it."""

import subprocess
import sys

from paths import ROOT


def test_what_was_written_to_a_full_disk_can_be_read() -> None:
    words = [sys.executable, "-P", str(ROOT / "tests" / "soak" / "full_disk.py"), "runs=1", "length=1.0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code 1: failed after" in done.stdout
