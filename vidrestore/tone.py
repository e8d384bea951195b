"""An HDR picture as a screen of ordinary range shows it, and back: what detectors and restorers have learned to see.

The signal of PQ (SMPTE ST 2084) is made for 10,000 cd/m2, so that a face lies in its darker half, grey and flat. HLG
(ARIB STD-B67) is made to look right on ordinary screens and needs nothing.
"""

import functools
import math

import numpy as np
from numpy.typing import NDArray

WHITE_CD_M2 = 203.0
"""What a white page has in HDR programmes (ITU-R BT.2408): as bright as white on an ordinary screen."""
PEAK_CD_M2 = 10_000.0
"""The signal's largest value."""
KNEE = 0.6
"""Share of that white up to which light is shown in proportion: skin, and most of a face, is below. Above, light up to
the peak is squeezed into the rest, ever more the brighter it is (by the logarithm)."""
SCREEN_GAMMA = 2.4
"""Of an ordinary screen (ITU-R BT.1886)."""
NUM_STEPS = 1 << 14
"""Of the table in which the curve is looked up: four for each level of 12 bits."""


def view_of_signal(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """PQ of 0..255 (any shape, per channel) -> what to look at, 0..255. Values beyond are clipped."""
    steps, view, _ = _curve()
    return np.interp(signal, steps, view).astype(np.float32)


def signal_delta(signal: NDArray[np.float32], view_delta: NDArray[np.float32]) -> NDArray[np.float32]:
    """The change of a PQ signal that a change of its view stands for; exactly 0 where the view does not change.

    Above the knee the view is squeezed, so that a few levels more would be five times the light: a restorer's slightly
    bright edge would glare. Light changes by the share there by which it would on an ordinary screen.
    """
    steps, view, unsqueezed = _curve()
    seen, plain = np.interp(signal, steps, view), np.interp(signal, steps, unsqueezed)
    stretch = np.divide(plain, seen, out=np.ones_like(seen), where=seen > 0)
    wanted = np.maximum(seen + view_delta, 0) * stretch
    change = np.interp(wanted, unsqueezed, steps) - np.interp(plain, unsqueezed, steps)
    return np.where(view_delta == 0, 0, change).astype(np.float32)


@functools.cache
def _curve() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(signal, view, unsqueezed view), all rising from 0: the first two to 255, the last as far as light goes."""
    signal = np.linspace(0, 1, NUM_STEPS)
    light = _light_cd_m2(signal) / WHITE_CD_M2
    peak = PEAK_CD_M2 / WHITE_CD_M2
    bend = _bend(peak)
    # In proportion up to the knee, and from there on with no kink.
    above = KNEE + (1 - KNEE) * np.log1p(bend * np.maximum(light - KNEE, 0) / (peak - KNEE)) / math.log1p(bend)
    shown = np.where(light <= KNEE, light, above)
    return 255 * signal, 255 * shown ** (1 / SCREEN_GAMMA), 255 * light ** (1 / SCREEN_GAMMA)


def _bend(peak: float) -> float:
    """How much the logarithm is bent so that its slope at the knee is 1, found by halving."""
    low, high = 1e-3, 1e9
    for _ in range(200):
        bend = math.sqrt(low * high)
        slope = (1 - KNEE) * bend / (math.log1p(bend) * (peak - KNEE))
        low, high = (bend, high) if slope < 1 else (low, bend)
    return bend


def _light_cd_m2(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The electro-optical transfer function of SMPTE ST 2084, for a signal of 0..1."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = signal ** (1 / m2)
    return PEAK_CD_M2 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
