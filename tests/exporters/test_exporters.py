"""Exports, opened by the readers of the tools: counts, bytes and durations are the trace's."""

import errno
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import otf2
import pandas
import pyarrow.csv
import pyarrow.parquet
import pytest
import traces
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto
from prometheus_client.parser import text_string_to_metric_families
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pdcode
from pdcode import Trace
from pdcode.__main__ import main
from pdcode.config import kinds
from pdcode.exporters import events, series
from pdcode.util.errors import CONTROLS

ERROR_NS = 5  # of the clocks of `traces.members`
UP, DOWN = 0, 1  # tags of messages


class Seen:
    """What a reader has found: bytes of messages by direction, their times, and times in regions by name."""

    def __init__(self) -> None:
        self.sizes: dict[int, list[int]] = {UP: [], DOWN: []}
        self.received: dict[int, list[int]] = {UP: [], DOWN: []}
        self.spent_ns: Counter[str] = Counter()
        self.flights_ns: list[int] = []
        self.error_ns: set[int] = set()
        self._open: dict[Any, list[tuple[str, int]]] = defaultdict(list)

    def enter(self, place: Any, name: str, t_ns: int) -> None:
        assert t_ns >= 0
        self._open[place].append((name, t_ns))

    def leave(self, place: Any, t_ns: int, name: str = "") -> None:
        """Leave the region that was entered last, as they are nested."""
        entered, begin_ns = self._open[place].pop()
        assert name in ("", entered)
        assert t_ns >= begin_ns
        self.spent_ns[entered.partition(",")[0]] += t_ns - begin_ns

    def message(self, sent: bool, tag: int, size: int) -> None:
        (self.sizes if sent else self.received)[tag].append(size)

    def ended(self) -> "Seen":
        assert not any(self._open.values())
        assert all(sorted(self.sizes[tag]) == sorted(self.received[tag]) for tag in (UP, DOWN))
        return self


def read_perfetto(path: Path) -> Seen:
    """By Perfetto's own messages; its trace processor is a program that the package would download."""
    seen, names, flows = Seen(), {}, {}
    for packet in perfetto.Trace.FromString(path.read_bytes()).packet:
        track, event = packet.track_descriptor, packet.track_event
        if packet.HasField("track_descriptor"):
            names[track.uuid] = track.name
            if found := re.match(r"clock error at most (\d+) ns", track.description):
                seen.error_ns.add(int(found[1]))
        elif event.type == event.TYPE_SLICE_BEGIN:
            seen.enter(names[event.track_uuid], event.name, packet.timestamp)
        elif event.type == event.TYPE_SLICE_END:
            seen.leave(names[event.track_uuid], packet.timestamp)
        elif event.type == event.TYPE_INSTANT:
            tag = DOWN if event.name.startswith("task") else UP
            seen.message(event.name.endswith("sent"), tag, event.debug_annotations[0].uint_value)
            for flow in (*event.flow_ids, *event.terminating_flow_ids):
                flows.setdefault((tag, flow), []).append(packet.timestamp)
    ends = [times for (tag, _), times in flows.items() if tag == UP]
    assert {len(times) for times in flows.values()} == {2}
    seen.flights_ns = [max(times) - min(times) for times in ends]
    return seen.ended()


def read_otf2(path: Path) -> Seen:
    seen = Seen()
    with otf2.reader.open(str(path / "traces.otf2")) as archive:
        assert archive.timer_resolution == 10**9
        seen.error_ns = {each.value for each in archive.definitions._location_properties}
        for place, event in archive.events:
            if isinstance(event, otf2.events.Enter):
                seen.enter(place.name, event.region.name, event.time)
            elif isinstance(event, otf2.events.Leave):
                seen.leave(place.name, event.time, event.region.name)
            else:
                seen.message(isinstance(event, otf2.events.MpiSend), event.msg_tag, event.msg_length)
    return seen.ended()


