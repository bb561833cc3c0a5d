"""`pdcode.minimize` with a function of JAX, in a process of its own: JAX's threads do not survive a fork."""

import subprocess
import sys
from pathlib import Path

from paths import SUPPORT

JAX = """
import jax
from jax import numpy as jnp

def loss(theta, x, y, key):
    hidden = jnp.tanh(x @ theta[0]["w"] + theta[0]["b"])
    if key is not None:
        random = jax.random.key(0)
        for each in key:
            random = jax.random.fold_in(random, each)
        hidden *= jax.random.bernoulli(random, 0.9, hidden.shape) / 0.9
    z = jax.nn.log_softmax(hidden @ theta[1]["w"])
    return -z[jnp.arange(len(y)), y].mean()

value_and_grad = jax.jit(jax.value_and_grad(loss))

def start(seed):
    first, second = jax.random.split(jax.random.key(seed))
    hidden = {"w": jax.random.normal(first, (6, 8)) / 2, "b": jnp.zeros(8)}
    return [hidden, {"w": jax.random.normal(second, (8, 3)) / 3}]
"""

PROGRAM = """
import numpy as np
import pdcode

config = {"scheme": {"name": "lwpd", "preset": "default"}, "problem": {"near_zero": True}}
found = pdcode.minimize(
    "mine.py:value_and_grad", "mine.py:start", "%s:rows", config=config, set={"stop.updates": 40},
    output="f.h5", progress=False,
)
assert found.fun < 0.9 * found.trace.progress["loss"][0]
assert np.array_equal(found.trace.replay(progress=False), found.trace.theta)
"""


def test_a_function_of_jax_trains_and_replays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(JAX, encoding="utf-8")
    program = PROGRAM % (SUPPORT / "functions.py")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
