"""Steps of the Locally Competitive Algorithm, for features at the places of a grid.

Rozell, Johnson, Baraniuk and Olshausen, "Sparse coding via thresholding and local competition in neural
circuits", Neural Computation 2008.
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
