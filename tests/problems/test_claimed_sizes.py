"""Data files that claim more than they hold, or lead elsewhere: one line, before anything is allocated."""

import gzip
import io
import os
import resource
import struct
import zipfile

import h5py
import numpy as np
import pytest
from outcomes import error_line

from pdcode import problems
from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.util import memory
from pdcode.util.errors import InputError

HUGE = 2 * 10**9, 10**6
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((20, 3)), RANDOM.standard_normal(20)
KIND = {"kind": "least-squares"}


def refused(path, message, **table):
    table = problems.as_table(KIND | {"data": str(path)} | table)
    for read in (problems.load, problems.load_source):
        with pytest.raises(InputError, match=message) as caught:
            read(table)
        assert "\n" not in str(caught.value)


def hdf5(path, make):
    with h5py.File(path, "w") as file:
        file["y"] = Y
        make(file)
    return path


def virtual(file, source, dataset="x"):
    layout = h5py.VirtualLayout((20, 3), "f8")
    layout[:] = h5py.VirtualSource(source, dataset, (20, 3))
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f.create_dataset("x", (20, 3), "f8"), "'x' in .* was never written"),
        (lambda f: f.create_dataset("x", (20, 10**13), "f8"), "'x' in .* was never written"),
        (
            lambda f: f.create_dataset("x", (20, 3), "f8", chunks=(4, 3)).__setitem__(slice(4, 8), 1.0),
            "'x' in .* has 1 of 5 chunks; the others were never written",
        ),
        (
            lambda f: f.create_dataset("x", (20, 10**13), "f8", chunks=(20, 2 * 10**6)),
            "'x' in .* has 0 of 5000000 chunks",
        ),
        (lambda f: virtual(f, "gone.h5"), "'x' in .* is a virtual dataset, and its source 'x' in 'gone.h5'"),
        (lambda f: virtual(f, ".", "gone"), ".* its source 'gone' in '.' is missing"),
        (
            lambda f: f.__setitem__("x", h5py.SoftLink("/x")),
            "'x' in .* is a link to '/x', which leads nowhere",
        ),
        (
            lambda f: f.__setitem__("x", h5py.SoftLink("/gone")),
            ".* is a link to '/gone', which leads nowhere",
        ),
        (
            lambda f: f.__setitem__("x", h5py.ExternalLink("gone.h5", "/x")),
            ".* is a link to '/x' in 'gone.h5', which leads nowhere",
        ),
        (lambda f: f.create_group("x/inner"), "'x' in .* is a group, which holds inner; name a dataset"),
        (lambda f: f.__setitem__("x", h5py.Empty("f8")), "'x' in .* is empty"),
    ],
)
def test_an_hdf5_file_of_claims(tmp_path, make, message):
    refused(hdf5(tmp_path / "a.h5", make), f"^problem.inputs: {message}")


@pytest.mark.parametrize(
    "make",
    [
        lambda f: f.__setitem__("x", h5py.ExternalLink("pipe", "/x")),
        lambda f: f.update({"out": h5py.ExternalLink("b.h5", "/pipe"), "x": h5py.SoftLink("out/x")}),
        lambda f: virtual(f, "pipe"),
        lambda f: virtual(f, "b.h5", "pipe/x"),
        lambda f: f.create_dataset("x", (20, 3), "f8", external=[("pipe", 0, 480)]),
    ],
)  # fmt: skip
def test_nobody_waits_for_a_pipe(tmp_path, make):
    os.mkfifo(tmp_path / "pipe")
    hdf5(tmp_path / "b.h5", lambda f: f.__setitem__("pipe", h5py.ExternalLink("pipe", "/")))
    refused(hdf5(tmp_path / "a.h5", make), "^problem.inputs: 'x' in .* refers to '.*pipe': not a file")


def test_a_damaged_chunk(tmp_path):
    path = hdf5(tmp_path / "a.h5", lambda f: f.create_dataset("x", data=X, chunks=(4, 3), compression="gzip"))
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    refused(path, "problem.data: '.*a.h5' cannot be read as HDF5")


