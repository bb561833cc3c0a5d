"""`pdcode reconstruct` on photographs and recordings, by a dictionary that a short run has learnt."""

from pathlib import Path

import numpy as np
import pytest
from outcomes import refused
from PIL import Image

import pdcode
from pdcode.__main__ import main
from pdcode.events import Dictionary, camera, sensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The trace of 40 updates of 48 features."""
    problem = {"kind": "sparse-coding", "data": "photographs", "samples": 2000, "atoms": 48, "evaluate": 50}
    path = tmp_path_factory.mktemp("trace") / "d.h5"
    optimizer = {"rate": 1.0, "proximal": {"kind": "unit-norm"}}
    config = {"problem": problem, "optimizer": optimizer, "stop": {"updates": 40}, "workers": {"count": 4}}
    pdcode.simulate(config | {"scheme": {"name": "uncoded"}}, output=path, progress=False)
    return str(path)


def table(text: str) -> dict[str, list[float]]:
    """PSNR of counts, of fitted counts, of the linear estimate and of sparse coding, by image."""
    lines = [line.split() for line in text.splitlines() if " dB " in line]
    return {words[0]: [float(each) for each in words[1::3]] for words in lines}


def test_sparse_coding_beats_the_counts_of_a_retina(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", trace, "--size", "48", "-o", str(tmp_path / "images")]) == 0
    found = table(capsys.readouterr().out)
    assert [*found] == ["astronaut", "camera", "coins", "rocket", "moon", "mean"]
    _, fitted, linear, sparse = found["mean"]
    assert sparse > fitted + 1.5
    assert sparse > linear
    with Image.open(tmp_path / "images" / "coins.events.png") as image:
        panels = np.asarray(image) / 255
    assert panels.shape == (52, 4 * 52)
    known, estimate = panels[2:50, 2:50], panels[2:50, 3 * 52 + 2 : 4 * 52 - 2]
    psnr = -10 * np.log10(np.square(known - estimate).mean())
    assert psnr == pytest.approx(found["coins"][3], abs=0.1)


def test_noisy_events_of_a_camera_and_recordings(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).random((12, 12)).repeat(8, axis=0).repeat(8, axis=1)
    Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / "squares.png")
    words = ["reconstruct", trace, str(tmp_path / "squares.png"), "--sensor", "camera", "--size", "48"]
    assert main([*words, "--noise-hz", "100"]) == 0
    counts, _, _, sparse = table(capsys.readouterr().out)["squares"]
    assert sparse > counts + 2
    events, _ = camera.render(image, np.random.default_rng(0), 64)
    rows = "\n".join(f"{t},{x},{y},{int(on)}" for t, x, y, on in zip(*events, strict=True))
    (tmp_path / "r.csv").write_text(f"t,x,y,p\n{rows}\n")
    assert (
        main(["reconstruct", trace, str(tmp_path / "r.csv"), "--size", "32", "-o", str(tmp_path / "frames")])
        == 0
    )
    frames = events.times_us - events.times_us.min() < 32_000
    inside = (events.x < 32) & (events.y < 32)
    printed = capsys.readouterr().out
    assert f"r-0000: {np.count_nonzero(inside & frames):,} events\n" in printed
    assert f"r-0001: {np.count_nonzero(inside & ~frames):,} events\n" in printed
    assert "r: the top left 32 × 32 of 80 × 80 pixels\n" in printed
    assert "frames of" not in printed
    written = sorted(each.name for each in (tmp_path / "frames").iterdir())
    assert written == ["r-0000.events.png", "r-0001.events.png"]


def test_frames_of_a_recording_are_whole(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 21 × 17 pixels, which features two apart do not fill, and two of three windows."""
    random = np.random.default_rng(0)
    times = np.sort(random.integers(70_000, size=500))
    lines = zip(times, random.integers(21, size=500), random.integers(17, size=500), strict=True)
    rows = "\n".join(f"{t},{x},{y},1" for t, x, y in [*lines, (0, 20, 16)])
    (tmp_path / "r.csv").write_text(rows)
    words = ["reconstruct", trace, str(tmp_path / "r.csv"), "--frames", "2", "-o", str(tmp_path)]
    assert main(words) == 0
    first = 1 + np.count_nonzero(times < 32_000)
    printed = capsys.readouterr().out
    assert printed.startswith(f"r: the first 2 of 3 frames of 32 ms\nr-0000: {first} events\n")
    with Image.open(tmp_path / "r-0000.events.png") as image:
        assert image.size == (3 * 25, 21)


