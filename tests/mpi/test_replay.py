"""Real asynchronous runs, recomputed in one process from their traces: bit-identical.

This pins down buffers (a payload that changed under the decoder's hands), late payloads, memories and what
was given back to them, rounding, the weights of unequal shards, keyed batches and rows, codes that
follow what has arrived, replicas, and the order of arrivals.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest
from launches import Pool, Run, run_all
from paths import SUPPORT

from pdcode import Trace
from pdcode.__main__ import main

COMMON = [
    "seed=5", "problem.hidden=[16]", "problem.batch=8", "problem.l2=1e-3", "code.blocks=[8, 1]",
    "code.weight=4", "optimizer.rate=0.1", "stragglers.kind=shifted-exponential",
    "stragglers.mean_s=0.001", "stragglers.slow=[4]", "stragglers.slowdown=8",
]  # fmt: skip
MANY = ["stop.updates=200", "stragglers.shift_s=0.0005", "wire.dtype=int8"]
EF_WASTE = ["update.mode=first", "update.late=waste", "optimizer.momentum=0.5", "wire.dtype=float16"]
NONE, FIRST = "memory.kind=none", ["update.mode=first", "update.count=3"]


def scheme(name: str) -> list[str]:
    """Overrides that choose a scheme, with nothing left of the code and the memory above."""
    plugins = [f'plugins=["{SUPPORT / "clipped.py"}"]'] if name == "clipped" else []
    return [*plugins, f"scheme.name={name}", 'code={family="uncoded",blocks=1,rotate=false}']


LINEAR = ["problem={kind='softmax',batch=8,l2=1e-3}", 'code={family="uncoded",blocks=1,rotate=false}']
SPARSE = (
    '{kind="sparse-coding", data="china-flower", samples=300, atoms=24, iterations=20, evaluate=40, batch=8, '
    'patch=4, stride=2, axis="input"}'
)
CASES = {
    "sparse-coding": [
        *MANY, f"problem={SPARSE}", "code.blocks=8", "memory.kind=worker", "downlink.kind=codewords",
        "optimizer={average=true, proximal={kind='unit-norm'}}",
    ],
    "worker-int8": [*MANY, "memory.kind=worker", "code.rows_per_task=3"],
    "averages": [*MANY, "code.rows_per_task=3", "optimizer={average=true,plateau=true}"],
    "whitened": [*MANY, "memory.lookahead=0.2", "code.whiten=auto", "downlink.kind=codewords"],
    "centred": [*MANY, "memory.kind=worker", "code.whiten=norm", "code.centre=true"],
    "settled": ["memory.lookahead=0.2", "code.whiten=auto", "problem.batch=0"],  # not whitened, another rate
    "auto-rows": ["code.rows_per_task=auto", "code.blocks=[16,1]", "downlink.kind=codewords"],
    "whitened-topk": [*scheme("topk"), "code.whiten=norm", "memory.lookahead=0.1", *FIRST],
    "tracking-int8": [*MANY, "memory.kind=coordinator", "decoder.kind=tracking", "code.rows_per_task=3"],
    "least-squares": [NONE, "decoder.kind=least_squares", *FIRST],
    "tracking-adam": [NONE, "decoder.kind=tracking", "optimizer={kind='adam',rate=0.01,staleness='inverse'}"],
    "muon": [*FIRST, "optimizer.kind=muon", "optimizer.rate=0.02", "downlink.kind=codewords"],
    "waste": EF_WASTE,
    "captured-float64": [
        "update.mode=captured", "update.fraction=0.25", "problem.axis=input", "problem.dtype=float64",
    ],
    "energy-coordinator": [
        "memory.kind=coordinator", "code.family=energy", "code.blocks=[8,8]", "code.rows_per_task=2",
    ],
    "difference": [
        "memory.kind=difference", "problem.batch=0", "wire.dtype=bfloat16", *FIRST, "update.late=waste",
    ],
    "recursive": [
        "memory.kind=coordinator", "problem.recursive=true", "problem.hidden=[16,16]", "code.blocks=[8,8,1]",
        "optimizer.rate=0.02",
    ],
    "matched": ["code.family=matched", "code.rows_per_task=[2,1]", "wire.dtype=int8", *FIRST],
    "topk": [*scheme("topk"), "scheme.options.share=0.1", "wire.dtype=bfloat16", "downlink.kind=codewords"],
    "randomk": [*scheme("randomk"), "scheme.options.share=0.1", "wire.dtype=int4", "downlink.kind=codewords"],
    "uncoded": [*scheme("uncoded"), *FIRST, "optimizer.average=true"],
    "sag": [*scheme("sag"), "scheme.options.parts=2", "problem.batch=0", "update.count=3"],
    "signsgd": [*scheme("signsgd"), NONE, "update.mode=first"],
    "local": [*scheme("local"), "scheme.options.steps=3", "wire.dtype=int8", *FIRST],
    "diloco": [*scheme("diloco"), "scheme.options.steps=3", *FIRST, "update.late=waste"],
    "sparseloco": [
        *scheme("sparseloco"), "scheme.options={steps=3,chunk=100}", "downlink.kind=codewords", *FIRST,
        'faults.events=[{kind="nan", worker=1, task=9}]',
    ],
    "sparseloco-senders": [
        *scheme("sparseloco"), "scheme.options={steps=3,chunk=100,mean='senders'}", *FIRST,
        "downlink.kind=codewords",
    ],
    "delayed-nesterov": [
        *scheme("delayed-nesterov"), "scheme.options={steps=4,speeds=[1,1,1,1,0.25]}",
        "downlink.kind=codewords",
    ],
    "streaming": [*scheme("streaming"), "code.blocks=3", "wire.dtype=bfloat16"],
    "streaming-first": [*scheme("streaming"), "code.blocks=4", "update.mode=first", "update.late=waste"],
    "ringmaster": [*scheme("ringmaster"), "scheme.options.threshold=3", "wire.dtype=bfloat16"],
    "ringleader": [*scheme("ringleader"), 'faults.events=[{kind="nan", worker=1, task=9}]'],
    "robust": [
        *scheme("robust"), "scheme.options.rule=clipping", *FIRST,
        'faults.events=[{kind="collude", worker=1, task=9}, {kind="lie", worker=2, task=5, how="gaussian"}]',
    ],
    "cyclic": [*scheme("cyclic"), "scheme.options.stragglers=2", "stragglers.dead=[1]", "stop.seconds=50"],
    "frc": [*scheme("frc"), "scheme.options.stragglers=4", "wire.dtype=bfloat16"],
    "bernoulli": [*scheme("bernoulli"), "wire.dtype=int8"],
    "expander": [*scheme("expander"), "update.count=3"],
    "dsag": [*scheme("dsag"), "scheme.options.parts=3", "update.count=3", "optimizer.momentum=0.5"],
    "sgc": [*scheme("sgc"), "update.mode=all", "scheme.options={stragglers=2,burst=1,window=3}"],
    "rounds": [*scheme("clipped"), *FIRST, "update.late=waste"],
    "powersgd": [
        *scheme("powersgd"), "wire.dtype=int8", *FIRST, "update.late=waste", "optimizer.average=true",
    ],
    "demo": [*scheme("demo"), "optimizer.kind=sign", "downlink.kind=codewords", "downlink.check=5", *FIRST],
    "mds": [*LINEAR, "scheme={name='mds',options={blocks=3,start=0.3,arriving=20}}"],
    "byzantine": [
        *LINEAR, "scheme={name='byzantine',options={stragglers=1}}", "problem.batch=100",
        'faults.events=[{kind="lie", worker=1, task=9}]',
    ],
    "proximal": [
        "downlink.kind=codewords", "downlink.check=5", "optimizer.momentum=0.5", "wire.dtype=int8",
        "optimizer.proximal={kind='group-lasso', weight=0.001}",
    ],
    "lagrange": [
        "problem={kind='least-squares',data='diabetes',standardise=true,batch=40,l2=1e-3,dtype='float64'}",
        'code={family="uncoded",blocks=1,rotate=false}', "optimizer.rate=0.01",
        "scheme={name='lagrange',options={arithmetic='field',colluders=1}}",
        'faults.events=[{kind="nan", worker=1, task=9}]',
    ],
    "relay": [
        "downlink.kind=codewords", "downlink.check=5", "wire.dtype=int8", "code.blocks=units",
        "code.share=0.25", 'faults.events=[{kind="nan", worker=1, task=20}]',
    ],
}  # fmt: skip
TO_TARGETS = {
    f"{mode} to a target": [
        NONE, f"update.mode={mode}", "stop.loss=1.9", "stop.updates=5000", "stop.seconds=30.0",
        "trace.progress_s=0.05",
    ]
    for mode in ("first", "all", "captured")
}  # fmt: skip


@pytest.fixture(scope="module")
def ranks() -> Iterator[Pool]:
    pool = Pool(6)
    yield pool
    pool.close()


def run(how: str, folder: Path, ranks: Pool) -> Run:
    overrides = [*COMMON, "stop.updates=60", *(CASES | TO_TARGETS)[how]]
    return run_all(folder, 5, {how: overrides}, job="", pool=ranks)[how]


@pytest.mark.every(3)
@pytest.mark.parametrize("how", CASES)
def test_theta_is_the_same_to_the_last_bit(ranks, how, tmp_path, capsys):
    done, updates = run(how, tmp_path, ranks), 200 if MANY[0] in CASES[how] else 60
    assert done.returncode in ((0, 1) if how == "robust" else (0,)), done.stderr  # two liars of five may win
    trace = Trace(done.path)
    assert trace.updates["version"][-1] == updates <= trace.arrivals.rows
    assert trace.arrivals["staleness"].max() > 0
    code, out = main(["replay", str(done.path)]), capsys.readouterr().out
    assert code == 0, out
    assert f"{trace.arrivals.rows:,} arrivals, {updates} updates and {trace.progress.rows} rows" in out
    if updates < 200:
        return
    with h5py.File(done.path, "r+") as file:
        file["arrivals/applied_version"][100] -= 1
    assert main(["replay", str(done.path)]) == 1
    assert "arrivals row 100: applied_version: recorded " in capsys.readouterr().out


@pytest.mark.parametrize("how", TO_TARGETS)
def test_a_run_that_came_to_its_target_is_the_same(ranks, how, tmp_path, capsys):
    """Rank 0 looks at the loss now and then, so some arrivals of the next update are in by then."""
    done = run(how, tmp_path, ranks)
    assert done.returncode == 0, done.stderr
    assert "stopped: loss" in done.stdout
    assert main(["replay", str(done.path)]) == 0, capsys.readouterr().out
