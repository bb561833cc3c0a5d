"""The kernels in numpy, same names and arguments: what they compute, said as briefly as numpy can.

They allocate, and are what the tests compare the compiled kernels with. `forward` and `backward` are those of
`pdcode.kernels.activation`; `pseudoinverse` is what a `Factorisation` holds.
"""

from __future__ import annotations

import math

import numpy
from numpy.typing import NDArray

Reals = NDArray[numpy.floating]
Integers = NDArray[numpy.integer]
RELU, TANH, GELU = 0, 1, 2


def dense(indices: Integers, values: Reals, blocks: int) -> Reals:
    """Codewords (r, blocks) from their sparse form; what lies beyond the last block is dropped."""
    codewords = numpy.zeros((len(indices), max(blocks, int(indices.max(initial=0)) + 1)), values.dtype)
    numpy.add.at(codewords, (numpy.arange(len(indices))[:, None], indices), values)
    return codewords[:, :blocks]


def padded(vectors: Reals, block: int) -> Reals:
    """Blocks (B, k, block) of each row of vectors (B, N), zero-padded."""
    blocks = -(-vectors.shape[-1] // block) if block else 0
    padding = numpy.zeros((len(vectors), blocks * block - vectors.shape[-1]), vectors.dtype)
    return numpy.concatenate([vectors, padding], axis=1).reshape(len(vectors), blocks, block)


def encode(factor, indices, values, block, out, scale=1.0, accumulate=False):
    """Combine the column blocks of factor (B, p) into out (B, r*block)."""
    blocks = padded(factor, block)
    coded = numpy.einsum("rk,skb->srb", dense(indices, values, blocks.shape[1]), blocks)
    out[:] = (out if accumulate else 0) + scale * coded.reshape(out.shape)


def feedback_encode(memory, gradient, indices, values, block, out):
    """Encode memory + gradient codeword by codeword; what is left out stays in memory."""
    blocks = padded((memory + gradient)[None], block)[0]
    for y, g in zip(out, dense(indices, values, len(blocks)), strict=True):
        y[:] = g @ blocks
        blocks.ravel()[: len(memory)] -= numpy.outer(g, y).ravel()[: len(memory)]
    memory[:] = blocks.ravel()[: len(memory)]


def softmax_loss(scores, labels, delta, scale):
    """Mean cross-entropy; delta = scale * (softmax - onehot) / B."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    chances = numpy.exp(shifted) / numpy.exp(shifted).sum(axis=1, keepdims=True)
    loss = numpy.log(numpy.exp(shifted).sum(axis=1)) - shifted[numpy.arange(len(labels)), labels]
    delta[:] = scale * (chances - (numpy.arange(scores.shape[1]) == labels[:, None])) / len(scores)
    return float(loss.mean())


def logistic_loss(scores, labels, delta, scale):
    """Mean of log(1 + exp(z)) - label * z; delta = scale * (sigmoid - labels) / B."""
    loss = float((numpy.logaddexp(0, scores) - labels[:, None] * scores).mean())
    delta[:] = scale * (numpy.exp(-numpy.logaddexp(0, -scores)) - labels[:, None]) / len(scores)
    return loss


def squared_loss(scores, targets, delta, scale):
    """Half the mean squared norm of the errors; delta = scale * errors / B."""
    errors = scores - targets
    delta[:] = scale * errors / len(scores)
    return float(0.5 * (errors**2).sum() / len(scores))


def normal(z):
    """The normal distribution function."""
    return 0.5 * numpy.vectorize(math.erfc, otypes=[float])(-z / math.sqrt(2))


def forward(kind, z, out):
    """out = act(z)."""
    out[:] = numpy.maximum(z, 0) if kind == RELU else numpy.tanh(z) if kind == TANH else z * normal(z)


def backward(kind, z, a, delta):
    """delta *= act'(z)."""
    gelu = normal(z) + z * numpy.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    delta *= z > 0 if kind == RELU else 1 - a**2 if kind == TANH else gelu.astype(z.dtype)


def batch(indptr, columns, data, rows, width):
    """A[rows] as a dense (B, width) array."""
    matrix = numpy.zeros((len(rows), width), data.dtype)
    for s, row in enumerate(rows):
        here = slice(indptr[row], indptr[row + 1])
        numpy.add.at(matrix[s], columns[here], data[here])
    return matrix


def csr_forward(indptr, columns, data, rows, weights, out):
    """out = A[rows] @ weights."""
    out[:] = batch(indptr, columns, data, rows, len(weights)) @ weights


def csr_outer(indptr, columns, data, rows, encoded, out):
    """out = encoded' @ A[rows]."""
    out[:] = encoded.T @ batch(indptr, columns, data, rows, out.shape[1])


def csr_coded(indptr, columns, data, rows, delta, codewords, block, out):
    """out[i*block + c] = sum over j and s of codewords[i, j] * A[rows][s, j*block + c] * delta[s]."""
    k = codewords.shape[1]
    blocks = batch(indptr, columns, data, rows, k * block).reshape(len(rows), k, block)
    out[:] = numpy.einsum("rj,sjc,sh->rch", codewords, blocks, delta).reshape(out.shape)


def adjoint_decode(accumulator, indices, values, payload, scale):
    """accumulator_j += scale * sum_i g_ij payload_i."""
    blocks = -(-len(accumulator) // payload.shape[1]) if payload.shape[1] else 0
    accumulator += scale * (dense(indices, values, blocks).T @ payload).ravel()[: len(accumulator)]


def tracking_decode(estimate, indices, values, payload, step):
    """Codeword by codeword: estimate_j += step * g_j * residual; the residuals' squared norm."""
    block, residuals = payload.shape[1], payload.copy()
    for g, residual in zip(dense(indices, values, -(-len(estimate) // block)), residuals, strict=True):
        residual -= g @ padded(estimate[None], block)[0]
        estimate += step * numpy.outer(g, residual).ravel()[: len(estimate)]
    return float((residuals**2).sum())


def gather(payloads, start, out):
    """Row i of out = elements from start on of payloads[i]: arrays, where the kernel takes addresses."""
    for row, payload in zip(out, payloads, strict=True):
        row[:] = payload[start : start + len(row)]


def pseudoinverse(codewords):
    """(k, count) from codewords (count, k)."""
    return numpy.linalg.pinv(codewords)


def sgd_step(theta, velocity, gradient, scale, rate, momentum, clear):
    """velocity = momentum * velocity + scale * gradient; theta -= rate * velocity."""
    speed = momentum * velocity + scale * gradient if len(velocity) else scale * gradient
    velocity[:] = speed[: len(velocity)]
    theta -= rate * speed
    gradient *= not clear
    return float(((rate * speed) ** 2).sum())


def adam_step(theta, first, second, gradient, scale, rate, beta1, beta2, epsilon, t, clear):
    """Adam (Kingma and Ba 2015)."""
    first += (1 - beta1) * (scale * gradient - first)
    second += (1 - beta2) * ((scale * gradient) ** 2 - second)
    theta -= (step := rate * first / (1 - beta1**t) / (numpy.sqrt(second / (1 - beta2**t)) + epsilon))
    gradient *= not clear
    return float((step**2).sum())


def sgd_blocks(theta, accumulator, blocks, block, factor):
    """theta_j -= factor * accumulator_j; accumulator_j = 0 for the blocks listed."""
    step = factor * accumulator * numpy.isin(numpy.arange(len(theta)) // block, blocks)
    theta -= step
    accumulator[step != 0] = 0
    return float((step**2).sum())


def philox(seed, stream, worker, task, count):
    """Raw 64-bit numbers."""
    words = numpy.array([seed, stream, 0, 0, worker, task], numpy.uint64)
    return numpy.random.Philox(key=words[:2], counter=words[2:]).random_raw(count)


def integers(seed, stream, worker, task, bound, out):
    """Whole numbers in [0, bound)."""
    out[:] = [int(number) * bound >> 64 for number in philox(seed, stream, worker, task, len(out))]


def uniforms(seed, stream, worker, task, out):
    """Multiples of 2**-53 in [0, 1)."""
    out[:] = (philox(seed, stream, worker, task, len(out)) >> numpy.uint64(11)) * 2.0**-53
