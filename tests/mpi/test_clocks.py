"""Clock offsets between ranks on different hosts, by real messages."""

from pathlib import Path

from launches import on_ranks


def test_the_offset_of_another_hosts_clock_is_found_at_the_start_and_at_the_end() -> None:
    done = on_ranks(3, str(Path(__file__).parent / "programs" / "clocks.py"))
    assert done.returncode == 0, done.stderr
    start_ns, start_error_ns, end_ns, end_error_ns = map(int, done.stdout.split())
    for offset_ns, error_ns in ((start_ns, start_error_ns), (end_ns, end_error_ns)):
        assert 0 < error_ns < 100_000_000
        assert abs(offset_ns - 5_000_000_000) <= error_ns
