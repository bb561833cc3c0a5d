"""Replies that are broken, or no answers to their tasks: refused, and told from the good ones after them."""

from pathlib import Path

from launches import on_ranks


def test_broken_replies_are_refused_and_later_ones_used() -> None:
    done = on_ranks(2, str(Path(__file__).parent / "programs" / "broken.py"))
    assert done.returncode == 0, done.stderr
    size, other = "does not have the size of its message", "is of another round or part"
    assert done.stdout.splitlines() == [
        "good: used: 0",
        f"long: {size}: 0",
        "good: used: 0",
        f"short: {size}: 0",
        f"nothing: {size}: 0",
        "version: is of another version of theta: 0",
        "row: has codewords that were not assigned: 0",
        f"round: {other}: 0",
        f"part: {other}: 0",
        f"bytes: {size}: 0",
        "times: has impossible times: 0",
        "delay: has impossible times: 0",
        "nan: is not finite or too large, or has codewords out of range: 0",
        "flood: used: 0",
        "good: used: 199",
        "worker: used: 1",
        "other task: used: 1",
        "good: used: 0",
    ]
