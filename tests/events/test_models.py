"""Models of a retina and a camera, and estimates of signals from their counts."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pdcode.events import Dictionary, Signal, camera, retina, sensors
from pdcode.events.reconstruction import Sensing

RANDOM = np.random.default_rng(0)
SMOOTH = gaussian_filter(RANDOM.random((40, 48)), 2, mode="reflect")
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)


def test_the_receptive_field_is_a_difference_of_gaussians() -> None:
    """Of scipy's, which cut at four standard deviations and sample the kernel."""
    for deviation in (retina.SURROUND, 1.5):
        expected = gaussian_filter(SMOOTH, deviation, mode="reflect", truncate=8)
        found = retina.filtered(SMOOTH, retina.gaussian(SMOOTH.shape, deviation))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    flat = retina.filtered(np.full((9, 9), 0.5), retina.receptive_field((9, 9)))
    np.testing.assert_allclose(flat, 0.5 * (1 - retina.KEEP))


def test_cells_answer_to_their_sign_of_contrast() -> None:
    image = np.full((40, 40), retina.GREY)
    image[8:12, 8:12], image[28:32, 28:32] = 0.95, 0.05
    on, off = retina.spikes(image, np.random.default_rng(1))
    light, dark = np.s_[8:12, 8:12], np.s_[28:32, 28:32]
    assert on[light].mean() > 3 * off[light].mean()
    assert off[dark].mean() > 3 * on[dark].mean()
    again = retina.spikes(image, np.random.default_rng(1))
    np.testing.assert_array_equal(again, [on, off])
    assert (retina.spikes(image, np.random.default_rng(2)) != again).any()
    most = 32 / (1 + retina.REFRACTORY_MS)
    assert max(on.max(), off.max()) <= np.ceil(most) + 1


def test_events_follow_the_change_of_log_intensity() -> None:
    events, change = camera.render(SMOOTH, np.random.default_rng(0))
    counts = camera.THRESHOLD * events.counts(0, 32_000, change.shape)
    assert change.shape == (24, 32)
    assert np.abs(counts - change).max() < 3 * camera.THRESHOLD
    assert np.corrcoef(counts.ravel(), change.ravel())[0, 1] > 0.9
    assert (np.diff(events.times_us) >= 0).all()
    still, none = camera.render(np.full((116, 116), 0.5), np.random.default_rng(0), 100, noise_hz=20)
    assert not none.any()
    assert len(still.x) == pytest.approx(100 * 100 * 0.1 * 20, rel=0.05)


def test_the_linear_estimate_is_the_conditional_mean() -> None:
    """Of a Gaussian signal of known spectrum, from its covariance matrices."""
    shape, variance = (6, 5), 0.3
    signal = Signal(np.linspace(1.0, -3.0, 13), variance)
    field, power = retina.receptive_field(shape), signal.power(shape)
    basis = np.array([retina.filtered(each.reshape(shape), np.ones(shape)).ravel() for each in np.eye(30)])
    np.testing.assert_allclose(basis, np.eye(30), atol=1e-12)
    blur, covariance = (
        np.array([retina.filtered(each.reshape(shape), factors).ravel() for each in np.eye(30)])
        for factors in (field, power)
    )
    counts = RANDOM.standard_normal(shape)
    few = sensors.drawn(shape, 0.4, np.random.default_rng(0))
    assert few.sum() == 12
    for mask, tolerance in ((None, 1e-10), (few, 2e-3)):
        seen = np.eye(30) if mask is None else np.diag(mask.ravel())
        whole = seen @ blur @ covariance @ blur.T @ seen + variance * np.eye(30)
        expected = covariance @ blur.T @ seen @ np.linalg.solve(whole, seen @ counts.ravel())
        found = signal.linear(counts, Sensing(field, mask))
        np.testing.assert_allclose(found.ravel(), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_codes_of_counts_are_optimal(share: float) -> None:
    """No feature's correlation with the rest is above the threshold: the lasso's condition, through M D."""
    features = np.random.default_rng(3).standard_normal((20, 16))
    features -= features.mean(axis=1, keepdims=True)
    dictionary = Dictionary.of(features / np.linalg.norm(features, axis=1, keepdims=True))
    dictionary = Dictionary(dictionary.features, iterations=4000)
    image = dictionary.cropped(RANDOM.standard_normal((17, 15)))
    assert image.shape == (16, 14)
    field, threshold = retina.receptive_field(image.shape), 0.2
    mask = sensors.drawn(image.shape, share, np.random.default_rng(0))
    inference = dictionary.inference(mask * image, Sensing(field, mask), threshold)
    assert inference.run() == 4000
    found = inference.image()
    rest = retina.filtered(mask * (image - retina.filtered(found, field)), field)
    windows = np.lib.stride_tricks.sliding_window_view(rest, (4, 4))[::2, ::2].reshape(-1, 16)
    drive = np.abs(windows @ dictionary.features.T)
    assert drive[:, -1].max() < 1e-2  # the constant feature has no threshold
    assert threshold * 0.99 < drive[:, :-1].max() < threshold * 1.05


def test_the_spectrum_is_that_of_the_signals() -> None:
    white = [np.random.default_rng(seed).standard_normal((48, 48)) for seed in range(4)]
    np.testing.assert_allclose(Signal.of(white, 1.0).power((32, 40))[8:, 8:], 1, rtol=0.2)
    blurred = [retina.filtered(each, retina.gaussian(each.shape, 1.5)) for each in white]
    power = Signal.of(blurred, 1.0).power((48, 48))
    assert power[1, 1] > 100 * power[30, 30]