def test_a_film_shows_the_frames_in_their_order(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    times, x, y = np.sort(random.integers(96_000, size=600)), *random.integers(24, size=(2, 600))
    (tmp_path / "r.csv").write_text("\n".join(f"{t},{i},{j},1" for t, i, j in zip(times, x, y, strict=True)))
    words, film = ["reconstruct", trace, str(tmp_path / "r.csv"), "-o", str(tmp_path)], tmp_path / "r.gif"
    assert main([*words, "--film", str(film)]) == 0
    assert f"film: {film}, 3 frames\n" in capsys.readouterr().out
    with Image.open(film) as shown:
        assert shown.n_frames == 3
        for frame in range(3):
            shown.seek(frame)
            assert shown.info["duration"] == 30
            with Image.open(tmp_path / f"r-{frame:04}.events.png") as image:
                np.testing.assert_allclose(np.asarray(shown.convert("L")), np.asarray(image), atol=1)


def test_pixels_that_are_not_sent_are_inferred(
    trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Better than counts that are 0 there; fewer pixels are worse, of a recording fewer events."""
    found = {}
    for share in ("1", "0.5", "0.2"):
        assert main(["reconstruct", trace, "--size", "48", "--pixels", share]) == 0
        found[share] = table(capsys.readouterr().out)["mean"]
    assert found["1"][2] > found["0.5"][2] > found["0.2"][2]
    assert found["1"][3] > found["0.5"][3] > found["0.2"][3]
    assert min(found["0.5"][2:]) > found["0.5"][1] + 1.5
    rows = "\n".join(f"{t},{t % 20},{t // 20},1" for t in range(400))
    (tmp_path / "r.csv").write_text(rows)
    assert main(["reconstruct", trace, str(tmp_path / "r.csv"), "--pixels", "0.25"]) == 0
    assert capsys.readouterr().out == "r-0000: 100 events\n"


def test_no_image_is_replaced(trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.random.default_rng(0).random((40, 40))
    for name in ("a.png", "a.bmp", "a.events.png"):
        Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / name)
    before = (tmp_path / "a.png").read_bytes()
    words, more = ["reconstruct", trace, str(tmp_path / "a.png")], ["--size", "32", "-o", str(tmp_path)]
    assert main([*words, str(tmp_path / "a.events.png"), *more]) == 2
    assert "a.events.png is an image that is read, too" in capsys.readouterr().err
    (tmp_path / "a.events.png").unlink()
    assert main([*words, str(tmp_path / "a.bmp"), *more]) == 0
    assert [*table(capsys.readouterr().out)] == ["a", "a-2", "mean"]
    assert {each.name for each in tmp_path.glob("*.events.png")} == {"a.events.png", "a-2.events.png"}
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_size_below_that_of_features_is_refused(tmp_path: Path) -> None:
    dictionary = Dictionary.of(np.ones((2, 20 * 20)))
    (tmp_path / "x.csv").write_text("t,x,y,p\n1,40,40,1\n")
    retina = sensors.Retina(32, np.random.default_rng(0))
    for made in (
        sensors.simulated([("zero", np.zeros((40, 40)))], dictionary, retina, 16),
        sensors.recorded([("x", str(tmp_path / "x.csv"))], dictionary, 32, 10, 16),
    ):
        with refused("--size 16: features of 20 × 20 pixels, and images of 16 × 16"):
            next(made)


def test_bad_input_is_refused(trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("t,x,y,p\n1,2,3,1\n")
    (tmp_path / "x.png").write_text("no image")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "small.png")
    for words, text in (
        ([str(tmp_path / "x.csv"), str(tmp_path / "x.png")], "recordings and images need a command each"),
        ([str(tmp_path / "x.png")], "x.png: no image"),
        ([str(tmp_path / "x.csv")], "4 pixels are too few"),
        ([str(tmp_path / "small.png")], "8 × 8 pixels are too few"),
        ([str(tmp_path / "none.aedat4")], "no such file"),
        (["--window-ms", "0"], "--window-ms 0: expected"),
        (["--pixels", "0"], "--pixels 0: expected from 0.01 to 1"),
        (["--film", "f.gif"], "--film f.gif: expected a name that ends in .gif, and one recording"),
        ([str(tmp_path / "x.csv"), "--film", "f.mp4"], "--film f.mp4: expected a name that ends in .gif"),
    ):
        assert main(["reconstruct", trace, *words]) == 2
        assert text in capsys.readouterr().err
    assert main(["reconstruct", str(tmp_path / "none.h5")]) == 2
    assert capsys.readouterr().err == f"pdcode: {tmp_path}/none.h5: no such file\n"
    other = tmp_path / "o.h5"
    pdcode.simulate({"stop": {"updates": 1}}, output=other, progress=False)
    assert main(["reconstruct", str(other)]) == 2
    assert "problem.kind: 'mlp' has no dictionary" in capsys.readouterr().err
