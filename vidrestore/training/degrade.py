"""Sequences of degradation steps, built from ranges: what a face went through before it reached us.

Tone steps (`TONE_STEPS`) are what a restorer must *not* undo: a face that came back in colour, or brighter than the
rest of its frame, would be a patch. `Degradation.pair` therefore gives the target the same tone as the input.

Sources of the presets' ranges: "official" is GPEN's released training script; the others were chosen by looking at
degraded faces beside real old film and real calls.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from vidrestore.errors import OptionsError
from vidrestore.training.degrade_steps import DOWN_KERNELS, STEPS, TONE_STEPS, UP_KERNELS, Image, Range, resize

LEVELS = ("mild", "medium", "heavy")
"""Thirds of every range of a sequence, from harmless to worst: see `Degradation.at_level`."""
WORSE_WHEN_LOW = frozenset({"quality", "photons"})
"""Parameters whose low end does the greater harm. Of all others (blur, factors, noise, grain and its size, CRF and
quantizers, movement, counts and sizes of wear) it is the high end."""
WITHOUT_LEVEL = frozenset({"mpeg2_share"})
"""Parameters that choose a kind of damage, not its amount."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a sequence: taken with `probability`, its parameters drawn from `ranges`."""

    name: str
    """Key of `STEPS`."""
    probability: float
    ranges: Mapping[str, Range]
    """Keyword arguments of the step."""

    def __post_init__(self) -> None:
        if self.name not in STEPS:
            raise OptionsError(f"degradation step {self.name!r} is unknown; there are {', '.join(STEPS)}")
        if not 0 <= self.probability <= 1:
            raise OptionsError(f"probability of {self.name} is {self.probability}; it must be between 0 and 1")
        known = default_ranges(self.name)
        for key, bounds in self.ranges.items():
            if key not in known:
                raise OptionsError(f"{self.name} has no range {key!r}; it has {', '.join(known) or 'none'}")
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise OptionsError(f"{key} of {self.name} is {bounds}; it must be [low, high]")

    def at_level(self, level: str) -> "Step":
        """The same step with every range, its defaults included, narrowed to one third. `level` is of `LEVELS`."""
        if self.name in TONE_STEPS:
            return self
        ranges = {**default_ranges(self.name), **self.ranges}
        return replace(self, ranges={key: _third(key, bounds, level) for key, bounds in ranges.items()})


def default_ranges(name: str) -> dict[str, Range]:
    """The ranges of a step of `STEPS` where a sequence gives none."""
    parameters = inspect.signature(STEPS[name]).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key not in ("image", "rng")}


def _third(key: str, bounds: Range, level: str) -> Range:
    if key in WITHOUT_LEVEL:
        return bounds
    low, high = bounds
    place = LEVELS.index(level)
    if key in WORSE_WHEN_LOW:
        place = len(LEVELS) - 1 - place
    edges = np.linspace(low, high, len(LEVELS) + 1).tolist()
    return edges[place], edges[place + 1]


@dataclass(frozen=True, slots=True)
class Degradation:
    """Steps in order. Tone steps come first, so that the target can share them."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        is_tone = [step.name in TONE_STEPS for step in self.steps]
        if is_tone != sorted(is_tone, reverse=True):
            raise OptionsError(f"degradation steps {', '.join(sorted(TONE_STEPS))} must come before all others")

    @classmethod
    def from_config(cls, rows: Sequence[Mapping[str, Any]], *, length_scale: float = 1.0) -> "Degradation":
        """Build from rows such as `{step = "gaussian_blur", probability = 0.5, sigma_px = [0.3, 3.0]}`.

        A row without `probability` is always taken; a range not given is the step's own default. `length_scale`
        multiplies the ranges given in pixels (names ending in `_px`). Raises OptionsError.
        """
        steps = []
        for row in rows:
            if "step" not in row:
                raise OptionsError(f"degradation row {dict(row)} names no step")
            ranges: dict[str, Range] = {}
            for key, bounds in row.items():
                if key in ("step", "probability"):
                    continue
                if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
                    raise OptionsError(f"{key} of {row['step']} is {bounds!r}; it must be [low, high]")
                scale = length_scale if key.endswith("_px") else 1.0
                ranges[key] = (float(bounds[0]) * scale, float(bounds[1]) * scale)
            steps.append(Step(str(row["step"]), float(row.get("probability", 1.0)), ranges))
        return cls(tuple(steps))

    @classmethod
    def preset(cls, name: str, *, length_scale: float = 1.0) -> "Degradation":
        """One of `PRESETS`; their lengths are for 512 px, so 256 px want `length_scale=0.5`. Raises OptionsError."""
        if name not in PRESETS:
            raise OptionsError(f"degradation preset {name!r} is unknown; there are {', '.join(PRESETS)}")
        return cls.from_config(PRESETS[name], length_scale=length_scale)

    def at_level(self, level: str) -> "Degradation":
        """The same steps, taken with the same probabilities, but no better and no worse than `level` of `LEVELS`.

        Every range is narrowed to one third of its width: the end that does less harm is "mild", the middle "medium",
        the other end "heavy". Training draws evenly from the whole range, so each level is a third of what it shows of
        that parameter. Tone is no damage and has no level. Raises OptionsError for an unknown level.
        """
        if level not in LEVELS:
            raise OptionsError(f"degradation level {level!r} is unknown; there are {', '.join(LEVELS)}")
        return Degradation(tuple(step.at_level(level) for step in self.steps))

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, 3) uint8 RGB -> the same shape, degraded."""
        return self.pair(image, rng)[0]

    def pair(self, image: Image, rng: np.random.Generator) -> tuple[Image, Image]:
        """(H, W, 3) uint8 RGB -> (degraded, target), both of that shape. The target shares the tone alone."""
        height_px, width_px = image.shape[:2]
        target = degraded = image
        for step in self.steps:
            if rng.random() >= step.probability:
                continue
            degraded = STEPS[step.name](degraded, rng, **step.ranges)
            if step.name in TONE_STEPS:
                target = degraded
        if degraded.shape != image.shape:
            kernels = UP_KERNELS if degraded.shape[0] < height_px else DOWN_KERNELS[:1]
            degraded = resize(degraded, (width_px, height_px), rng, kernels)
        return degraded, target


