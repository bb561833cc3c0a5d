"""What `pdcode show` prints."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import traces
from rich.console import Console

import pdcode
from pdcode.analysis import charts, tables
from pdcode.trace.reader import TraceReader
from pdcode.trace.schema import FATES
from pdcode.util import formats


def shown(trace: TraceReader) -> str:
    """The text that `show` prints into a file."""
    file = io.StringIO()
    tables.show(trace, Console(file=file, highlight=False, markup=False, width=80))
    return file.getvalue()


def test_a_finished_run(tmp_path: Path) -> None:
    trace = traces.simulate(tmp_path / "a.h5")
    text = shown(trace)
    assert text.startswith(f"{tmp_path / 'a.h5'}: finished after 2.0")
    for part in (
        "mlp 64 relu on digits, batch 32, 4,810 parameters",
        "8 workers on node0",
        "net with k = 16, weight 2, coherence 0.5; 1 codeword a task; rotating",
        "adjoint, memory worker",
        "async, sgd at rate 0.5",
        "10× that for worker 7",
        "commit 0123456789,",
        "0.07 (the target)",
        " times as slow as the others (",
        ") from the start; nobody waits for it why",
        "rank 0: decode ",
        "worker tasks median ratio compute delay send flight decode idle quiet",
        f"{trace.arrivals.rows:,} tasks",
        "Up: 1/4.94 of the bytes of full gradients.",  # (19240 + 64) / 3904
    ):
        assert part in " ".join(text.split())
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_eighty_columns_are_enough(tmp_path: Path, workers: int) -> None:
    text = shown(traces.simulate(tmp_path / "a.h5", seconds=0.5, workers=workers))
    wide = [line for line in text.splitlines() if len(line) > 80]
    assert all(line.startswith(str(tmp_path)) for line in wide)
    assert "…" not in text
    assert ("52 more" in text) == (workers == 64)


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    text = shown(traces.simulate(tmp_path / "a.h5", seconds=0.3, close=False))
    assert "a.h5: running for 300 ms of 20.0 s requested; last written " in text.splitlines()[0]
    assert "worker 7" in text


def test_runs_with_few_or_no_rows(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5", workers=3)
    assert "No arrival yet." in shown(TraceReader(tmp_path / "a.h5"))
    writer.arrival(*traces.row(worker=1, t_start_ns=1000, t_compute_ns=2000, t_send_ns=3000, t_recv_ns=4000))
    writer.flush(0)
    text = shown(TraceReader(tmp_path / "a.h5"))
    assert "no arrival from workers 0 and 2, of 3" in text
    assert "1 task  " in text
    writer.progress(0, 0, float("nan"), float("nan"), float("nan"), 0, float("nan"))
    writer.fault(5_000, 2, 0, "crash", "rank 3 is gone")
    text = shown(TraceReader(tmp_path / "a.h5"))
    assert "rank 3 is gone" in text


def test_no_slow_worker(tmp_path: Path) -> None:
    text = shown(traces.simulate(tmp_path / "a.h5", seconds=1.0, slow=()))
    assert "no worker is slow: " in text


def test_samples_and_none(tmp_path: Path) -> None:
    text = shown(traces.simulate(tmp_path / "a.h5", seconds=1.0, arrivals="sampled", sample=10))
    assert "Estimated from one task of 10 of each worker." in " ".join(text.split())
    assert "about " in text
    text = shown(traces.simulate(tmp_path / "c.h5", 0.2, close=False, arrivals="sampled", sample=10))
    assert "of one payload in 10: " in text
    text = shown(traces.simulate(tmp_path / "b.h5", seconds=0.2, arrivals="none"))
    assert "No arrival was recorded" in text


def test_a_sample_counts_as_the_arrivals_for_which_it_stands(tmp_path: Path) -> None:
    texts = [
        shown(traces.simulate(tmp_path / f"{sample}.h5", arrivals="sampled", sample=sample))
        for sample in (1, 300)
    ]  # of 300: one or two tasks of a worker, of 420
    compute, decode = (
        [float(share) for text in texts for share in re.findall(pattern, text)]
        for pattern in (r"(?m)^ +0 +\d+ +\S+ ms +\S+× +([\d.]+)", r"an arrival\) ([\d.]+)")
    )
    assert compute[1] == pytest.approx(compute[0], rel=0.5)
    assert decode[1] == pytest.approx(decode[0], rel=0.1)


def test_every_fate_is_told() -> None:
    status = np.array([0, 0, 0, 4, 1, 2, 2, 3])
    assert tables.describe_fates(status, {}) == (
        "4 payloads were used, 1 of them clipped to the median norm; 1 came too late and was wasted; 1 was "
        "not finite, too large or no answer, and was refused; 2 came after the stop"
    )
    counted = dict.fromkeys(FATES, 7) | {"used": 30, "strays": 5}
    text = tables.describe_fates(status, counted)  # of all, where a sample was recorded
    assert text.startswith("30 payloads were used, 7 of them clipped")
    assert text.endswith("7 were lost with rank 0; 5 other messages answered no task")


def test_brackets_and_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = traces.simulate(tmp_path / "a[bold]x.h5", seconds=0.1)
    tables.show(trace)
    printed = capsys.readouterr().out
    assert "a[bold]x.h5: finished" in printed
    assert "\x1b" not in printed
    file = io.StringIO()
    tables.show(trace, Console(file=file, force_terminal=True, color_system="standard", no_color=False))
    assert "\x1b[1m" in file.getvalue()


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (formats.duration(0), "0 s"), (formats.duration(999), "999 ns"),
        (formats.duration(4.05e6), "4.05 ms"), (formats.duration(20.04e9), "20.0 s"),
        (formats.duration(754e9), "12 min 34 s"), (formats.duration(7265e9), "2 h 01 min"),
        (formats.duration(float("nan")), "–"), (formats.duration(float("inf")), "–"),
        (formats.size(0), "0 B"), (formats.size(999), "999 B"), (formats.size(1234), "1.23 kB"),
        (formats.size(56.78e9), "56.8 GB"), (formats.percent(1, 8), "12.5"), (formats.percent(1, 0), "–"),
        (formats.score(0.95829), "0.9583"), (formats.score(-3.485e40), "-3.49e+40"),
        (formats.ratio(10.24), "10.2×"), (formats.ratio(0.523), "0.52×"), (formats.ratio(1234), "1,234×"),
        (formats.ratio(float("inf")), "–"), (formats.span("1.25 s", "1.88 s"), "1.25 – 1.88 s"),
        (formats.span("990 kB", "1.38 MB"), "990 kB – 1.38 MB"), (formats.span("845", "845"), "845 – 845"),
        (formats.number(float("nan")), "–"), (formats.bar(5, 10, 4), "██"), (formats.bar(0, 10, 4), ""),
        (formats.bar(1e-9, 1, 4), "▏"), (formats.spark([0, 1, 4, 8]), " ▁▄█"), (formats.listing(["1"]), "1"),
        (formats.duration(999.6e6), "1.00 s"), (formats.duration(999.4e6), "999 ms"),
        (formats.size(999_600), "1.00 MB"),
        (formats.listing(["1", "2", "3"]), "1, 2 and 3"), (formats.listing([]), ""),
        (formats.ranges([2, 4, 5, 6, 7, 9]), "2, 4 – 7 and 9"), (formats.ranges([1, 2]), "1 and 2"),
    ],
)  # fmt: skip
def test_formats(got: str, expected: str) -> None:
    assert got == expected


def test_the_staleness_of_a_synchronous_run_is_one_line(tmp_path: Path) -> None:
    table = {"kind": "softmax", "data": "digits"}
    job = {"problem": table, "workers": {"count": 2}, "update": {"mode": "all"}, "stop": {"updates": 5}}
    run = pdcode.simulate(job, output=tmp_path / "a.h5", progress=False)
    text = shown(run)
    assert "Staleness: updates between a task's dispatch and its arrival\n  always 0\n\n" in text
    assert "staleness" not in charts.run(run, None, None)