def read_pipit(path: Path) -> Seen:
    """By pandas, with the columns that Pipit documents, in the way of its `Trace.from_csv`."""
    seen = Seen()
    frame = pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_parquet(path)
    assert [*frame][:5] == ["Timestamp (ns)", "Event Type", "Name", "Thread", "Process"]
    assert frame["Timestamp (ns)"].is_monotonic_increasing
    seen.error_ns = {*frame["Clock Error (ns)"]}
    rows = frame.to_dict("records")
    for row in rows:
        about = row.get("Attributes") or {
            key.partition(".")[2]: value for key, value in row.items() if key.startswith("Attributes.")
        }
        if row["Event Type"] == "Enter":
            seen.enter(row["Process"], row["Name"], row["Timestamp (ns)"])
        elif row["Event Type"] == "Leave":
            seen.leave(row["Process"], row["Timestamp (ns)"], row["Name"])
        else:
            assert about["receiver" if row["Name"] == "MpiRecv" else "sender"] == row["Process"]
            seen.message(row["Name"] == "MpiSend", int(about["msg_tag"]), int(about["msg_length"]))
    return seen.ended()


def read_goal(path: Path) -> Seen:
    """By the grammar of LogGOPSim's txt2bin: labels are defined before they are needed, ranks follow on."""
    seen, ranks, rank, labels = Seen(), [], -1, {}
    for line in path.read_text().splitlines():
        if not line or line.startswith("// "):
            seen.error_ns |= {int(found) for found in re.findall(r"clock error at most (\d+) ns", line)}
        elif found := re.fullmatch(r"num_ranks (\d+)", line):
            count = int(found[1])
        elif found := re.fullmatch(r"rank (\d+) \{", line):
            rank, labels = int(found[1]), {}
            ranks.append(rank)
        elif found := re.fullmatch(r"(l\d+) requires (l\d+)", line):
            assert {*found.groups()} <= labels.keys()
        elif found := re.fullmatch(r"(l\d+): calc (\d+)", line):
            assert found[1] not in labels
            labels[found[1]] = "calc"
            seen.spent_ns["rank 0" if rank == 0 else "workers"] += int(found[2])
        elif line != "}":
            found = re.fullmatch(r"(l\d+): (send|recv) (\d+)b (?:to|from) (\d+) tag (\d)", line)
            assert found, line
            assert found[1] not in labels
            assert int(found[4]) < count
            labels[found[1]] = found[2]
            seen.message(found[2] == "send", int(found[5]), int(found[3]))
    assert ranks == [*range(count)]
    return seen.ended()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A run with injected delays, one slow worker, and payloads after the stop."""
    return Trace(traces.simulate(tmp_path_factory.mktemp("run") / "run.h5", seconds=0.3).path)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A recording as that of a DDP script: no delays, payloads are sent when ready, clocks disagree.

    Worker 0 replies in two messages, and worker 1's tasks come without a byte.
    """
    path = tmp_path_factory.mktemp("foreign") / "ddp.h5"
    writer = traces.writer(path, workers=3)
    for step in range(40):
        end = 1_000_000 * (step + 1)
        for rank, part in ((0, 0), (0, 1), (1, 0), (2, 0)):
            start = 1_000_000 * step - 40 * rank + 300_000 * part  # before the run began, says a clock
            ready = start + 300_000 + 200_000 * rank
            times = {"t_dispatch_ns": max(0, start), "t_start_ns": start, "t_compute_ns": ready}
            times |= {"t_send_ns": ready, "t_recv_ns": end - 3 + part, "t_decoded_ns": end}
            sizes = {"bytes_up": 100, "bytes_down": 100 * (part == 0) * (rank != 1), "part": part}
            writer.arrival(*traces.row(worker=rank, task=step, version=step, **times, **sizes))
        writer.update(step + 1, end, 3, 1.0, 0.0, 0, 2, 0, 0)
    writer.close()
    return Trace(path)


