"""Which policy of updates suits these stragglers? Simulate three, then run the fastest over MPI.

Run it as a script, or cell by cell in a notebook. It needs pandas: pip install pandas.
"""

# %% A problem, workers, one of them slow, and a target
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import pdcode

folder = Path("results/policies")
config = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [32], "batch": 32},
    "workers": {"count": 4},
    "stragglers": {
        "kind": "shifted-exponential",
        "shift_s": 0.004,
        "mean_s": 0.004,
        "slow": [3],
        "slowdown": 8.0,
    },
    "stop": {"loss": 0.5, "seconds": 30.0},
    "trace": {"progress_s": 0.02},
}

# %% Three policies on the virtual clock: a simulation takes about a second
policies = {
    "wait for all": {"update.mode": "all"},
    "first three": {"update.mode": "first", "update.count": 3},
    "asynchronous": {"update.mode": "async"},
}
traces = {
    name: pdcode.simulate(config, set=policy, output=folder / f"{name}.h5", progress=False)
    for name, policy in policies.items()
}
table = pd.DataFrame([trace.summary() for trace in traces.values()], index=list(traces))
print(table[["target_s", "updates", "staleness", "bytes_up"]])

# %% The fastest of them over MPI
best = table["target_s"].idxmin()
measured = pdcode.run(config, set=policies[best], output=folder / "measured.h5")
print(f"{best}: predicted {table.target_s[best]:.2f} s, measured {measured.summary()['target_s']:.2f} s")

# %% Loss against time, and all about the run
figure, axes = plt.subplots(layout="constrained")
for name, trace in {**traces, "measured": measured}.items():
    axes.semilogy(trace.progress["t_ns"] / 1e9, trace.progress["loss"], label=name)
axes.set_xlabel("time, s")
axes.set_ylabel("training loss")
axes.legend()
figure.savefig(folder / "policies.png")
measured.plot().savefig(folder / "measured.png")
