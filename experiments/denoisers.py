"""Images of events: sparse coding by several dictionaries beside denoisers, and duality gaps of inference.

`denoisers.py TRACE` takes the trace of a learnt dictionary (docs/results/sparse-coding.md). Five held-out
photographs of scikit-image; thresholds and strengths are chosen on three training photographs, for each seed.
BM3D is tried if the package bm3d is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # before numpy is imported

import numpy as np
from skimage.metrics import structural_similarity
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

import pdcode
from pdcode.events import Dictionary, sensors
from pdcode.problems import photographs
from pdcode.problems.sparse_coding import SparseCoding, infer, relative_gap

SIZE, CHOSEN = 96, 3
PATCHES = 4000  # of training photographs, from which other dictionaries are made
Scores = list[tuple[float, float]]
Denoiser = Callable[[np.ndarray, float], np.ndarray]


def nonlocal_means(image: np.ndarray, strength: float) -> np.ndarray:
    """Return the non-local means of an image."""
    return denoise_nl_means(image, patch_size=5, patch_distance=7, h=strength, fast_mode=True)


def bm3d(image: np.ndarray, strength: float) -> np.ndarray:
    """Return the estimate of BM3D, of greys that begin at 0."""
    from bm3d import bm3d as estimate

    low = image.min()
    return low + estimate(image - low, strength)


DENOISERS: dict[str, tuple[Denoiser, np.ndarray]] = {
    "non-local means": (nonlocal_means, np.geomspace(0.005, 0.4, 10)),
    "total variation": (denoise_tv_chambolle, np.geomspace(0.004, 0.4, 10)),
    **({"BM3D": (bm3d, np.geomspace(0.01, 0.3, 6))} if find_spec("bm3d") else {}),
}


def patches(side: int, count: int) -> np.ndarray:
    """Draw squares with contrast from training photographs, without their means; shape (count, side²)."""
    table = SparseCoding(data="photographs", samples=count, thumbnail=side)
    rows = photographs.cut_seven(table, True).x.reshape(count, -1)
    return np.asarray(rows - rows.mean(axis=1, keepdims=True), np.float64)


def dictionaries(learnt: Dictionary) -> dict[str, Dictionary]:
    """Return the learnt dictionary, and others of as many features, or of fewer orthogonal ones."""
    rows, random = patches(learnt.side, PATCHES), np.random.default_rng(1)
    count = len(learnt.features) - 1
    drawn, noise = rows[random.permutation(PATCHES)[:count]], random.standard_normal((count, rows.shape[1]))
    noise -= noise.mean(axis=1, keepdims=True)
    components = np.linalg.svd(rows, full_matrices=False)[2][: rows.shape[1] - 1]
    made = {"patches": drawn, "random": noise, "PCA": components}
    found = {
        name: Dictionary.of(each / np.linalg.norm(each, axis=1, keepdims=True)) for name, each in made.items()
    }
    return {"learnt": learnt, **found}


def score(sensor: sensors.Retina, truths: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> Scores:
    """Compute PSNR [dB] and SSIM of estimates."""
    found = []
    for truth, image in zip(truths, images, strict=True):
        low, span = (-sensor.grey, 1.0) if sensor.grey else (truth.min(), np.ptp(truth))
        wanted, greys = (truth - low) / span, np.clip((image - low) / span, 0, 1)
        decibels = -10 * float(np.log10(np.square(greys - wanted).mean()))
        found.append((decibels, float(structural_similarity(wanted, greys, data_range=1.0))))
    return found


def strongest(
    denoiser: Denoiser, strengths: np.ndarray, images: list[np.ndarray], truths: list[np.ndarray]
) -> float:
    """Return the strength of the least squared error."""
    pairs = list(zip(images, truths, strict=True))
    return min(
        strengths, key=lambda h: sum(np.square(denoiser(image, h) - truth).mean() for image, truth in pairs)
    )


def trial(kind: str, seed: int, found: dict[str, Dictionary]) -> dict[str, Scores]:
    """Return the scores of each way to an image, by photograph."""
    random = np.random.default_rng(seed)
    sensor = sensors.Retina(32, random) if kind == "retina" else sensors.Camera(32, random, float(kind))
    learnt = found["learnt"]
    model = sensors.Calibrated(sensor, learnt, SIZE)

    def sensed(images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        most = SIZE + 2 * sensor.margin
        cut = [learnt.cropped(each[:most, :most].astype(float), sensor.margin) for each in images]
        truths, counts = zip(*(sensor.sense(each) for each in cut), strict=True)
        return list(truths), [np.polyval(model.unit, each) for each in counts]

    train, train_counts = sensed(photographs.training()[:CHOSEN])
    truths, counts = sensed([image for _, image in photographs.held_out()])
    fields = [sensor.sensing(each.shape) for each in counts]
    results = {"counts": counts}
    before = {}
    for name, dictionary in found.items():
        own = model if name == "learnt" else sensors.Calibrated(sensor, dictionary, SIZE)
        for images, target, key in (
            (counts, results, f"sparse coding, {name}"),
            (train_counts, before, "sparse coding"),
        ):
            if target is results or name == "learnt":
                target[key] = [
                    own.estimates(each, sensor.sensing(each.shape), own.threshold).sparse for each in images
                ]
    results["linear"] = [model.signal.linear(*each) for each in zip(counts, fields, strict=True)]
    before["linear"] = [model.signal.linear(each, sensor.sensing(each.shape)) for each in train_counts]
    after = {"linear": results["linear"], "sparse coding": results["sparse coding, learnt"]}
    for source, images in before.items():
        for name, (denoiser, strengths) in DENOISERS.items():
            strength = strongest(denoiser, strengths, images, train)
            results[f"{source}, {name}"] = [denoiser(each, strength) for each in after[source]]
    return {name: score(sensor, truths, images) for name, images in results.items()}


def compare(found: dict[str, Dictionary], seeds: range, kinds: Sequence[str]) -> None:
    """Print means over photographs and seeds, ranges of seeds' means, and numbers of better images."""
    for kind in kinds:
        trials = [trial(kind, seed, found) for seed in seeds]
        base = np.array([each["sparse coding, learnt"] for each in trials])
        print(f"\n{kind}: PSNR (range of {len(seeds)} seeds), SSIM; of {base[..., 0].size} images, better")
        for name in trials[0]:
            scores = np.array([each[name] for each in trials])  # (seeds, photographs, 2)
            low, high = scores[..., 0].mean(axis=1).min(), scores[..., 0].mean(axis=1).max()
            better = (scores > base).sum(axis=(0, 1))
            mean = scores.mean(axis=(0, 1))
            shown = f"{name:32} {mean[0]:6.2f} dB ({low:.2f} – {high:.2f}) {mean[1]:.3f}"
            print(f"{shown}  {better[0]:3} {better[1]:3}", flush=True)


