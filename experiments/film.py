"""Is a film inferred in fewer iterations if each frame begins at the codes of the frame before?

`film.py TRACE` takes the trace of a learnt dictionary (docs/results/sparse-coding.md). The model camera
moves over three held-out photographs; frames of 32 ms begin 32, 8 or 4 ms after each other. Warm frames begin
at the codes of the frame before, cold ones at 0. The gap is the energy's excess over that after 600
iterations.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from pdcode.util import threads

if __name__ == "__main__":
    threads.limit(os.environ)  # before numpy is imported

import numpy as np
from denoisers import short

import pdcode
from pdcode.events import Dictionary, camera, sensors
from pdcode.events.reconstruction import LOW, Inference
from pdcode.events.retina import filtered, gaussian
from pdcode.problems import photographs

SIZE, WINDOW_MS, NOISE_HZ, BEST = 96, 32, 20.0, 600
LENGTHS = 20, 60  # iterations of a frame


def film(
    dictionary: Dictionary, image: np.ndarray, hop_ms: int, frames: int, best: int
) -> dict[tuple[int, bool], tuple[float, float]]:
    """Return gap and PSNR [dB] of the last frame, by iterations of a frame and whether it begins warm."""
    sensor = sensors.Camera(WINDOW_MS, np.random.default_rng(1), NOISE_HZ)
    model, length_ms = sensors.Calibrated(sensor, dictionary, SIZE), (frames - 1) * hop_ms + WINDOW_MS
    most = SIZE + 2 * sensor.margin
    cut = dictionary.cropped(image[:most, :most].astype(float), sensor.margin)
    events, change = camera.render(cut, np.random.default_rng(2), length_ms, NOISE_HZ)
    before = camera.render(cut, np.random.default_rng(2), length_ms - WINDOW_MS)[1] if frames > 1 else 0.0
    truth, sensing = change - before, sensor.sensing(change.shape)
    threshold, found = model.threshold * model.signal.variance**0.5, {}

    def inference(frame: int, iterations: int) -> tuple[Inference, np.ndarray, np.ndarray]:
        start_us = 1000 * frame * hop_ms
        counts = camera.THRESHOLD * events.counts(start_us, start_us + 1000 * WINDOW_MS, change.shape)
        low = filtered(model.signal.linear(counts, sensing), gaussian(counts.shape, LOW))
        rest = counts - sensing.sensed(low)
        return replace(dictionary, iterations=iterations).inference(rest, sensing, threshold), low, rest

    def energy(made: Inference, rest: np.ndarray) -> float:
        squares = np.square(rest - sensing.sensed(made.image())).sum()
        return 0.5 * float(squares) + threshold * float(np.abs(made.codes[:, :-1]).sum())

    ideal, _, rest = inference(frames - 1, best)
    ideal.run()
    least = energy(ideal, rest)
    for iterations in LENGTHS:
        for warm in (False, True):
            codes = None
            for frame in range(frames) if warm else (frames - 1,):
                made, low, rest = inference(frame, iterations)
                if codes is not None:
                    made.codes[:] = codes
                made.run()
                codes = made.codes
            error = np.square((low + made.image() - truth) / np.ptp(truth)).mean()
            found[iterations, warm] = energy(made, rest) / least - 1, -10 * float(np.log10(error))
    return found


def main(arguments: list[str]) -> None:
    """Print gap and PSNR by distance of frames, iterations and beginning."""
    quick = "--quick" in arguments
    dictionary = short() if quick else pdcode.Trace(arguments[0]).dictionary()
    images = [image for _, image in photographs.held_out()[: 1 if quick else 3]]
    print("ms between frames, iterations of a frame: gap and PSNR of the last frame, cold, warm; means")
    for hop_ms, frames in ((32, 5), (8, 9), (4, 13)) if not quick else ((32, 2),):
        made = [film(dictionary, image, hop_ms, frames, 20 if quick else BEST) for image in images]
        for iterations in LENGTHS:
            cells = (np.mean([each[iterations, warm] for each in made], axis=0) for warm in (False, True))
            shown = "  ".join(f"{gap:.3f} {decibels:.2f} dB" for gap, decibels in cells)
            print(f"{hop_ms:3} {iterations:3}: {shown}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
