"""What `run --dry-run` and `show` say of a scheme: tables that have no effect are not described."""

import pytest

from pdcode.__main__ import main

pytestmark = pytest.mark.usefixtures("read_at_once")

JOB = """
[scheme]
name = "{name}"
[stop]
updates = 3
[workers]
count = 4
"""


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("name", "planned", "shown", "hidden"),
    [
        ("lwpd", ["by output", "k=16: net"], ["scheme lwpd", "code net with k = 16", "decoder"], []),
        (
            "topk",
            ["# 0: 4160 parameters, 4160 blocks of 1"],
            ["scheme topk (share 0.01)", "decoder"],
            ["code"],
        ),
        (
            "local",
            ["64 outputs, 4160 parameters,"],
            ["scheme local (steps 8, rate 0.1)", "code every layer"],
            [],
        ),
        (
            "diloco",
            ["nesterov = true"],
            [
                "scheme diloco (steps 8, rate 0.001, beta1 0.9,",
                "update all, sgd at rate 0.7, Nesterov momentum 0.9",
            ],
            [],
        ),
        (
            "sparseloco",
            ["4160 blocks of 1", 'dtype = "int2"'],
            ["scheme sparseloco (steps 8, rate 0.001,", "update all, sgd at rate 1"],
            ["code", "decoder"],
        ),
        (
            "delayed-nesterov",
            ['mode = "async"'],
            ["scheme delayed-nesterov (steps 8, rate 0.001,", "update async, sgd at rate 0.7, Nesterov"],
            [],
        ),
        ("ringmaster", ['mode = "async"'], ["scheme ringmaster"], []),
        ("ringleader", ["# 0: 4810 parameters,"], ["scheme ringleader (gradients 1.0)"], ["code", "decoder"]),
        ("cyclic", ["# 0: 4810 parameters,"], ["scheme cyclic (stragglers 1)"], ["code", "decoder"]),
        (
            "powersgd",
            ["# 0: 64 parameters, 4 vectors # 1: 64 parameters, whole", "round 1)", "body 1184"],
            ["scheme powersgd (rank 4)"],
            ["code", "decoder"],
        ),
        (
            "demo",
            ["# 0: 4096 parameters, 4096 blocks of 1 # 1: 64 parameters", "of weight [32, 32, 32, 10]"],
            ["scheme demo (chunk 64, largest 32)", "update all, sign at rate 0.001"],
            ["code", "decoder"],
        ),
    ],
)
def test_a_scheme_is_described(tmp_path, capsys, name, planned, shown, hidden):
    job, trace = tmp_path / "job.toml", tmp_path / "trace.h5"
    plain = '[memory]\nkind = "worker"\n' if name == "lwpd" else ""  # its tables, not preset "auto"
    job.write_text(JOB.format(name=name) + plain, encoding="utf-8")
    assert main(["run", str(job), "--dry-run"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in planned:
        assert part in text
    assert main(["simulate", str(job), "-o", str(trace)]) == 0
    capsys.readouterr()
    assert main(["show", str(trace)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for part in shown:
        assert any(line.startswith(part) for line in lines)
    for topic in hidden:
        assert not any(line.startswith(f"{topic} ") for line in lines[:9])