CASES: list[tuple[str, str, Callable[[Path], Seen]]] = [
    ("perfetto", "a.pftrace", read_perfetto),
    ("otf2", "a.otf2", read_otf2),
    ("pipit", "a.csv", read_pipit),
    ("pipit", "a.parquet", read_pipit),
    ("goal", "a.goal", read_goal),
]


@pytest.mark.parametrize("events", [0, 500])
@pytest.mark.parametrize("which", ["run", "foreign"])
@pytest.mark.parametrize(("to", "name", "read"), CASES, ids=[name for _, name, _ in CASES])
def test_events_have_the_counts_bytes_and_times_of_the_trace(
    to: str, name: str, read: Callable[[Path], Seen], which: str, events: int, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    trace: Trace = request.getfixturevalue(which)
    table, path = trace.arrivals, tmp_path / name
    said = trace.export(path, to, events=events)
    seen = read(path)
    merged = int((re.findall(r"merged in groups of (\d+)", said) or [1])[0])
    assert f" of {table.rows:,} payloads" in said
    assert (merged > 1) == (events > 0)
    assert len(seen.sizes[UP]) == sum(-(-n // merged) for n in np.bincount(table["worker"]))
    assert sum(seen.sizes[UP]) == table["bytes_up"].sum()
    assert sum(seen.sizes[DOWN]) == table["bytes_down"].sum()
    assert merged > 1 or len(seen.sizes[DOWN]) == (table["part"] == 0).sum()
    assert ERROR_NS in seen.error_ns
    assert seen.error_ns <= {0, ERROR_NS}  # rank 0's own is 0
    compute = int((table["t_compute_ns"] - table["t_start_ns"]).sum())
    delay = int(table["injected_delay_ns"].sum())
    before = np.concatenate(([0], np.sort(table["t_decoded_ns"])[:-1]))
    decode = np.sort(table["t_decoded_ns"]) - np.maximum(np.sort(table["t_recv_ns"]), before)
    if to == "goal":
        assert seen.spent_ns["workers"] == compute + delay
        assert seen.spent_ns["rank 0"] >= decode.sum()  # steps besides
    else:
        assert seen.spent_ns["compute"] == compute
        assert seen.spent_ns["injected delay"] == delay
        assert seen.spent_ns["decode"] == decode.sum()
    if to != "goal" and merged == 1:
        assert seen.spent_ns["task"] == (table["t_send_ns"] - table["t_start_ns"]).sum()
    if to == "perfetto" and merged == 1:
        assert sorted(seen.flights_ns) == sorted(table["t_recv_ns"] - table["t_send_ns"])
    if merged > 1 and to in ("perfetto", "goal", "otf2"):
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        assert any(f"merged in groups of {merged}".encode() in each.read_bytes() for each in files)


def test_each_worker_has_a_group_even_beyond_the_limit(tmp_path: Path, run: Trace) -> None:
    assert run.export(tmp_path / "a.goal", events=10).startswith("96 events of ")  # 12 of each of 8 workers


def test_goal_has_the_time_of_steps_between_decoding_and_sending(tmp_path: Path, run: Trace) -> None:
    run.export(tmp_path / "a.goal")
    centre = (tmp_path / "a.goal").read_text().partition("rank 0 {")[2].partition("}")[0]
    assert "calc 13000\n" in centre  # 8 µs to step, and 5 µs to send
    assert "calc 15000\n" in centre  # to decode


@pytest.mark.parametrize("table", ["arrivals", "updates", "progress", "workers", "faults", "segments"])
def test_tables_have_the_columns_of_the_trace(table: str, tmp_path: Path, run: Trace) -> None:
    recorded = getattr(run, table)
    for name in ("a.parquet", "a.csv"):
        run.export(tmp_path / name, table=table)
    packed = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    text = pyarrow.csv.read_csv(tmp_path / "a.csv")
    for column in recorded:
        values = recorded[column]
        np.testing.assert_array_equal(packed[column].to_numpy().astype(values.dtype), values)
        assert set(packed.schema.field(column).metadata) == {b"units", b"description"}
        if values.dtype.kind != "U":
            np.testing.assert_array_equal(text[column].to_numpy().astype(values.dtype), values)
    assert json.loads(packed.schema.metadata[b"pdcode"])["parameters"] == 4810
    timed = table in ("arrivals", "workers")
    assert ("clock_error_ns" in packed.column_names) == timed == ("clock_error_ns" in text.column_names)
    assert not timed or set(text["clock_error_ns"].to_pylist()) == {ERROR_NS}


def test_a_csv_has_no_control_characters(tmp_path: Path) -> None:
    fault = {"kind": "kill", "worker": 1, "task": 5}
    job = {"workers": {"count": 3}, "stop": {"updates": 20}, "faults": {"events": [fault]}}
    job["scheme"] = {"preset": "default"}  # which goes on without the worker
    pdcode.simulate(job, output=tmp_path / "a.h5", progress=False)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        messages = file["faults/message"]
        assert len(messages)
        messages[0] = "\x1b[2J red\u202e, à".encode()
    Trace(tmp_path / "a.h5").export(tmp_path / "a.csv", table="faults")
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert "\\x1b[2J red\\u202e, à" in text
    assert not CONTROLS.search(text.replace("\n", ""))


def test_tensorboard_reads_the_scalars(tmp_path: Path, run: Trace) -> None:
    assert run.export(tmp_path / "board", "tensorboard") == "9 scalars of at most 5,000 points"
    board = EventAccumulator(str(tmp_path / "board"), size_guidance={"scalars": 0}).Reload()
    losses = board.Scalars("loss")
    np.testing.assert_allclose([each.value for each in losses], run.progress["loss"], rtol=1e-6)
    assert [each.step for each in losses] == run.progress["version"].tolist()
    took_s = [each.wall_time - losses[0].wall_time for each in losses]
    np.testing.assert_allclose(took_s, 1e-9 * (run.progress["t_ns"] - run.progress["t_ns"][0]), atol=1e-6)
    assert board.Scalars("payloads")[-1].value == run.arrivals.rows
    for way in ("bytes_up", "bytes_down"):
        assert board.Scalars(way)[-1].value == pytest.approx(run.arrivals[way].sum(), rel=1e-6)
    (note,) = board.Tensors("note")
    assert b"with errors of at most 5.00 ns" in note.tensor_proto.string_val[0]


def test_scalars_of_a_long_run_are_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "POINTS", 50)
    writer = traces.writer(tmp_path / "a.h5", workers=1)
    for version in range(70):
        writer.update(version + 1, 1000 * version, 1, 0.5, 0.1, 0, -1, 0, 0)
    writer.close()
    Trace(tmp_path / "a.h5").export(tmp_path / "board", "tensorboard")
    points = (
        EventAccumulator(str(tmp_path / "board"), size_guidance={"scalars": 0}).Reload().Scalars("n_used")
    )
    assert len(points) == 50
    assert (points[0].step, points[-1].step) == (1, 70)


def samples(path: Path) -> Iterable[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(path.read_text()):
        assert family.documentation
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def test_prometheus_reads_the_goodput(tmp_path: Path, run: Trace) -> None:
    path = tmp_path / "run.prom"
    path.touch()
    for _ in range(2):  # it replaces its own
        run.export(path)
    found = [*samples(path)]
    assert {labels["run"] for _, labels, _ in found} == {"run"}
    values = {(name, *labels.values()): value for name, labels, value in found}
    fates = Counter(run.arrivals["status"].tolist())
    by_fate = {labels["fate"]: value for name, labels, value in found if name == "pdcode_payloads"}
    assert (by_fate["used"], by_fate["drained"]) == (fates[0], fates[2])
    by_way = {labels["way"]: value for name, labels, value in found if name == "pdcode_bytes"}
    assert by_way == {way: run.arrivals[f"bytes_{way}"].sum() for way in ("up", "down")}
    assert values["pdcode_goodput_ratio", "run"] == fates[0] / run.arrivals.rows
    seconds = values["pdcode_run_seconds", "run"]
    spent = [value for name, _, value in found if name == "pdcode_worker_seconds"]
    assert sum(spent) == pytest.approx(8 * seconds)
    errors = [value for name, _, value in found if name == "pdcode_clock_error_seconds"]
    assert errors == [1e-9 * ERROR_NS] * 8


REFUSED = [
    (["-o", "a.txt"], "-o a.txt: expected --to, or a name that ends in .pftrace, .otf2, .goal, .parquet"),
    (["-o", "a.csv", "--to", "pipt"], "did you mean 'pipit'"),
    (["-o", "taken.csv"], "-o taken.csv: exists already; choose another name"),
    (["-o", "taken.csv", "--to", "prometheus"], "exists already"),
    (["-o", "full", "--to", "otf2"], "-o full: exists already"),
    (["-o", "full", "--to", "goal"], "-o full: exists already"),
    (["-o", "a.goal", "--table", "faults"], "--table faults: valid only with --to parquet, csv"),
    (["-o", "a.csv", "--table", "fault"], "did you mean 'faults'"),
    (["-o", "a.csv", "--events", "9"], "--events 9: valid only with --to perfetto, otf2, pipit, goal"),
    (["-o", "a.goal", "--events", "-1"], "--events -1: expected 0 or more"),
    (["-o", "a.txt", "--to", "pipit"], "-o a.txt: expected a name that ends in .csv or .parquet"),
    (["-o", "taken.csv/a.csv"], "-o taken.csv/a.csv: cannot write there"),
    (["-o", "a.goal", "--plugin", "a.py"], "--plugin a.py: valid only with --state"),
    (["--state", "a.safetensors", "--to", "goal"], "--to goal: valid only with -o"),
    (["--state", "a.safetensors", "-o", "a.goal"], "not allowed with argument"),
    ([], "one of -o/--output --state is missing"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda case: str(case)[:40])
def test_bad_input_is_refused(
    words: list[str], message: str, run: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("taken.csv").write_text("a,b\n")
    Path("full").mkdir()
    Path("full/letter").touch()
    try:
        code = main(["export", str(run.path), *words])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["full", "taken.csv"]


def test_a_run_without_arrivals_has_no_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces.writer(tmp_path / "a.h5").close()
    assert main(["export", str(tmp_path / "a.h5"), "-o", str(tmp_path / "a.goal")]) == 2
    assert "a.h5: has no arrivals, which --to goal needs" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "a.h5"), "-o", str(tmp_path / "a.prom")]) == 0


@pytest.mark.parametrize("name", ["a.goal", "a.otf2"])
def test_no_half_of_a_file_stays_on_a_full_disk(
    name: str, run: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_turn(found: np.ndarray) -> Iterable[tuple[Any, ...]]:
        yield from found[:9].tolist()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(events, "in_turn", in_turn)
    assert main(["export", str(run.path), "-o", str(tmp_path / name)]) == 1
    told = f"pdcode: -o {tmp_path / name}: cannot write: No space left on device\n"
    assert capsys.readouterr().err == told
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("to", [name for name, each in kinds.members("exporters") if each.library])
def test_a_missing_package_is_named_with_the_own_pip(
    to: str, run: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library = kinds.find("exporters", to).library
    for name in [*sys.modules]:
        if name.partition(".")[0] == library or name.startswith("pdcode.exporters."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["export", str(run.path), "--to", to, "-o", str(tmp_path / "new" / "a.csv")]) == 1
    package = library.replace("_", "-")
    told = f"pdcode: --to {to}: needs the package {package}: {sys.executable} -m pip install {package}\n"
    assert capsys.readouterr().err == told
    assert not [*tmp_path.iterdir()]
