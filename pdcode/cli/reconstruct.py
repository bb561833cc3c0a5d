"""`pdcode reconstruct`: images from trains of events, by the dictionary of a run."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..util.errors import InputError, prefix_errors
from ..util.formats import counted
from ..util.output import ensure_writable, print_line
from . import arguments

IMAGES = ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm"
ENDING = ".events.png"  # of written files


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "reconstruct",
        help="images from trains of events, by the dictionary of a trace",
        example="results/features.h5 photo.png --window-ms 32 -o results/events",
        description="Reconstruct images from the events that a model of a retina sends in a time window, or "
        "a model of an event camera that moves over an image, or frames of a recording (AEDAT 2, 3.1 or 4, "
        "Prophesee RAW or DAT, Event Stream, N-MNIST, text of t, x, y, p). The trace is of problem.kind "
        "'sparse-coding'. Beside it: counts, and the linear estimate of least mean square error. "
        "Exit codes: 0 done, 1 failure, 2 bad input.",
    )
    command.add_argument("trace", metavar="TRACE", help="HDF5 file of a run that has ended")
    what = (
        "image files, or recordings (default: five photographs of scikit-image, which no run is trained on)"
    )
    command.add_argument("files", metavar="FILE", nargs="*", help=what)
    what = "model that sends an image's events (default: retina)"
    command.add_argument("--sensor", choices=("retina", "camera"), default="retina", help=what)
    what = "time window [ms] (default: 32)"
    command.add_argument("--window-ms", type=int, default=32, metavar="MS", help=what)
    what = "camera: random events of each pixel [1/s] (default: 20)"
    command.add_argument("--noise-hz", type=float, default=20.0, metavar="HZ", help=what)
    what = "largest side (default: 96 of images, all of recordings)"
    command.add_argument("--size", type=int, metavar="PIXELS", help=what)
    what = "most frames of a recording (default: 10)"
    command.add_argument("--frames", type=int, default=10, metavar="N", help=what)
    what = "share of the pixels, drawn at random, that are sent or used; the rest is inferred (default: 1)"
    command.add_argument("--pixels", type=float, default=1.0, metavar="SHARE", help=what)
    what = "stream of events of an AEDAT 4 file that has several"
    command.add_argument("--stream", type=int, metavar="N", help=what)
    command.add_argument(
        "--seed", type=int, default=1, help="seed of the models' random numbers (default: 1)"
    )
    what = "film of the frames of a recording, in its time to 10 ms, each as NAME.events.png"
    command.add_argument("--film", metavar="FILE.gif", help=what)
    what = f"folder of NAME{ENDING}: image, counts, linear estimate and sparse coding side by side"
    command.add_argument("-o", "--output", metavar="FOLDER", help=what)
    arguments.add_plugin(command)
    command.set_defaults(function=reconstruct)


def numbered(names: list[str]) -> list[str]:
    """Return the names, each with a number behind it if an earlier one is the same."""
    found: list[str] = []
    for name in names:
        others = (f"{name}-{number}" for number in range(2, len(names) + 2))
        found.append(next(each for each in (name, *others) if each not in found))
    return found


def reconstruct(options: argparse.Namespace) -> int:
    """Reconstruct, print what came out, and write images."""
    import numpy as np

    from ..analysis import printing
    from ..api.traces import Trace
    from ..events import sensors
    from . import guard

    arguments.import_plugins(options)
    limits = {"window_ms": (1, 10_000, "from 1 to 10000"), "noise_hz": (0, 1000, "from 0 to 1000")}
    more = {
        "size": (16, 4096, "from 16 to 4096"),
        "frames": (1, 100_000, "from 1 to 100000"),
        "pixels": (0.01, 1, "from 0.01 to 1"),
        "seed": (0, 2**63, "0 or more"),
    }
    arguments.ensure_in_range(options, **limits, **more)
    guard.probe_in_subprocess(options.trace)
    trace = Trace(options.trace)
    with prefix_errors(options.trace):
        dictionary = trace.dictionary()
    names = numbered([Path(each).stem for each in options.files])
    recordings = [each for each in options.files if Path(each).suffix.lower() not in IMAGES]
    if recordings and len(recordings) < len(options.files):
        raise InputError(f"{recordings[0]}: recordings and images need a command each")
    if options.stream is not None and not recordings:
        raise InputError(f"--stream {options.stream}: images have no streams; recordings have")
    if options.film is not None:
        if len(recordings) != 1 or not options.film.lower().endswith(".gif"):
            raise InputError(f"--film {options.film}: expected a name that ends in .gif, and one recording")
        ensure_writable(Path(options.film), f"--film {options.film}")
        if Path(options.film).resolve() == Path(recordings[0]).resolve():
            raise InputError(f"--film {options.film}: the recording is read from there")
    folder = None if options.output is None else Path(options.output)
    if folder is not None:
        ensure_writable(folder / f"1{ENDING}", f"-o {options.output}")
        read = {Path(each).resolve() for each in options.files}
        if written := read & {(folder / f"{name}{ENDING}").resolve() for name in names}:
            raise InputError(f"-o {options.output}: {written.pop()} is an image that is read, too")
    table, scored = printing.make_table("image", *sensors.COLUMNS, left=("image",)), []
    film = []
    for name, each in reconstructions(options, dictionary, names, recordings):
        if each.scores:
            table.add_row(name, *(f"{decibels:.2f} dB {ssim:.3f}" for decibels, ssim in each.scores))
            scored.append(each.scores)
        else:
            print_line(f"{name}: {each.events:,} events")
        if folder is not None:
            each.write(folder / f"{name}{ENDING}")
        if options.film is not None:
            film.append(each.picture())
    if film:
        sensors.write_film(film, options.window_ms, Path(options.film))
        print_line(f"film: {options.film}, {counted(len(film), 'frame')}")
    if scored:
        means = np.mean(scored, axis=0).tolist()
        table.add_row("mean", *(f"{decibels:.2f} dB {ssim:.3f}" for decibels, ssim in means))
        legend = (
            "PSNR and SSIM. Counts are in units of the image; fitted: by the best affine function of them."
        )
        printing.show([("", [table, printing.note(legend)])])
    if folder is not None:
        print_line(f"images: {folder}")
    return 0


def reconstructions(
    options: argparse.Namespace, dictionary: Any, names: list[str], recordings: list[str]
) -> Iterator[tuple[str, Any]]:
    """Return names, and what is reconstructed of recordings, or of what a sensor's model sends of images."""
    import numpy as np

    from ..events import sensors
    from ..problems import photographs

    length_ms, size = options.window_ms, options.size
    if recordings:
        files = [*zip(names, recordings, strict=True)]
        return sensors.recorded(
            files, dictionary, length_ms, options.frames, size, options.stream, options.pixels, print_line
        )
    images = [(name, photographs.read_image(each)) for name, each in zip(names, options.files, strict=True)]
    random, share = np.random.default_rng(options.seed), options.pixels
    sensor = sensors.Retina(length_ms, random, share)
    if options.sensor == "camera":
        sensor = sensors.Camera(length_ms, random, options.noise_hz, share)
    return sensors.simulated(
        images or photographs.held_out(), dictionary, sensor, 96 if size is None else size
    )
