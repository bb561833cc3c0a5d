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
  is not clipped. qsgd is that of Alistarh et al. (NeurIPS 2017) with 7 levels, in buckets of 1,024, and
  their largest magnitude in place of their 2-norm.
- int2: b = 2; two scales. Magnitudes are cut at 0.9816 of their root mean square, as is best for normal
  numbers (Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 1960), and an element is ± the
  mean magnitude of its side. 2-bit values by bin means are those of SparseLoCo (Sarfi et al. 2025); the
  bins are ours.
- sign: b = 1; an element is ± the mean magnitude (Karimireddy et al., ICML 2019).

All are padded with zeros to a multiple of 8 bytes. Groups whose largest magnitude is below 2**-104 (5e-32)
are sent as zeros.

NaN and infinity are preserved (where there are scales, as NaN in all elements of their group). Magnitudes
beyond the largest number of the format (65504 for float16, 3.4e38 for the others) become infinity and are not
clipped, which would bias the mean silently.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from pdcode.kernels.real cimport real

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


cdef Py_ssize_t numbers(int kind, Py_ssize_t rows, Py_ssize_t elements) except -1:
    """Return the bytes of a layer without padding."""
    if not 0 <= kind < PDCODE_FORMATS:
        raise ValueError(f"kind is {kind}: must be one of {KINDS}")
    if rows < 0 or elements < 0:
        raise ValueError(f"rows and elements are {rows} and {elements}: must not be negative")
    return quantise_bytes(kind, rows, elements)


def size(int kind, Py_ssize_t rows, Py_ssize_t elements):
    """Return the bytes that `encode` writes for a payload (rows, elements), a multiple of 8.

    Parameters
    ----------
    kind : int
        One of `KINDS`.
    rows, elements : int

    Raises
    ------
    ValueError
        If kind is unknown or a number negative.
    """
    return (numbers(kind, rows, elements) + 7) // 8 * 8


cdef Py_ssize_t check(int kind, Py_ssize_t length, const uint8_t[::1] wire, Py_ssize_t rows) except -1:
    """Check the arguments; return the elements of a row."""
    if rows < 0 or (rows == 0 and length > 0) or (rows > 0 and length % rows):
        raise ValueError(f"{length} elements are not {rows} rows of equal length")
    cdef Py_ssize_t elements = length // rows if rows else 0, needed = numbers(kind, rows, elements)
    if wire.shape[0] != (needed + 7) // 8 * 8:
        raise ValueError(f"the encoded payload has {wire.shape[0]} bytes: must have {(needed + 7) // 8 * 8}")
    if <size_t> &wire[0] % 8:
        raise ValueError("the encoded payload must begin at a multiple of 8 bytes")
    return elements


def encode(int kind, const real[::1] source, uint8_t[::1] out, Py_ssize_t rows, uint64_t seed,
           uint64_t stream, uint64_t worker, uint64_t task, uint64_t part=0, real[::1] decoded=None):
    """Encode a payload to a wire format.

    Parameters
    ----------
    kind : int
        One of `KINDS`.
    source : array (r * e,), float32 or float64
        The rows, concatenated.
    out : array (size(kind, r, e),), uint8
        Overwritten. Aligned to 8 bytes.
    rows : int
        Number of rows, r.
    seed, stream, worker, task, part : int
        Keys of the rounding. Different layers of a task need different parts.
    decoded : array (r * e,), optional
        Overwritten with the exact result of `decode`; may be `source` itself, for error feedback.

    Returns
    -------
    bool
        Whether every element of the decoded payload is finite.

    Raises
    ------
    ValueError
        If kind is unknown, or shapes, alignment or types do not fit.
    OverflowError
        If a key is negative or does not fit 64 bits.
    """
    cdef Py_ssize_t elements = check(kind, source.shape[0], out, rows), used = numbers(kind, rows, elements)
    cdef uint64_t[2] key = [seed, stream]
    cdef uint64_t[3] place = [part, worker, task]
    cdef bint finite
    if decoded is not None and decoded.shape[0] != source.shape[0]:
        raise ValueError("decoded must be as long as source")
    with nogil:
        if real is float:
            finite = quantise_encode_f32(kind, &source[0], rows, elements, key, place, &out[0])
        else:
            finite = quantise_encode_f64(kind, &source[0], rows, elements, key, place, &out[0])
        memset(&out[0] + used, 0, out.shape[0] - used)
    if decoded is not None:
        with nogil:
            if real is float:
                quantise_decode_f32(kind, &out[0], rows, elements, &decoded[0])
            else:
                quantise_decode_f64(kind, &out[0], rows, elements, &decoded[0])
    return finite


def decode(int kind, const uint8_t[::1] payload, real[::1] out, Py_ssize_t rows):
    """Decode a payload from a wire format.

    Parameters
    ----------
    kind : int
        One of `KINDS`.
    payload : array (size(kind, r, e),), uint8
        Output of `encode`, aligned to 8 bytes.
    out : array (r * e,), float32 or float64
        Overwritten.
    rows : int
        Number of rows, r.

    Returns
    -------
    bool
        Whether every element of `out` is finite.

    Raises
    ------
    ValueError
        If kind is unknown, or shapes, alignment or types do not fit.
    """
    cdef Py_ssize_t elements = check(kind, out.shape[0], payload, rows)
    cdef bint finite
    with nogil:
        if real is float:
            finite = quantise_decode_f32(kind, &payload[0], rows, elements, &out[0])
        else:
            finite = quantise_decode_f64(kind, &payload[0], rows, elements, &out[0])
    return finite
