"""Fitted constants: every number of pdcode that was found by measuring, and what it was measured by.

The comment of a section names what fits its constants again: a program, or a page with its command. Where
it says "no program", runs were compared by `pdcode compare` while the constant was made, and nothing that is
kept repeats that; `pdcode bench heldout` then judges it on jobs that it has not seen. Rates of presets stand
in the presets (`schemes.lwpd`), constants of the mathematics where it is.
"""

from collections.abc import Mapping

# Charges of the virtual clock, in flops of a gradient. `python -m benchmarks charges` has the counts beside
# the times of tasks and steps, docs/simulator.md the last table.
TOUCH = 5.0  # time of a touch of arrays of `TOUCH_FIRST` elements, and how much more for each power of ten
TOUCH_FIRST, TOUCH_LAST = 1e4, 1e6  # elements of θ, below and above which the time of a touch is the same
ELEMENTWISE = 4.0  # time of an operation in a core's cache
READING = 1 / 3  # operations by which an element is read from a message, as a part of its rounding's
SCATTERED = 20.0  # time of a touch of single elements of θ, as a multiple of the time of as many together
GROUPED = 0.3  # time of codewords of one Hadamard matrix of order 4, likewise: `fold.decode` adds them up
SUMS = 4.0  # elementwise operations by which an element of a sum modulo 2^bits is read
CENTRING = 25.0  # time of centring an input of a sample
NORMING = 1.5  # touches of a gradient's element in its norm, which finds a part in the cache, and scaling
RECURSION = 1e6  # of the calls for a layer's errors through part of its blocks: `experiments/recursion.py`
# Likewise of modules of PyTorch and of rivals: `python -m benchmarks modules`, and no program.
UNFOLDING = 300.0  # time of an input of a convolution that is copied for each place
MEANS = 12.0  # time of an input of a sample in the mean of a batch
FORMED_CENTRING = 14.0  # time of centring an element of a formed gradient
LARGE_PRODUCTS = 0.55  # time of a flop of Muon's products, relative to one of the gradient of 32 samples
SMALL_FACTORISATIONS = 10.0  # time of a flop of PowerSGD's, likewise

# Learning rates of whitened gradients, see `schemes.rate_laws`: digits and mnist5k, networks of 2 to 7
# matrices of 64 units, 4 to 48 workers. No program.
WHITENED_RATE = 2.0  # where tasks send `REFERENCE_FRACTION` of a gradient or more
REFERENCE_FRACTION = 1 / 8
MOMENTUM_EXPONENT = 0.65  # of 1 - β: .7 at β = .8, 1.1 at .6 (all-reduce, and four bits with error feedback)
FEW_MATRICES, FEW_WORKERS = 3, 8  # up to, and from which on, the rate is the usual one
DEEP_EXPONENT = 5 / 3  # of `FEW_MATRICES` over the number of matrices
CENTRED_EXPONENT = 1.0  # the same where gradients are centred: two networks of `pdcode bench heldout`
USUAL_BATCH, LARGE_BATCH = 32, 128  # mini-batches from, and up to, which presets of rounds have more momentum
LONGEST_STEP = 0.375  # longest step by one whitened payload (presets of `lwpd`, 1 to 6 workers)
LONGEST_SPARSE_STEP = 0.5  # the same for preset "whitened" of top-k (digits; mnist5k .375; 2 to 7 workers)
# Networks and linear models with real targets: `experiments/regressions.py`.
FINAL_RATE = 0.1  # part of the rate at the end of a regression
# Rates with which a trial begins, see `automatic.rates`, which then goes up and down by powers of 2.
FIRST_RATES: Mapping[str, float] = {
    "sgd": 0.1, "sign": 1e-3, "muon": 0.02, "dion2": 0.02, "orthogonal": 0.1,
}  # fmt: skip
OTHER_FIRST_RATE = 0.01

# Keys that are "auto", see `automatic.keys`.
# Look-ahead of n workers, as a factor of the residual: `LOOKAHEAD_N`/n, at most `MAX_LOOKAHEAD`, if a task
# sends `REFERENCE_FRACTION` of a gradient (digits, 8 to 64 workers). No program; docs/results/memories.md has
# what it is worth.
MAX_LOOKAHEAD, LOOKAHEAD_N = 0.2, 1.6
LENGTH_LOOKAHEAD = 1.0  # where steps have a length of their own (digits, 8 to 32 workers)
# Where layers see several rows a sample, `MORE_STEPS` Newton–Schulz steps replace one if a gradient then
# takes at most `MORE_COST` of the operations: they save 15 % to 25 % of the gradients, see
# docs/results/whitening.md.
MORE_STEPS, MORE_COST = 3, 1.15
# Length of the best plain step relative to the best whitened one at the start (digits, mnist5k), and the
# factor on it that is stable where shards differ (both, sorted by label, asynchronous). No program.
PLAIN_TO_WHITENED, DIFFERING_SHARDS = 0.5, 1 / 3
SMALL_LOSS = 1 / 50  # of the loss of zero scores: below it whitened steps shrink (docs/results/whitening.md)

