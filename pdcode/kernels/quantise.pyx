"""Wire formats of payloads: float64, float32, bfloat16, float16, int8, int4, int2, sign and qsgd.

float64 and float32 payloads are plain copies. bfloat16, float16, int8 and qsgd round stochastically, to one
of a value's two neighbours in the format, without bias: exactly for bfloat16 and normal numbers of float16,
to 2**-17 of a step for its denormal numbers, and to 2**-16 of a step and 2**-22 of the value for int8 and
qsgd. The random numbers are keyed: the bytes are the same on every machine and do not depend on earlier
calls. int4, int2 and sign round to nearest, and need no random numbers. A float64 source is first rounded
to float32, to nearest.

Layout of r rows of e elements: float64, float32, bfloat16, float16: the r * e numbers. The others: float32
scales for every 1,024 elements (a group) of each row, then the codes, ⌈e b / 8⌉ bytes a row, packed as
``csrc/bits.h`` says:

- int8, qsgd, int4: b = 8, 4, 4 bits; an element is code * scale, scale = max |x| / 127, 7, 7: the largest
  is not clipped. qsgd is by Alistarh et al. (NeurIPS 2017) with 7 levels, in buckets of 1,024, and
  their largest magnitude in place of their 2-norm.
- int2: b = 2; two scales. Magnitudes are cut at 0.9816 of their root mean square, as is best for normal
  numbers (Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 1960), and an element is ± the
  mean magnitude of its side. 2-bit values by bin means are as in SparseLoCo (Sarfi et al. 2025); the
  bins are ours.
- sign: b = 1; an element is ± the mean magnitude (Karimireddy et al., ICML 2019).

All are padded with zeros to a multiple of 8 bytes. Groups whose largest magnitude is below 2**-104 (5e-32)
are sent as zeros.

NaN and infinity are preserved (where there are scales, as NaN in all elements of their group). Magnitudes
beyond the largest number of the format (65504 for float16, 3.4e38 for the others) become infinity and are not
clipped, which would bias the mean silently.
"""


cdef extern from "quantise.h":
    enum:
        PDCODE_FLOAT64, PDCODE_FLOAT32, PDCODE_BFLOAT16, PDCODE_FLOAT16, PDCODE_INT8, PDCODE_INT4, PDCODE_INT2
        PDCODE_SIGN, PDCODE_QSGD, PDCODE_FORMATS, PDCODE_GROUP

KINDS = {
    "float64": PDCODE_FLOAT64,
    "float32": PDCODE_FLOAT32,
    "bfloat16": PDCODE_BFLOAT16,
    "float16": PDCODE_FLOAT16,
    "int8": PDCODE_INT8,
    "int4": PDCODE_INT4,
    "int2": PDCODE_INT2,
    "sign": PDCODE_SIGN,
    "qsgd": PDCODE_QSGD,
}
CODED = frozenset(kind for kind in KINDS.values() if kind >= PDCODE_INT8)  # formats of codes and scales
GROUP = PDCODE_GROUP


@kernel
def size(kind: int, rows: Py_ssize_t, elements: Py_ssize_t) -> Py_ssize_t:
    """Return the bytes that `encode` writes for a payload (rows, elements), a multiple of 8."""
    require(0 <= kind < PDCODE_FORMATS and rows >= 0 and elements >= 0)
    return quantise_size(kind, rows, elements)


cdef int check(int kind, Py_ssize_t length, const uint8_t *wire, Py_ssize_t bytes, Py_ssize_t rows) except -1:
    """Check that a payload has rows of equal length and the size of its format, and is aligned."""
    if rows < 0 or (rows == 0 and length > 0) or (rows > 0 and length % rows):
        raise ValueError(f"{length} elements are not {rows} rows of equal length")
    if not 0 <= kind < PDCODE_FORMATS:
        raise ValueError(f"kind is {kind}: must be one of {KINDS}")
    cdef Py_ssize_t needed = c_quantise_size(kind, rows, length // max(1, rows))
    if bytes != needed:
        raise ValueError(f"the encoded payload has {bytes} bytes: must have {needed}")
    if not aligned(wire):
        raise ValueError("the encoded payload must begin at a multiple of 8 bytes")
    return 0


@kernel
def encode(kind: int, source: real[N], out: writeable(uint8_t[bytes]), rows: Py_ssize_t, seed: uint64_t,
           stream: uint64_t, worker: uint64_t, task: uint64_t, part: uint64_t = 0,
           decoded: optional(writeable(real[N])) = None) -> bint:
    """Encode a payload to a wire format; return whether every element of the decoded payload is finite.

    The rows follow each other in `source`. The keys of the rounding are (seed, stream, worker, task, part):
    different layers of a task need different parts. `decoded` becomes the exact result of `decode`; it may be
    `source` itself, for error feedback.
    """
    check(kind, N, out, bytes, rows)
    return quantise_encode(kind, source, rows, N // max(1, rows), [seed, stream], [part, worker, task], out,
                           bytes, decoded)


@kernel
def decode(kind: int, payload: uint8_t[bytes], out: writeable(real[N]), rows: Py_ssize_t) -> bint:
    """Decode a payload from a wire format; return whether every element is finite."""
    check(kind, N, payload, bytes, rows)
    return quantise_decode(kind, payload, rows, N // max(1, rows), out)
