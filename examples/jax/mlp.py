"""A network in JAX, with parameters in a dict, on scikit-learn's digits. It needs JAX: pip install jax.

`pdcode run job.toml` trains it over MPI; this file as a program does so by a call, on the virtual clock.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits


def rows():
    x, y = load_digits(return_X_y=True)
    return np.float32(x / 16), np.int32(y)


def start(seed):
    """Return the first parameters of a run: `weight` and `bias` of a layer are coded as one matrix."""
    sizes, keys = (64, 48, 32, 10), jax.random.split(jax.random.key(seed), 3)
    return {
        f"layer{number}": {
            "weight": jax.random.normal(key, (outputs, inputs)) * (2 / inputs) ** 0.5,
            "bias": jnp.zeros(outputs),
        }
        for number, (key, inputs, outputs) in enumerate(zip(keys, sizes, sizes[1:], strict=False))
    }


def outputs(theta, x):
    *hidden, last = theta.values()
    for layer in hidden:
        x = jax.nn.gelu(x @ layer["weight"].T + layer["bias"])
    return x @ last["weight"].T + last["bias"]


@jax.jit
@jax.value_and_grad
def loss_and_gradient(theta, x, y):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs(theta, x)), y[:, None], 1))


@jax.jit
def score(theta, x, y):
    return jnp.mean(outputs(theta, x).argmax(axis=1) == y)


if __name__ == "__main__":
    import pdcode

    found = pdcode.minimize(
        loss_and_gradient, start, rows(), score=score, config="job.toml", output="call.h5"
    )
    print(f"{found.message}; accuracy {score(found.x, *rows()):.3f}")