PRESETS: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType(
    {
        # GPEN's released training script: blur sigma 0.1-10, 0.8-8 times smaller, noise 0-20, JPEG 60-100, 20% grey.
        "official": (
            {"step": "grey", "probability": 0.2},
            {"step": "gaussian_blur", "probability": 0.5, "sigma_px": (0.1, 10.0)},
            {"step": "anisotropic_blur", "probability": 0.5, "sigma_px": (0.1, 10.0)},
            {"step": "downsample", "factor": (0.8, 8.0)},
            {"step": "gaussian_noise", "sigma": (0.0, 20.0)},
            {"step": "jpeg", "quality": (60, 100)},
        ),
        # Scanned film: little colour, soft lenses, grain, wear, then whatever codec the archive used.
        "archival": (
            {"step": "grey", "probability": 0.7},
            {"step": "sepia", "probability": 0.15},
            {"step": "fade", "probability": 0.5},
            {"step": "gaussian_blur", "probability": 0.6, "sigma_px": (0.6, 6.0)},
            {"step": "motion_blur", "probability": 0.15, "length_px": (2.0, 12.0)},
            {"step": "film_grain", "probability": 0.3, "strength": (3.0, 14.0), "size_px": (1.0, 4.0)},
            {"step": "downsample", "probability": 0.8, "factor": (1.0, 4.0)},
            {"step": "film_grain", "probability": 0.6, "strength": (3.0, 16.0), "size_px": (0.4, 1.6)},
            {"step": "scratches", "probability": 0.25},
            {"step": "dust", "probability": 0.3, "size_px": (0.7, 5.0)},
            {"step": "video_compression", "probability": 0.2, "crf": (20, 34)},
            {"step": "jpeg", "probability": 0.4, "quality": (40, 95)},
        ),
        # Low-quality calls: a small face, a dark sensor, hard compression.
        "call": (
            {"step": "fade", "probability": 0.2, "gamma": (0.8, 1.6), "contrast": (0.6, 1.0), "lift": (0.0, 0.05)},
            {"step": "motion_blur", "probability": 0.25, "length_px": (2.0, 20.0)},
            {"step": "gaussian_blur", "probability": 0.4, "sigma_px": (0.6, 4.0)},
            {"step": "downsample", "factor": (1.5, 6.0)},
            {"step": "poisson_noise", "probability": 0.4, "photons": (40.0, 600.0)},
            {"step": "gaussian_noise", "probability": 0.4, "sigma": (1.0, 10.0)},
            {"step": "video_compression", "probability": 0.35, "crf": (24, 38)},
            {"step": "jpeg", "probability": 0.45, "quality": (15, 80)},
        ),
        # A small face in a decent video, enlarged: soft, otherwise intact.
        "soft": (
            {"step": "grey", "probability": 0.15},
            {"step": "gaussian_blur", "probability": 0.3, "sigma_px": (0.3, 3.0)},
            {"step": "downsample", "factor": (1.0, 5.0)},
            {"step": "gaussian_noise", "probability": 0.4, "sigma": (0.5, 4.0)},
            {"step": "video_compression", "probability": 0.15, "crf": (18, 28)},
            {"step": "jpeg", "probability": 0.4, "quality": (70, 95)},
        ),
        # Barely degraded, so that a restorer learns to leave a good face alone.
        "clean": (
            {"step": "grey", "probability": 0.15},
            {"step": "fade", "probability": 0.15},
            {"step": "gaussian_noise", "probability": 0.3, "sigma": (0.0, 1.5)},
            {"step": "jpeg", "probability": 0.4, "quality": (92, 100)},
        ),
    }
)
"""Sequences by name, in the form of a config. Lengths in pixels are for a 512 px crop."""
