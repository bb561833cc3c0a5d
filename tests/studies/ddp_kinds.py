"""With PyTorch: θ of DDP is that of pdcode's allreduce for all kinds of problem. `make docs-check` runs it.

python tests/studies/ddp_kinds.py
"""

from pathlib import Path

from pdcode.studies import ddp
from pdcode.studies.named_candidates import named_candidates

COMMON = ["workers.count=3", "problem.batch=16", "problem.l2=0.01", "update.mode=all", "stop.updates=9"]
DOUBLE = "problem.dtype=float64"
CASES = {
    "mlp, gelu": ["problem.data=digits", "problem.hidden=[12, 7]", "problem.activation=gelu", DOUBLE],
    "mlp, tanh, float32": [
        "problem.data=digits", "problem.hidden=[12]", "problem.activation=tanh", "problem.axis=input",
        "problem.penalise_bias=true",
    ],
    "mlp, regression": ["problem.data=diabetes", "problem.hidden=[5]", DOUBLE],
    "softmax, momentum": ["problem.kind=softmax", "problem.data=digits", "optimizer.momentum=0.9", DOUBLE],
    "softmax, Nesterov": [
        "problem.kind=softmax", "problem.data=digits", "optimizer.momentum=0.9", "optimizer.nesterov=true",
        DOUBLE,
    ],
    "logistic": ["problem.kind=logistic", "problem.data=breast-cancer", DOUBLE],
    "least squares": ["problem.kind=least-squares", "problem.data=diabetes", "optimizer.rate=0.05", DOUBLE],
    "all rows": ["problem.kind=softmax", "problem.data=digits", "problem.batch=0", DOUBLE],
}  # fmt: skip

if __name__ == "__main__":
    ddp.ensure_torch()
    with ddp.DDPRanks(3) as ranks:
        for name, settings in CASES.items():
            made = named_candidates({}, [*COMMON, *settings], Path(), "ddp", ddp.ALIASES)
            ddp.check(made)
            print(f"{name}:", *ddp.self_check(made, ranks), flush=True)
