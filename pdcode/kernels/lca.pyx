"""Steps that infer sparse codes, for features at the places of a grid.

`compete` is of the Locally Competitive Algorithm: Rozell, Johnson, Baraniuk and Olshausen, "Sparse coding via
thresholding and local competition in neural circuits", Neural Computation 2008. `descend` is of ISTA, FISTA:
Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sciences 2009.
"""


@kernel
def leave(targets: real[B, D], patches: writeable(real[N, P]), image: writeable(real[D]), height: int,
          rows: int, stride: int, scale: double) -> double:
    """Replace patches by ``scale`` times the patches of what they leave; return half of its squared norm.

    Images of ``height`` rows of pixels are the sums of their patches, of ``rows`` rows, which are ``stride``
    pixels apart in both directions; patches of one image follow each other.
    """
    require(height >= 1 and rows >= 1 and stride >= 1 and rows <= height)
    require(D % height == 0 and P % rows == 0 and P // rows <= D // height)
    require((height - rows) % stride == 0 and (D // height - P // rows) % stride == 0)
    require(N == B * ((height - rows) // stride + 1) * ((D // height - P // rows) // stride + 1))
    return leave(targets, patches, image, B, height, D // height, rows, P // rows, stride, scale)


@kernel
def compete(drive: real[N, M], potential: writeable(real[N, M]), codes: writeable(rows(real[N, M])),
            thresholds: real[M], speed: double, hard: int, nonnegative: int):
    """Compute ``potential += speed * (drive - potential + codes)``, and codes = threshold(potential).

    A soft threshold takes λ from a magnitude, a hard one removes magnitudes of at most λ.
    """
    compete(drive, potential, codes, stride(codes), N, M, thresholds, speed, hard, nonnegative)


@kernel
def descend(drive: real[N, M], points: writeable(real[N, M]), codes: writeable(rows(real[N, M])),
            thresholds: real[M], step: double, momentum: double, nonnegative: int):
    """Compute codes = threshold(``points + step * drive``), ``points = codes + momentum * change of codes``.

    The threshold takes ``step * thresholds`` from a magnitude.
    """
    descend(drive, points, codes, stride(codes), N, M, thresholds, step, momentum, nonnegative)