def test_a_virtual_dataset_of_files_that_exist(tmp_path):
    hdf5(tmp_path / "source.h5", lambda f: f.__setitem__("x", X))
    path = hdf5(tmp_path / "a.h5", lambda f: virtual(f, "source.h5"))
    data = problems.load(
        problems.as_table(
            KIND | {"data": str(path), "test_fraction": 0, "dtype": "float64", "standardise": False}
        )
    )
    np.testing.assert_array_equal(data.x[:, :-1], X)


def npz(path, header_shape, content):
    """Write an npz file whose array x has a header of another shape than its content."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"shape": header_shape, "fortran_order": False, "descr": "<f8"}
    )
    np.savez(path, y=Y)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", file.getvalue() + content)
    return path


def test_npz_files_of_claims(tmp_path, monkeypatch):
    refused(
        npz(tmp_path / "a.npz", HUGE, bytes(1000)), "problem.data: .* cannot be read as npz: 'x' is cut off"
    )
    monkeypatch.setattr(memory, "limit_bytes", lambda: 10**6)
    bomb = npz(tmp_path / "b.npz", (20, 10**5), bytes(16 * 10**6))
    refused(
        bomb,
        r"problem.inputs: 'x' in .*b.npz' of shape \(20, 100000\) would need .* GiB of memory, but at most",
    )
    (tmp_path / "c.npz").write_text("x, y\n1, 2\n")
    refused(tmp_path / "c.npz", "problem.data: .*c.npz' is not an npz file, a zip archive of arrays$")


def test_large_hdf5_files(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "a.h5", lambda f: f.__setitem__("x", np.zeros((20, 10**4))))
    table = problems.as_table(KIND | {"data": str(path), "evaluate": 2})
    monkeypatch.setattr(memory, "limit_bytes", lambda: 10**6)
    with pytest.raises(InputError, match=r"problem.inputs: 'x' in .* would need"):
        problems.load(table)
    source = problems.load_source(table)  # a part of the rows fits
    data = problems.hdf5.load_slice(table, 1, 8, problems.loading.Statistics(**source.shard(1, 8)))
    assert data.x.shape == (2, 10**4 + 1)
    monkeypatch.setattr(memory, "limit_bytes", lambda: 600)
    with pytest.raises(InputError, match=r"problem.data: a permutation of the 20 rows"):
        problems.load_source(table)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_of_claims(tmp_path, pack):
    images, labels = tmp_path / "a-images-idx3-ubyte", tmp_path / "a-labels-idx1-ubyte"
    labels.write_bytes(b"\0\0\x08\1" + struct.pack(">I", 20) + bytes(20))
    images.write_bytes(pack(b"\0\0\x08\3" + struct.pack(">3I", 2**31, 2**20, 2**20)))
    refused(images, r"problem.data: '.*idx3-ubyte' of shape \(2147483648, 1048576, 1048576\) would need")
    images.write_bytes(pack(b"\0\0\x08\3" + struct.pack(">3I", 10**6, 2, 2) + bytes(10)))
    refused(images, "is cut off: shape .* needs 4000000 bytes")
    images.write_bytes(pack(b"\0\0\x08\3" + struct.pack(">3I", 20, 2, 2) + bytes(10**6)))
    refused(images, "too long: shape .* needs 80 bytes")


def test_svmlight_indices_that_no_array_has(tmp_path):
    for index in (2**63, 9 * 10**18, 2**31):
        (tmp_path / "a.svm").write_text(f"1 1:1 {index}:2\n0 1:1\n")
        refused(tmp_path / "a.svm", "problem.data: '.*a.svm' (cannot be read as svmlight|has .* features)")


def test_names_that_are_too_long(tmp_path, capsys):
    job, long = tmp_path / "job.toml", "x" * 300
    job.write_text("[problem]\nkind = 'softmax'\n[stop]\nupdates = 1\nloss = 0.1\n")
    arguments = [
        ["run", "--dry-run", str(job), "--set", f"problem.data={long}"],
        ["run", "--dry-run", str(job), "--set", f"problem.data={long}.npz"],
        ["run", "--dry-run", str(job), "--set", f"plugins=['{long}.py']"],
        ["run", "--dry-run", str(job), "--set", f"stragglers={{kind='trace', path='{long}'}}"],
        ["plan", str(job), "-o", f"{tmp_path}/{long}.toml"],
        [
            "compare", str(job), "--schemes", "yours", "-o", f"{tmp_path}/a.h5", "--figure",
            f"{tmp_path}/{long}.png",
        ],
        ["simulate", str(job), "-o", f"{tmp_path}/{long}.h5"],
        ["run", long],
    ]  # fmt: skip
    for each in arguments:
        assert main(each) == 2
        assert "File name too long" in error_line(capsys)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"data": "synthetic", "samples": 2**31 - 1, "features": 2**20}, "problem.samples: .* would need"),
        ({"hidden": [2**31 - 1, 2**31 - 1]}, "problem.hidden: θ of .* elements would need"),
    ],
)
def test_claims_of_a_configuration(table, message):
    with pytest.raises(InputError, match=message):
        problems.create(table)


def test_more_workers_than_memory():
    with pytest.raises(InputError, match=r"workers.count: 2147483647 workers would need .* GiB"):
        prepare(configfile.resolve({"workers": {"count": 2**31 - 1}, "stop": {"updates": 1}}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["problem.hidden=[500]"], "problem.evaluate: the gradient of 1,438 rows at once would need"),
        (
            ["problem.hidden=[500]", "problem.batch=4000", "problem.evaluate=10"],
            "problem.batch: .* 4,000 rows",
        ),
    ],
)
def test_more_activations_than_memory(monkeypatch, keys, message):
    config = configfile.resolve({"stop": {"updates": 1}}, keys)
    prepare(config)
    monkeypatch.setattr(memory, "limit_bytes", lambda: 8_000_000)
    with pytest.raises(InputError, match=message):
        prepare(config)


def test_the_addresses_in_use_are_not_left_of_ulimit(monkeypatch):
    """Libraries take much of what ``ulimit -v`` allows."""
    monkeypatch.setattr(
        resource, "getrlimit", lambda which: (1 << 40 if which == resource.RLIMIT_AS else -1, -1)
    )
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 1 << 40)
    monkeypatch.setattr(memory, "_cgroup_limits", list)
    assert 1 << 30 < memory.limit_bytes.__wrapped__() < (1 << 40) - (100 << 20)


def test_more_blocks_than_parameters():
    table = KIND | {"data": "synthetic", "features": 50}
    with pytest.raises(
        InputError, match=r"code.blocks: 1000000000 is more than the 51 parameters of layer 0"
    ):
        problems.create(table, 10**9)
    assert (
        problems.create(table | {"features": 2}, 16).layers[0].count == 16
    )  # the default, on a small example


def test_the_limit_is_the_least_of_memory_and_cgroups(tmp_path, monkeypatch):
    physical = memory.limit_bytes.__wrapped__()
    assert 1 << 26 < physical < 1 << 50
    lines = ["0::/a/b", "4:cpu,memory:/c", "3:cpu:/d"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "memory" / "c").mkdir(parents=True)
    (tmp_path / "a" / "memory.max").write_text("3000\n")
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    (tmp_path / "memory" / "c" / "memory.limit_in_bytes").write_text("5000\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory.Path, "read_text", _reading(lines, memory.Path.read_text))
    assert sorted(memory._cgroup_limits()) == [3000, 5000]
    assert memory.limit_bytes.__wrapped__() == 3000


def _reading(lines, read_text):
    def read(path, *arguments):
        return "\n".join(lines) if str(path) == "/proc/self/cgroup" else read_text(path, *arguments)

    return read