def inference(found: dict[str, Dictionary], iterations: Sequence[int]) -> None:
    """Print duality gaps by algorithm, and energies by dictionary, on squares of held-out photographs."""
    features, side = found["learnt"].features[:-1].astype(np.float64), found["learnt"].side
    random, rows = np.random.default_rng(6), []
    for _, image in photographs.held_out():
        for y, x in random.integers(0, np.array(image.shape) - side, (20, 2)):
            rows.append(image[y : y + side, x : x + side].astype(np.float64).ravel())
    signals = np.array(rows)
    signals -= signals.mean(axis=1, keepdims=True)
    signals /= signals.std()
    print("\nrelative duality gap after so many iterations")
    for sparsity in (0.1, 0.5, 1.0):
        for algorithm in ("lca", "ista", "fista"):
            line = f"λ = {sparsity:3} {algorithm:>5}"
            for count in iterations:
                table = SparseCoding(sparsity=sparsity, algorithm=algorithm, iterations=count)
                codes = infer(table, signals, features)
                rest = signals - codes @ features
                gap = relative_gap(0.5 * np.square(rest).sum(axis=1), codes, rest @ features.T, sparsity)
                line += f"  {count}: {gap:.1e}"
            print(line, flush=True)
    for name, each in found.items():
        features, table = each.features[:-1].astype(np.float64), SparseCoding(iterations=10_000, gap=1e-4)
        codes = infer(table, signals, features)
        energy = 0.5 * np.square(signals - codes @ features).sum() + np.abs(codes).sum()
        print(f"{name}: energy of a patch at λ = 1: {energy / len(signals):.2f}", flush=True)


def short() -> Dictionary:
    """Return the dictionary of a short descent."""
    problem = {"kind": "sparse-coding", "data": "photographs", "samples": 500, "atoms": 32, "evaluate": 50}
    tables = {"optimizer": {"proximal": {"kind": "unit-norm"}}, "stop": {"updates": 20}}
    with TemporaryDirectory() as folder:
        path = Path(folder, "short.h5")
        return pdcode.simulate({"problem": problem, **tables}, output=path, progress=False).dictionary()


def main(arguments: list[str]) -> None:
    """Print the tables."""
    if "--quick" in arguments:
        found = {"learnt": short()}
        inference(found, [20])
        compare(found, range(1, 2), ["20"])
        return
    for trace in arguments:
        found = dictionaries(pdcode.Trace(trace).dictionary())
        inference(found, [60, 200, 1000])
        compare(found, range(1, 6), ["retina", "20", "0"])


if __name__ == "__main__":
    main(sys.argv[1:])
