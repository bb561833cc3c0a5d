"""Floating-point operations of a network's derivatives, counted as the kernels perform them.

With a batch of B samples, a layer of d_in + 1 inputs (the bias included) and d_out outputs, cut into k blocks
of shape (b, m) along its small factor of p columns, r codewords of weight w a task:

- forward 2·B·(d_in + 1)·d_out; errors for the layer below 2·B·d_in·d_out; `POINTWISE` per unit and sample
- the gradient 2·B·p·m
- with `problem.recursive`, errors of the part q = min(1, r·w/k) of a layer's outputs: 2·B·q·q'·d_in·d_out,
  `RECURSION`, and copies of weights, scores and errors; q = 1 if a layer is uncoded or cut along its inputs
- a coded derivative 2·B·r·w·b to encode the small factor, then one product 2·B·(r·b)·m
- with `code.whiten`: the whitening of each layer, see `whitening.flops`

With sparse inputs the first layer counts the average number of nonzeros of a row instead of d_in + 1 inputs;
if it is coded along the inputs, only the fraction w/k that a codeword covers. `entries` is that number. With
latent inputs, B is the number of rows of these.
"""

from collections.abc import Sequence
from typing import Any

from ..fitted import RECURSION
from ..transport.units import Blocks
from ..util.touches import flops_per_touch
from . import whitening
from .network import Network
from .whitening import NONE, Whitening

POINTWISE = 4  # an activation and its derivative, or a loss and its error, per unit and sample


def passes(network: Network, batch: int, entries: float) -> float:
    """Count the forward pass, and the errors back to the first layer."""
    return _forward(network, batch, entries) + _errors(network, batch, [1.0] * len(network.layers))


def _forward(network: Network, batch: int, entries: float) -> float:
    """Count the forward pass, and operations on units."""
    total = 2.0 * network.size if network.l2 else 0.0  # the penalty
    if network.loss.latent:
        total += batch * network.loss.inference_flops(network.layers[0].inputs, network.layers[0].outputs)
    for number, blocks in enumerate(network.layers):
        total += batch * blocks.outputs * (2.0 * _entries(network, number, entries) + POINTWISE)
    return total


def _errors(network: Network, batch: int, parts: Sequence[float]) -> float:
    """Count the errors back to the first layer, of a part of each layer's outputs."""
    total = 0.0
    for blocks, above, below in zip(network.layers[1:], parts[1:], parts, strict=False):
        outputs, inputs = above * blocks.outputs, below * blocks.inputs
        total += RECURSION * (min(above, below) < 1)
        copied = outputs * (blocks.inputs * (above < 1) + inputs * (below < 1))
        copied += 4.0 * batch * inputs * (below < 1)  # two to compute with, errors to their places, scaled
        total += 2.0 * batch * inputs * outputs + 2.0 * flops_per_touch(network.size) * copied
    return total


def _parts(network: Network, rows: Sequence[int], weights: Sequence[int]) -> list[float]:
    """Return the part of each layer's outputs of which r codewords of weight w need errors."""
    return [
        min(1.0, r * w / blocks.count)
        if network.recursive and blocks.axis == "output" and not blocks.uncoded
        else 1.0
        for blocks, r, w in zip(network.layers, rows, weights, strict=True)
    ]


def gradient(network: Network, batch: int, entries: float, whiten: Sequence[Any] = NONE) -> float:
    """Count the full gradient of a mini-batch."""
    total = passes(network, batch, entries)
    for number, blocks in enumerate(network.layers):
        inputs = _entries(network, number, entries)
        total += 2.0 * batch * inputs * blocks.outputs + _penalty(network, 1, 1, blocks.length)
        total += whitening.flops(_whitening(whiten, blocks), blocks, batch, inputs, True)
    return total


def coded(
    network: Network,
    batch: int,
    entries: float,
    whiten: Sequence[Any],
    sparse: bool,
    rows: Sequence[int],
    weights: Sequence[int],
) -> float:
    """Count the coded derivatives of a mini-batch, by r codewords of weight w of each layer."""
    total = _forward(network, batch, entries) + _errors(network, batch, _parts(network, rows, weights))
    for number, (blocks, r, w) in enumerate(zip(network.layers, rows, weights, strict=True)):
        inputs = _entries(network, number, entries)
        total += whitening.flops(_whitening(whiten, blocks), blocks, batch, inputs, blocks.uncoded)
        if blocks.uncoded:
            total += 2.0 * batch * inputs * blocks.outputs + _penalty(network, 1, 1, blocks.length)
        else:
            total += _coded(blocks, batch, inputs, number == 0 and sparse, r, w)
            total += _penalty(network, r, w, blocks.elements)
    return total


def _whitening(whiten: Sequence[Any], blocks: Blocks) -> Whitening:
    """Return the whitening of a layer; inputs of the first one are not centred."""
    whole = Whitening(*whiten)
    return whole._replace(centred=whole.centred and blocks.layer > 0)


def _entries(network: Network, number: int, entries: float) -> float:
    """Count the inputs of a layer with the bias; for sparse data, the average number of nonzeros."""
    return float(network.layers[number].inputs + 1) if number else entries


def _coded(blocks: Blocks, batch: int, inputs: float, sparse: bool, r: int, w: int) -> float:
    """Count the coded derivative of a layer: encode the small factor, then one product."""
    if sparse and blocks.axis == "input":  # each entry scaled by its coefficient
        return batch * inputs * r * min(1.0, w / blocks.count) * (1 + 2.0 * blocks.outputs)
    other = inputs if blocks.axis == "output" else blocks.width
    return 2.0 * batch * r * blocks.size * (w + other)


def _penalty(network: Network, r: int, w: int, elements: int) -> float:
    """Count adding l2 times a combination of blocks of θ to each of r payload rows."""
    return 2.0 * r * w * elements if network.l2 else 0.0
