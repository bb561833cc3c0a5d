"""Logs whose payloads come from their workers: what restoring them gives, for all logs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.transport.layout import HEADER, Agreement, Layout
from pdcode.transport.log import ARRIVAL, HEAD, REFERENCE, STEP, STEP_HEAD, LogFormat, entry_head
from pdcode.transport.units import Unit

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([ARRIVAL, STEP, REFERENCE]), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
    ),
    max_size=12,
)
LAYOUTS = {
    "given codewords": {"rows": [2], "weights": [3], "wire": "int8"},
    "row numbers": {
        "rows": [2],
        "weights": [3],
        "wire": "int2",
        "agreement": Agreement(keyed=lambda row: []),
    },
    "chosen by workers": {
        "rows": [1],
        "weights": [2],
        "wire": "",
        "agreement": Agreement(worker_selected=True),
    },
}


def layout_of(name: str) -> Layout:
    options = dict(LAYOUTS[name])
    unit = Unit(0, 40, 8)
    return Layout([unit], options.pop("rows"), options.pop("weights"), np.dtype("f4"), **options)


@pytest.mark.parametrize("name", LAYOUTS)
@given(entries=ENTRIES, seed=st.integers(0, 99))
def test_references_become_the_entries_for_which_they_stand(name, entries, seed):
    layout = layout_of(name)
    sizes, random = LogFormat(layout), np.random.default_rng(seed)
    whole, sent, contents = [], [], {}
    for kind, worker, task in entries:
        if kind == STEP:
            entry = np.frombuffer(STEP_HEAD.pack(STEP, random.normal()), np.uint8)
            whole.append(entry)
            sent.append(entry)
            continue
        content = random.integers(0, 256, sizes.content_bytes, np.uint8)
        content = contents.setdefault((worker, task), content)
        entry = np.zeros(sizes.entry_bytes, np.uint8)
        entry[: HEAD.size] = np.frombuffer(entry_head(ARRIVAL, worker, task), np.uint8)
        entry[HEAD.size : HEAD.size + sizes.content_bytes] = content
        whole.append(entry)
        reference = np.frombuffer(entry_head(REFERENCE, worker, task), np.uint8)
        sent.append(entry if kind == ARRIVAL else reference)
    rooms = []

    def room(size: int) -> np.ndarray:
        rooms.append(np.full(size, 0, np.uint8))
        return rooms[-1]

    def reply(worker: int, task: int) -> np.ndarray:
        return np.append(np.zeros(HEADER.size, np.uint8), contents[worker, task])

    nothing = np.zeros(0, np.uint8)
    size = sizes.restore(np.concatenate([nothing, *sent]), reply, room)
    assert size == sum(map(len, whole))
    np.testing.assert_array_equal(rooms[0][:size], np.concatenate([nothing, *whole]))
    assert all(len(entry) % 8 == 0 for entry in (*whole, *sent))
