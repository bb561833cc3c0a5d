"""Plain numpy versions of the kernels, with which tests compare the compiled ones.

Names differ where a kernel is a class or takes addresses: `pseudoinverse` is that of a `Factorisation`. The
plain version of the virtual clock is in clocks.py.
"""

import itertools
import math

import numpy
from numpy.typing import NDArray

Reals = NDArray[numpy.floating]
Integers = NDArray[numpy.integer]
RELU, TANH, GELU = 0, 1, 2


def dense(indices: Integers, values: Reals, blocks: int) -> Reals:
    """Convert sparse codewords to dense ones (r, blocks); indices beyond the last block are dropped."""
    codewords = numpy.zeros((len(indices), max(blocks, int(indices.max(initial=0)) + 1)), values.dtype)
    numpy.add.at(codewords, (numpy.arange(len(indices))[:, None], indices), values)
    return codewords[:, :blocks]


def padded(vectors: Reals, block: int) -> Reals:
    """Cut each row of vectors (B, N) into blocks (B, k, block), zero-padded."""
    blocks = -(-vectors.shape[-1] // block) if block else 0
    padding = numpy.zeros((len(vectors), blocks * block - vectors.shape[-1]), vectors.dtype)
    return numpy.concatenate([vectors, padding], axis=1).reshape(len(vectors), blocks, block)


def encode(factor, indices, values, block, out, scale=1.0, accumulate=False):
    """Combine the column blocks of factor (B, p) into out (B, r*block)."""
    blocks = padded(factor, block)
    coded = numpy.einsum("rk,skb->srb", dense(indices, values, blocks.shape[1]), blocks)
    out[:] = (out if accumulate else 0) + scale * coded.reshape(out.shape)


def feedback_encode(memory, gradient, indices, values, block, out):
    """Encode memory + gradient codeword by codeword; the residual stays in memory."""
    blocks = padded((memory + gradient)[None], block)[0]
    for y, g in zip(out, dense(indices, values, len(blocks)), strict=True):
        y[:] = g @ blocks
        blocks.ravel()[: len(memory)] -= numpy.outer(g, y).ravel()[: len(memory)]
    memory[:] = blocks.ravel()[: len(memory)]


def softmax_loss(scores, labels, delta, scale):
    """Return the mean cross-entropy; delta = scale * (softmax - onehot) / B."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    chances = numpy.exp(shifted) / numpy.exp(shifted).sum(axis=1, keepdims=True)
    loss = numpy.log(numpy.exp(shifted).sum(axis=1)) - shifted[numpy.arange(len(labels)), labels]
    delta[:] = scale * (chances - (numpy.arange(scores.shape[1]) == labels[:, None])) / len(scores)
    return float(loss.mean())


def logistic_loss(scores, labels, delta, scale):
    """Return the mean of log(1 + exp(z)) - label * z; delta = scale * (sigmoid - labels) / B."""
    loss = float((numpy.logaddexp(0, scores) - labels[:, None] * scores).mean())
    delta[:] = scale * (numpy.exp(-numpy.logaddexp(0, -scores)) - labels[:, None]) / len(scores)
    return loss


def squared_loss(scores, targets, delta, scale):
    """Return half the mean squared norm of the errors; delta = scale * errors / B."""
    errors = scores - targets
    delta[:] = scale * errors / len(scores)
    return float(0.5 * (errors**2).sum() / len(scores))


def poisson_loss(scores, targets, delta, scale):
    """Return half the mean Poisson deviance of rates exp(z); delta = scale * (rates - targets) / B."""
    rates, over = numpy.exp(numpy.minimum(scores, 80)), numpy.maximum(scores - 80, 0)
    constant = targets * numpy.log(numpy.where(targets > 0, targets, 1)) - targets
    delta[:] = scale * (rates - targets) / len(scores)
    return float((rates * (1 + over) - targets * scores + constant).sum() / len(scores))


def leave(images, patches, height, rows, columns, stride, scale):
    """Replace patches by scale times those of images less the sums of patches; return half its squares."""
    rest = images.reshape(len(images), height, -1).copy()
    across = (rest.shape[2] - columns) // stride + 1
    cut = patches.reshape(len(images), -1, rows, columns)
    for sign in (-1, 0):
        for place in range(cut.shape[1]):
            y, x = stride * (place // across), stride * (place % across)
            window = rest[:, y : y + rows, x : x + columns]
            if sign:
                window -= cut[:, place]
            else:
                cut[:, place] = scale * window
    return float(0.5 * (rest**2).sum())


def compete(drive, potential, codes, thresholds, speed, hard, nonnegative):
    """Compute potential += speed * (drive - potential + codes), and codes by the threshold."""
    potential += speed * (drive - potential + codes)
    size = numpy.abs(potential) if not nonnegative else potential
    left = potential if hard else numpy.sign(potential) * (size - thresholds)
    codes[:] = numpy.where(size > thresholds, left, 0)


def descend(drive, points, codes, thresholds, step, momentum, nonnegative):
    """Compute a step of gradient and threshold, and the point that momentum leads to."""
    now, before = points + step * drive, codes.copy()
    codes[:] = numpy.sign(now) * numpy.maximum(numpy.abs(now) - step * thresholds, 0)
    if nonnegative:
        numpy.maximum(codes, 0, out=codes)
    points[:] = codes + momentum * (codes - before)


def normal(z):
    """Return the normal distribution function."""
    return 0.5 * numpy.vectorize(math.erfc, otypes=[float])(-z / math.sqrt(2))


def forward(kind, z, out):
    """Compute out = act(z)."""
    out[:] = numpy.maximum(z, 0) if kind == RELU else numpy.tanh(z) if kind == TANH else z * normal(z)


def backward(kind, z, a, delta):
    """Compute delta *= act'(z)."""
    gelu = normal(z) + z * numpy.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    delta *= z > 0 if kind == RELU else 1 - a**2 if kind == TANH else gelu.astype(z.dtype)


def batch(indptr, columns, data, rows, width):
    """Return A[rows] as a dense (B, width) array."""
    matrix = numpy.zeros((len(rows), width), data.dtype)
    for s, row in enumerate(rows):
        here = slice(indptr[row], indptr[row + 1])
        numpy.add.at(matrix[s], columns[here], data[here])
    return matrix


def csr_forward(indptr, columns, data, rows, weights, out):
    """Compute out = A[rows] @ weights."""
    out[:] = batch(indptr, columns, data, rows, len(weights)) @ weights


def csr_outer(indptr, columns, data, rows, encoded, out):
    """Compute out = encoded' @ A[rows]."""
    out[:] = encoded.T @ batch(indptr, columns, data, rows, out.shape[1])


def csr_coded(indptr, columns, data, rows, delta, codewords, block, out):
    """Compute out[i*block + c] = sum_js codewords[i, j] * A[rows][s, j*block + c] * delta[s]."""
    k = codewords.shape[1]
    blocks = batch(indptr, columns, data, rows, k * block).reshape(len(rows), k, block)
    out[:] = numpy.einsum("rj,sjc,sh->rch", codewords, blocks, delta).reshape(out.shape)


def adjoint_decode(accumulator, indices, values, payload, scale):
    """Compute accumulator_j += scale * sum_i g_ij payload_i."""
    blocks = -(-len(accumulator) // payload.shape[1]) if payload.shape[1] else 0
    accumulator += scale * (dense(indices, values, blocks).T @ payload).ravel()[: len(accumulator)]


def tracking_decode(estimate, indices, values, payload, step):
    """Compute estimate_j += step * g_j * residual / |g|^2 by codeword; return the residuals' squared norm."""
    block, residuals = payload.shape[1], payload.copy()
    for g, residual in zip(dense(indices, values, -(-len(estimate) // block)), residuals, strict=True):
        residual -= g @ padded(estimate[None], block)[0]
        estimate += step / ((g @ g) or 1) * numpy.outer(g, residual).ravel()[: len(estimate)]
    return float((residuals**2).sum())


def pseudoinverse(codewords):
    """Return the pseudoinverse (k, count) of codewords (count, k)."""
    return numpy.linalg.pinv(codewords)


def sgd_step(theta, velocity, gradient, scale, rate, decay, gain, own, keep, clear):
    """Compute velocity = decay * velocity + gain * g; theta -= rate * (own * g + keep * velocity)."""
    velocity[:] = decay * velocity + gain * scale * gradient[: len(velocity)]
    theta -= (step := rate * (own * scale * gradient + (keep * velocity if len(velocity) else 0)))
    gradient *= not clear
    return float((step**2).sum())


def adam_step(theta, first, second, gradient, scale, rate, beta1, beta2, epsilon, t, clear):
    """Take a step of Adam (Kingma and Ba 2015)."""
    first += (1 - beta1) * (scale * gradient - first)
    second += (1 - beta2) * ((scale * gradient) ** 2 - second)
    theta -= (step := rate * first / (1 - beta1**t) / (numpy.sqrt(second / (1 - beta2**t)) + epsilon))
    gradient *= not clear
    return float((step**2).sum())


def schedule_free_step(theta, mean, gradient, rate, share, inner):
    """Take a step of schedule-free descent (Defazio et al. 2024)."""
    before = theta.copy()
    base = (theta - inner * mean) / (1 - inner) - rate * gradient
    mean += share * (base - mean)
    theta[:] = (1 - inner) * base + inner * mean
    return float(((theta - before) ** 2).sum())


def shrink(weights, threshold, factor, low, high):
    """Compute weights = clip(factor * sign(weights) * max(abs(weights) - threshold, 0), low, high)."""
    left = factor * numpy.sign(weights) * numpy.maximum(abs(weights) - threshold, 0)
    weights[:] = numpy.clip(left, low, high)


def displace(before, theta):
    """Compute before = theta - before; return its squared norm."""
    before[:] = theta - before
    return float((before**2).sum())


def sgd_blocks(theta, accumulator, blocks, block, factor):
    """Compute theta_j -= factor * accumulator_j; accumulator_j = 0 for the listed blocks."""
    step = factor * accumulator * numpy.isin(numpy.arange(len(theta)) // block, blocks)
    theta -= step
    accumulator[step != 0] = 0
    return float((step**2).sum())


def average(mean, theta, share):
    """Compute mean += share * (theta - mean)."""
    mean += share * (theta - mean)


def philox(seed, stream, worker, task, count):
    """Return raw 64-bit numbers."""
    words = numpy.array([seed, stream, 0, 0, worker, task], numpy.uint64)
    return numpy.random.Philox(key=words[:2], counter=words[2:]).random_raw(count)


def integers(seed, stream, worker, task, bound, out):
    """Fill out with integers in [0, bound)."""
    out[:] = [int(number) * bound >> 64 for number in philox(seed, stream, worker, task, len(out))]


def uniforms(seed, stream, worker, task, out):
    """Fill out with multiples of 2**-53 in [0, 1)."""
    out[:] = (philox(seed, stream, worker, task, len(out)) >> numpy.uint64(11)) * 2.0**-53


def uniforms_of(seed, stream, workers, first, count, words, out):
    """Fill out with the first `words` numbers of tasks first[i] + j of workers[i]."""
    for i, j in numpy.ndindex(len(workers), count):
        uniforms(seed, stream, int(workers[i]), int(first[i]) + j, out[i, j])


def threefry(key, counter, blocks):
    """Return blocks (count,) of Threefry4x32-13, uint32, shape (4, count), after Salmon et al., SC 2011."""
    k = [numpy.uint32(word) for word in key]
    k.append(numpy.uint32(0x1BD11BDA) ^ k[0] ^ k[1] ^ k[2] ^ k[3])
    words = [numpy.broadcast_to(numpy.uint32(word), len(blocks)) for word in counter]
    state = [word + k[i] for i, word in enumerate([blocks.astype("u4"), *words])]
    turns = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]
    for number in range(13):
        for at, by in zip((0, 2), turns[number % 8], strict=True):
            other = (at + 1 + 2 * (number % 2)) % 4
            state[at] = state[at] + state[other]
            turned = state[other] << numpy.uint32(by) | state[other] >> numpy.uint32(32 - by)
            state[other] = turned ^ state[at]
        if number % 4 == 3:
            turn = number // 4 + 1
            state = [word + k[(turn + i) % 5] for i, word in enumerate(state)]
            state[3] = state[3] + numpy.uint32(turn)
    return numpy.array(state)


def random_lanes(seed, stream, worker, task, part, group, count):
    """Return the random numbers of 16 bits of a group of `count` elements."""
    keys = numpy.array([seed, stream, 0, part, worker, task], numpy.uint64)
    drawn = numpy.random.Philox(key=keys[:2], counter=keys[2:]).random_raw(4).view("u4")
    half = -(-count // 2)
    words = threefry(drawn[:4], drawn[5:], 128 * group + numpy.arange(-(-half // 4))).ravel()[:half]
    return numpy.concatenate([words & 0xFFFF, words >> numpy.uint32(16)])[:count].astype("i8")


def nearest(x):
    """Return the nearest integers, ties to even."""
    return numpy.rint(x).astype("i8")


def round_at_random(x, step, lanes):
    """Round x, in steps, stochastically: truncate |x| to 16 fractional bits, add lanes, drop the fraction."""
    fixed = (numpy.abs(x) / step * numpy.float32(65536) + numpy.float32(0.5)).astype("i8")
    return numpy.copysign((fixed + lanes) >> 16, x).astype("f4")


def to_bfloat16(x, lanes):
    """Return the upper halves of float32, after adding lanes to the lower halves."""
    return ((numpy.where(numpy.isfinite(x), lanes, 0) + x.view("u4")) >> 16).astype("<u2")


def to_float16(x, lanes):
    """Round in steps of 2**-10 of the power of two below x, and of 2**-24 for denormal numbers."""
    step = numpy.exp2(numpy.maximum(numpy.frexp(numpy.nan_to_num(x, posinf=0, neginf=0))[1] - 11, -24))
    rounded = round_at_random(numpy.where(numpy.isfinite(x), x, 0), step.astype("f4"), lanes) * step
    return numpy.where(numpy.isfinite(x), rounded, x).astype("<f2")


CODE_BITS = {4: (8, 127, 1), 5: (4, 7, 1), 6: (2, 0, 2), 7: (1, 0, 1), 8: (4, 7, 1)}
"""Kind of format with scales -> bits of a code, levels, scales of a group."""


def levels_at_random(x, top, lanes, levels):
    """Round x, in steps of top / levels, stochastically: add random numbers to 15 fractional bits."""
    most = numpy.float32(levels * 2**15)
    factor = most / top
    if factor * top > most:
        factor = numpy.nextafter(factor, numpy.float32(0))
    half = -(-len(x) // 2)  # of the upper halves of words the upper 15 bits
    return nearest(x * factor) + numpy.concatenate([lanes[:half] & 0x7FFF, lanes[half:] >> 1]) >> 15


def to_levels(x, top, lanes, levels):
    """Return codes from -levels to levels, and the scale of a group."""
    scale = numpy.float32(min(top, numpy.float32(3.4028203e38)) / numpy.float32(levels))
    if lanes is None:
        return nearest(x * (numpy.float32(levels) / top)), [scale]
    return levels_at_random(x, top, lanes, levels), [scale]


def to_fixed(x, top):
    """Return |x| in steps of 2**-20 of the power of two above `top`, and a function to their means."""
    step, most = numpy.exp2(numpy.float32(numpy.frexp(top)[1] - 20)), numpy.float32(2**20 - 2**-4)
    q = nearest(numpy.abs(x) * (numpy.float32(1) / step))
    return q, lambda some: min(numpy.float32(some.mean()), most) * step if len(some) else 0


def to_bins(x, top):
    """Return the bins of a group, and the mean magnitudes of the inner and outer ones."""
    q, mean_of = to_fixed(x, top)
    square = ((q + 512 >> 10) ** 2).sum() / len(q)
    outer = q > math.floor(0.9816 * 1024 * math.sqrt(square))
    return 2 * numpy.signbit(x) + outer, [mean_of(q[~outer]), mean_of(q[outer])]


def to_codes(kind, x, lanes):
    """Return the codes and scales of a group."""
    _, levels, scales = CODE_BITS[kind]
    top = abs(x).max()
    if not numpy.isfinite(top) or top < 2.0**-104:
        return numpy.zeros(len(x)), [numpy.nan if not numpy.isfinite(top) else 0] * scales
    if kind == 6:
        return to_bins(x, top)
    if kind == 7:
        q, mean_of = to_fixed(x, top)
        return numpy.signbit(x), [mean_of(q)]
    return to_levels(x, top, lanes if kind != 5 else None, levels)


def pack(codes, bits):
    """Pack codes of 1, 2, 4 or 8 bits: code i is in byte i mod q of q."""
    shares = 8 // bits
    codes = numpy.append(codes, numpy.zeros(-len(codes) % shares)).astype("i8") & 2**bits - 1
    bytes_ = codes.reshape(shares, -1) << numpy.arange(0, 8, bits)[:, None]
    return bytes_.sum(axis=0).astype("u1")


def unpack(packed, count, bits):
    """Undo `pack`, for `count` codes."""
    return (packed >> numpy.arange(0, 8, bits)[:, None] & 2**bits - 1).ravel()[:count]


def quantise_encode(kind, source, out, rows, seed, stream, worker, task, part=0):
    """Encode as `quantise.encode` for bfloat16 (kind 2) and what follows it."""
    x = source.astype("f4").reshape(rows if kind > 3 else 1, -1)
    most = {2: 3.3895313e38, 3: 65504}.get(kind, 3.4028235e38)
    x = numpy.where(numpy.abs(x) > most, numpy.copysign(numpy.inf, x), x)
    groups = -(-x.shape[1] // 1024)
    scales, codes = b"", b""
    for row, start in numpy.ndindex(len(x), groups):
        some = x[row, 1024 * start : 1024 * (start + 1)]
        lanes = random_lanes(seed, stream, worker, task, part, row * groups + start, len(some))
        if kind < 4:
            codes += (to_bfloat16, to_float16)[kind - 2](some, lanes).tobytes()
            continue
        bins, means = to_codes(kind, some, lanes)
        scales += numpy.array(means, "<f4").tobytes()
        codes += pack(bins, CODE_BITS[kind][0]).tobytes()
    out[:] = numpy.frombuffer((scales + codes).ljust(len(out), b"\0"), "u1")


def quantise_decode(kind, payload, out, rows):
    """Decode as `quantise.decode` for float16 (kind 3) and what follows it."""
    if kind == 3:
        out[:] = payload.view("<f2")[: out.size]
        return
    (bits, _, count), elements = CODE_BITS[kind], out.size // rows
    groups, width = -(-elements // 1024), -(-elements * bits // 8)
    scales = payload[: 4 * rows * groups * count].view("<f4").astype(out.dtype).reshape(rows, groups, count)
    packed = payload[4 * rows * groups * count :][: rows * width].reshape(rows, width)
    for (row, g), x in zip(numpy.ndindex(rows, groups), split(out, rows), strict=True):
        codes = unpack(packed[row, 128 * bits * g : 128 * bits * (g + 1)], len(x), bits).astype("i8")
        levels = 1 - 2 * codes if kind == 7 else (codes ^ 2 ** (bits - 1)) - 2 ** (bits - 1)
        means = numpy.concatenate([scales[row, g], -scales[row, g]]) if kind == 6 else ()
        x[:] = means[codes] if kind == 6 else levels.astype(out.dtype) * scales[row, g, 0]


def fold_decode(target, indices, values, block, kind, wire, factor):
    """Compute target_j -= factor * sum_i g_ij y_i, from an encoded payload."""
    payload, accumulator = numpy.empty((len(indices), block), target.dtype), numpy.zeros_like(target)
    quantise_decode(kind, wire, payload.reshape(-1), len(indices))
    if not numpy.isfinite(payload).all():
        return -1.0
    adjoint_decode(accumulator, indices, values, payload, 1)
    target -= factor * accumulator
    return float(((factor * accumulator) ** 2).sum())


def fold_encode(memory, gradient, indices, values, block, kind, wire, sent, keys):
    """Encode memory + gradient, round, and keep in memory what is not sent; codewords are orthogonal."""
    blocks = padded((memory + gradient)[None], block)[0]
    for y, g in zip(sent, dense(indices, values, len(blocks)), strict=True):
        y[:] = g @ blocks
    quantise_encode(kind, sent.reshape(-1), wire, len(sent), *keys)
    quantise_decode(kind, wire, sent.reshape(-1), len(sent))
    for y, g in zip(sent, dense(indices, values, len(blocks)), strict=True):
        blocks.ravel()[: len(memory)] -= numpy.outer(g, y).ravel()[: len(memory)]
    memory[:] = blocks.ravel()[: len(memory)]


def split(flat, rows):
    """Return the groups of all rows, as views."""
    return [row[at : at + 1024] for row in flat.reshape(rows, -1) for at in range(0, row.size, 1024)]


def all_finite(values):
    """Return whether all elements are finite."""
    return bool(numpy.isfinite(values).all())


def all_usable(values):
    """Return whether all magnitudes are below the limit of payloads."""
    return bool((numpy.abs(values) < (2.0**60 if values.dtype == "f4" else 2.0**480)).all())


def combine(payloads, start, matrix, out):
    """Compute out = matrix' @ payloads[:, start : start + T], from arrays instead of addresses."""
    out[:] = matrix.T @ numpy.array([payload[start : start + out.shape[1]] for payload in payloads])


def middle_mean(payloads, low, high, out):
    """Write the mean of the ranks low to high - 1 of the payloads' elements; arrays, not addresses."""
    ranked = numpy.sort([payload[: len(out)] for payload in payloads], axis=0)
    out[:] = ranked[low:high].mean(axis=0)


def field_product(a, b, p, out):
    """Compute a @ b mod p, in Python's integers."""
    out[:] = (a.astype(object) @ b.astype(object)) % p


def field_basis(points, targets, p, out):
    """Compute the polynomials of Lagrange's basis at targets, mod p."""
    x = [int(point) for point in points]
    for row, t in zip(out, targets, strict=True):
        for i, one in enumerate(x):
            pairs = [((int(t) - other), (one - other)) for j, other in enumerate(x) if j != i]
            row[i] = math.prod(t for t, _ in pairs) * pow(math.prod(d for _, d in pairs), -1, p) % p


def field_errors(points, word, dimension, p):
    """Return the places of the wrong values of a polynomial, mod p, by trying all sets; None: too many."""
    for count in range((len(word) - dimension) // 2 + 1):
        for wrong in itertools.combinations(range(len(word)), count):
            x, y = numpy.delete(points, wrong), numpy.delete(word, wrong)
            basis, values = numpy.empty((len(x), dimension), numpy.uint64), numpy.empty_like(y[:, None])
            field_basis(x[:dimension], x, p, basis)
            field_product(basis, y[:dimension, None], p, values)
            if (values[:, 0] == y).all():
                return list(wrong)
    return None


def posterior(codewords, covariance, noise):
    """Return the gain (k, count) and tr(P) of the MMSE estimate."""
    gram = codewords @ covariance @ codewords.T + noise * numpy.eye(len(codewords))
    gain = covariance @ codewords.T @ numpy.linalg.inv(gram)
    return gain, float(numpy.trace(covariance - gain @ codewords @ covariance))


def matched_select(directions, indices, values):
    """Truncate directions (m, k) to codewords, and project each codeword out of all directions."""
    indices[:], values[:], size = 0, 0, min(indices.shape[1], directions.shape[1])
    for direction, index, value in zip(directions, indices, values, strict=False):
        index[:size] = numpy.sort(numpy.argsort(-numpy.abs(direction), kind="stable")[:size])
        value[:size] = direction[index[:size]] / numpy.linalg.norm(direction[index[:size]])
        directions[:, index[:size]] -= numpy.outer(directions[:, index[:size]] @ value[:size], value[:size])


def largest(vector, chunk, most):
    """Return the indices of the largest magnitudes of each chunk, ascending; of equal ones the first."""
    bits = vector.view(f"i{vector.itemsize}") & numpy.iinfo(f"i{vector.itemsize}").max
    chunks = [(start, bits[start : start + chunk]) for start in range(0, len(bits), chunk)]
    return numpy.concatenate(
        [start + numpy.sort(numpy.argsort(-some, kind="stable")[:most]) for start, some in chunks]
    )


def sample(bound, out, seed, stream, worker, task, part):
    """Draw distinct integers by Floyd's algorithm."""
    keys, drawn = numpy.array([seed, stream, 0, part, worker, task], numpy.uint64), set()
    numbers = numpy.random.Philox(key=keys[:2], counter=keys[2:]).random_raw(len(out))
    for last, number in enumerate(numbers, bound - len(out)):
        mine = int(number) * (last + 1) >> 64
        drawn.add(last if mine in drawn else mine)
    out[:] = sorted(drawn)


def pack_indices(numbers, bits):
    """Pack numbers of so many bits, 1,024 at a time, in planes of 8, 4, 2 and 1 bits."""
    planes, packed = [8] * (bits // 8) + [b for b in (4, 2, 1) if bits % 8 & b], b""
    for start in range(0, len(numbers), 1024):
        for first, width in zip(numpy.cumsum([0, *planes]), planes, strict=False):
            packed += pack(numbers[start : start + 1024] >> first, width).tobytes()
    return numpy.frombuffer(packed, "u1")


def matched_orthonormalise(directions):
    """Orthonormalise by QR with a positive diagonal, which equals Gram-Schmidt."""
    q, r = numpy.linalg.qr(directions.T.astype("f8"))
    directions[:] = (q * numpy.sign(numpy.diag(r))).T


def smooth_maximum(points, supports, sharpness, gradient, work):
    """Compute log(sum_{i<j} exp(p s_ij)) / p, s_ij the squared cosine of columns of points (k, n > 1)."""
    used, lengths = dense(supports, numpy.ones(supports.shape), len(points)).T, (points**2).sum(axis=0) ** 0.5
    pairs, cosines = numpy.tri(len(lengths), k=-1), (x := points / lengths).T @ x
    value = float(numpy.logaddexp.reduce(sharpness * cosines[pairs > 0] ** 2))
    shares = (pairs + pairs.T) * numpy.exp(numpy.minimum(sharpness * cosines**2 - value, 0))
    slope = 2 * used * (x @ (shares * cosines)) / lengths
    gradient[:] = slope - x * (x * slope).sum(axis=0)
    return value / sharpness


def deflate(memory, indices, values, block, out):
    """Project codewords out of memory, one by one."""
    feedback_encode(memory, numpy.zeros_like(memory), indices, values, block, out)


def whiten(inputs, delta, kind, scale=1.0, steps=1):
    """Return a layer's whitened gradient (k, d): scale * max(1, k/d)^½ times G/|G|, or steps from it."""
    gradient = delta.T @ inputs
    x = gradient / numpy.linalg.norm(gradient)
    for _ in range(steps if kind == "gram" else 0):
        s = x @ x.T
        x = 3.4445 * x - 4.7750 * s @ x + 2.0315 * s @ s @ x
    return scale * math.sqrt(max(1, len(x) / x.shape[1])) * x