# Parts of a gradient that a task sends if the speeds decide, see `automatic.link_sizing`. No program.
FRACTIONS = 1 / 8, 1 / 16, 1 / 32
MAX_LOAD = 0.9  # largest fraction of the time for which either direction of rank 0's link may be busy
MAX_RATIO = 0.9  # a smaller fraction is chosen only if it reduces the load at least by this factor

# Choice of the preset, see `choice.preset`: `experiments/choice.py` has what it takes over the best of the
# candidates, with these constants and with constants of single networks; docs/results/auto.md the table.
# Number of updates to the same loss with payloads of all workers; of an asynchronous preset, of as many
# payloads as there are workers. Only ratios count: geometric means of those to "ring", which is 24, over
# eight jobs of `pdcode bench heldout` for development, with 16 workers, 10 Gbit/s and no delays; of
# "orthogonal-network" over seven of them, of "orthogonal" over a linear softmax of mnist5k and digits.
# All but "ring" and "sharded" were counted beside a "ring" with Nesterov's momentum, which needs 1.13
# times as many, in linear models 1.19. An update of "local:four-steps" has four mini-batches a worker.
# Those of linear models compare with each other: five jobs for development, and five made ones. To the
# least loss in the time of a job "deep-regression" needs 6.9 times the updates of "whitened-regression",
# the median of 13 networks of experiments/regressions.py, which is taken to need the updates of "default".
UPDATES_NEEDED: Mapping[str, float] = {
    "default": 40.0,
    "ring": 24.0,
    "sharded": 27.6,
    "orthogonal": 21.5,
    "orthogonal-network": 34.9,
    "first": 28.9,
    "sharded-first": 32.7,
    "starved": 76.6,
    "topk:whitened": 120.0,
    "regression": 30.0,
    "small-regression": 10.0,
    "ring-regression": 5.0,
    "sharded-regression": 5.0,
    "whitened-regression": 40.0,
    "deep-regression": 276.0,
    "local:four-steps": 13.2,
    "local:eight-steps": 10.2,
    "shards": 1.0,
}
LOCAL_MATRICES = 3  # with more of them local steps lead too far, at any rate (`experiments/small_jobs.py`)
TRIED_WORKERS = 16  # of the trials
MEAN_EXPONENT = 0.25  # of the number of updates, in 1 / number of averaged payloads (2 to 64 workers)
SHARE_EXPONENT = 0.4  # of the number of updates, in one over the fraction of a gradient that a task sends
WAITING = 1.05  # a candidate that waits for every worker must be better by this factor
# Multiple of the updates where gradients have no equal length, as the workers' shards differ, and the same
# where they have a largest one (four networks of sorted rows, beside "orthogonal-network").
UNEQUAL, BOUNDED = 4.0, 1.7
HELD = 2.5  # time that first tasks and a change of the preset take, over the time of payloads of all workers
SLOW_WORKER = 10.0  # time of the tasks of the worker that a run is prepared for, over the others'
FOLLOWING = 1.05  # time with a count that follows tasks that vary, over the time with the best fixed one

# Review of the preset during a run, see `choice.review`. No program: set so that runs without delays keep
# their preset, and runs with one slow worker change it (tests/choice/test_preset_changes.py).
FIRST_REVIEW, BACKOFF = 1, 4  # tasks of each worker before the first review; factor on them after each change
GAIN = 1.05  # least multiple by which the predicted time must fall
RESTART = 4.0  # updates that a change costs at most besides the wait, as momentum and memories begin anew
DIFFERS = 3.0  # standard errors by which a worker's mean task differs from the usual one
EVEN = 0.5  # time after which others of the first tasks are late, relative to the time of the shortest
LATE = 2.0  # multiple of the usual time of a worker's task from which on it is late
LASTING = 2  # last tasks, all long if a worker is slow for good
LONG = 1.5  # multiple of the usual time of long tasks
LASTING_PART = 0.05  # part of the run's time for which they last
REVIEWING = 20  # time between reviews, in multiples of the time that one takes

# Counts of payloads that follow the tasks, see `coding.policies` (digits, mnist5k). No program;
# docs/results/policies.md has what they take.
COUNT_EXPONENT = 0.6  # of the number of updates, in the part of the payloads that is used (.8 and .4)
ADAPTED_EVERY = 2  # updates between changes of the count
COUNT_PATIENCE = 4  # time of an update, at most, over the time of half of its payloads
