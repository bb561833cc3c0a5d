"""Random numbers keyed by (seed, stream, worker, task), independent of the order of events.

Philox4x64-10 (Salmon, Moraes, Dror, Shaw, SC 2011), number for number as by
``numpy.random.Philox(key=[seed, stream], counter=[0, 0, worker, task])``.
"""


@kernel
def integers(seed: uint64_t, stream: uint64_t, worker: uint64_t, task: uint64_t, bound: int64_t,
             out: writeable(int64_t[N])):
    """Draw integers in [0, bound), each the upper word of ``bound`` times a 64-bit number.

    They have a bias below ``bound / 2**64``.
    """
    require(bound >= 1)
    philox_integers(seed, stream, worker, task, bound, out, N)


@kernel
def uniforms(seed: uint64_t, stream: uint64_t, worker: uint64_t, task: uint64_t, out: writeable(double[N])):
    """Draw multiples of 2**-53 in [0, 1), each from one 64-bit number."""
    philox_uniforms(seed, stream, worker, task, out, N)


cdef int check(const int64_t *workers, const int64_t *first, Py_ssize_t count) except -1:
    """Check that workers and tasks are not negative."""
    cdef Py_ssize_t i
    for i in range(count):
        if workers[i] < 0 or first[i] < 0:
            raise ValueError(f"worker {workers[i]}, task {first[i]}: must be at least 0")
    return 0


@kernel
def uniforms_of(seed: uint64_t, stream: uint64_t, workers: int64_t[m], first: int64_t[m], count: Py_ssize_t,
                words: Py_ssize_t, out: writeable(double[m, count, words])):
    """Draw the first numbers, at most 4, of several workers and tasks.

    Row i, j has the first `words` numbers that `uniforms` draws for ``workers[i]`` and ``first[i] + j``.
    """
    require(0 <= words <= 4)
    check(workers, first, m)
    philox_uniforms_of(seed, stream, workers, first, m, count, words, out)
