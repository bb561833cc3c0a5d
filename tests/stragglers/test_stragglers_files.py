"""Files of recorded delays that cannot be used: a line that names the key and the file."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import traces
from test_stragglers_trace import MATRIX, NAN, csv, hdf5, table

from pdcode import Trace
from pdcode.util.errors import InputError


def test_more_numbers_than_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("delays", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))  # nothing is in it
    with pytest.raises(
        InputError, match=r"stragglers\.path: .*huge\.h5: 1,099,511,627,776 delays would need"
    ):
        table(tmp_path / "huge.h5").make(0, 2)
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"stragglers\.path: .*huge\.csv: 549,755,813,888 delays would need"):
        table(tmp_path / "huge.csv").make(0, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3\n", "line 2: 1 columns, where the first row has 2"),
        ("1,2\n3,x\n", "line 2: could not convert string to float: 'x'"),
        ("worker,delay\n1,2\n", "line 1: could not convert"),
        ("1,2\n3,-4\n", "worker 1, round 1: -4 is not a delay"),
        ("1,inf\n", "worker 0, round 1: inf is not a delay"),
        ("1,2e9\n", r"worker 0, round 1: 2e\+09 is not a delay"),
        ("nan,\n", "has no delays"),
        ("", "has no delays"),
    ],
)
def test_bad_tables_of_text(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=rf"stragglers\.path: .*bad\.csv: {words}"):
        table(csv(tmp_path / "bad.csv", text)).make(0, 2)


def test_bad_files(tmp_path: Path) -> None:
    def refused(words: str, path: Path, **keys: object) -> None:
        with pytest.raises(InputError, match=words):
            table(path, **keys).make(0, 2)

    refused(r"stragglers\.path: .*none\.csv: no such file", tmp_path / "none.csv")
    refused(r"stragglers\.path: .*: a directory, not a file", tmp_path)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    refused(r"stragglers\.path: .*image\.png: neither HDF5 nor UTF-8 text", tmp_path / "image.png")
    (tmp_path / "torn.h5").write_bytes(hdf5(tmp_path / "whole.h5", a=MATRIX).read_bytes()[:1000])
    refused(r"stragglers\.path: .*torn\.h5: the file is truncated", tmp_path / "torn.h5")
    refused(r"stragglers\.dataset: .*a\.csv: 'x' names an HDF5 dataset", csv(tmp_path / "a.csv"), dataset="x")
    deep = hdf5(tmp_path / "deep.h5", a=np.ones((2, 2, 2)), b=1.0, c=np.ones((2, 2), bool))
    refused(r"stragglers\.path: .*deep\.h5: has no matrix of numbers", deep)
    refused(r"stragglers\.path: .*none\.h5: has no matrix of numbers", hdf5(tmp_path / "none.h5"))
    refused(r"stragglers\.path: .*flat\.h5: has no delays", hdf5(tmp_path / "flat.h5", a=np.ones((3, 0))))
    less = hdf5(tmp_path / "less.h5", a=-MATRIX)
    refused(r"stragglers\.path: .*less\.h5: worker 0, round 0: -0\.1 is not a delay", less)
    refused(r"stragglers\.path: .*less\.h5: worker 0, round 0: -0\.1 is not a time", less, times="task")
    refused(r"stragglers\.path: .*empty\.h5: has no matrix", hdf5(tmp_path / "empty.h5", a=np.arange(3.0)))
    two = hdf5(tmp_path / "two.h5", slow=MATRIX, deep__fast=0.1 * MATRIX)
    refused(r"stragglers\.dataset: .*two\.h5: must be given; .*: deep/fast, slow", two)
    refused(r"stragglers\.dataset: .*two\.h5: 'deep' is not a matrix of numbers", two, dataset="deep")
    chosen = table(two, dataset="/deep/fast").make(1, 1).delays_s([0], [0], 3)
    np.testing.assert_array_equal(chosen[0], 0.1 * MATRIX[0])
    run = traces.simulate(tmp_path / "trace.h5", seconds=0.1)
    refused(r"stragglers\.dataset: .*trace\.h5: 'x' is for matrices", run.path, dataset="x")
    bare = traces.simulate(tmp_path / "bare.h5", seconds=0.1, arrivals="none")
    refused(r"stragglers\.path: .*bare\.h5: has no arrivals: trace\.arrivals was 'none'", bare.path)
    traces.writer(tmp_path / "new.h5").close(np.zeros(1), {}, traces.members(8), {})
    assert Trace(tmp_path / "new.h5").finished
    refused(r"stragglers\.path: .*new\.h5: has no arrivals yet", tmp_path / "new.h5")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config_resolved": "{"}, "damaged: config_resolved: Expecting"),
        (
            {"config_resolved": '{"stragglers": {"kind": "tides"}}'},
            "this pdcode cannot read its configuration: stragglers.kind",
        ),
        ({"workers": 3}, "damaged: attribute workers is 3, and 8 are listed"),
        ({"workers": "many"}, "damaged: attribute workers is 'many'"),
        ({"schema_version": "new"}, "damaged: "),
        ({"t_send_ns": None}, "damaged: arrivals has no column t_send_ns"),
        ({"t_send_ns": np.full(9, NAN)}, "damaged: column t_send_ns of arrivals is float64"),
        ({"worker": np.full(150, -1)}, "damaged: column worker of arrivals has -1"),
        ({"injected_delay_ns": np.full(150, -1)}, "has no delays"),
    ],
)
def test_traces_that_something_has_happened_to(tmp_path: Path, change: dict[str, object], words: str) -> None:
    run = traces.simulate(tmp_path / "odd.h5", seconds=0.1)
    with h5py.File(run.path, "r+") as file:
        for name, value in change.items():
            if name in file["arrivals"]:
                del file["arrivals"][name]
                if value is not None:
                    file["arrivals"][name] = value
            else:
                file.attrs[name] = value
    with pytest.raises(InputError, match=rf"stragglers\.path: .*odd\.h5: {words}"):
        table(run.path, "bootstrap").make(0, 8)


def test_a_matrix_whose_bytes_are_torn(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((40, 40))
    path = tmp_path / "torn.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", data=values, chunks=(40, 40), compression="gzip")
        where = dataset.id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[where.byte_offset + 10 : where.byte_offset + 500] = bytes(490)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"stragglers\.path: .*torn\.h5: damaged: "):
        table(path).make(0, 2)


def test_matrices_that_are_elsewhere_or_packed_in_other_ways_are_read(tmp_path: Path) -> None:
    values = np.zeros((40, 4000))
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("a", data=values, chunks=True, compression="lzf")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(values.shape, "f8")
        layout[:] = h5py.VirtualSource("packed.h5", "a", values.shape)
        file.create_virtual_dataset("a", layout)
    for name in ("packed.h5", "virtual.h5"):
        assert not table(tmp_path / name).make(0, 2).delays_s([0, 1], 0, 9).any()
