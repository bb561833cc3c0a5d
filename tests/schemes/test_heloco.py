"""HeLoCo against a network, its local steps and its momentum in numpy."""

import numpy as np
from descents import Descent
from local_steps import AdamW
from networks import NETWORK, Network
from outcomes import refused

from pdcode.config import load as configfile
from pdcode.trace.schema import USED


def test_displacements_lose_what_opposes_the_momentum_of_their_layer() -> None:
    sets = ["scheme.name=heloco", "scheme.options={steps=2,rate=0.05}", "update.mode=async"]
    made = Descent([*NETWORK, *sets, "optimizer.rate=0.3", "optimizer.momentum=0.8"], [1, 1.3, 1.7, 6])
    assert made.run() == "enough"
    network, theta, opposed, version = Network(made), made.thetas[0], 0, 0
    m, inner = np.zeros_like(theta), [AdamW(0.05, 0.9, 0.999, 1e-8, 0.1) for _ in range(4)]
    for row in made.trace.arrivals:
        if row["status"] != USED:
            continue
        worker, own = row["worker"], made.thetas[row["version"]]
        for rows in network.batches(worker, row["task"], 2):
            own = inner[worker].step(own, network.gradient(own, worker, rows))
        g = 4 * len(network.shards[worker]["x"]) / network.rows * (made.thetas[row["version"]] - own)
        for layer in network.layers:
            part, before = layer.weights(g), layer.weights(m)
            if (part * before).sum() < 0:
                part -= (part * before).sum() / (before**2).sum() * before
                opposed += 1
        m, version = 0.8 * m + g, version + 1
        theta = theta - 0.3 * (g + 0.8 * m)
        np.testing.assert_allclose(made.thetas[version], theta, rtol=1e-7, atol=1e-9)
    assert version == 20
    assert opposed


def test_it_needs_a_momentum() -> None:
    with refused("optimizer.momentum: 0.0", "heloco"):
        configfile.resolve({}, ["scheme.name=heloco", "optimizer.momentum=0"])
