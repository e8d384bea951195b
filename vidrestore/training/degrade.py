"""What time, cameras and codecs do to a face: seeded steps, and sequences of them built from ranges.

Every step is a function `step(image, rng, *, some_range=(low, high)) -> image` on (H, W, 3) uint8 RGB. It draws what it
needs from its ranges and from `rng` (a numpy Generator), so the same seed gives the same picture. A step returns a new
array of the same shape; only `downsample` changes the size, and `Degradation` brings the picture back at the end.

Tone steps (`TONE_STEPS`) are what a restorer must *not* undo: a face that came back in colour, or brighter than the
rest of its frame, would be a patch. `Degradation.pair` therefore gives the target the same tone as the input.

Sources of the presets' ranges: "official" is GPEN's released training script; the others were chosen by looking at
degraded faces beside real old film and real calls.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import OptionsError

logger = logging.getLogger("vidrestore")

Image = NDArray[np.uint8]
Range = tuple[float, float]
StepFunction = Callable[..., Image]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""BT.601 weights of R, G, B."""
MIN_SIDE_PX = 16
"""No step makes a picture smaller: less than this holds no face, and codecs refuse it."""
HAS_PYAV = find_spec("av") is not None


# ---------------------------------------------------------------------------------------------------- tone


def grey(image: Image, rng: np.random.Generator) -> Image:
    """Black and white: three equal channels."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)


def sepia(image: Image, rng: np.random.Generator, *, strength: Range = (0.3, 1.0)) -> Image:
    """Black and white on yellowed paper; strength 1 is a strong brown."""
    amount = rng.uniform(*strength)
    tint = 1 + amount * np.array([0.10, -0.02, -0.22], np.float32)
    return _to_uint8(grey(image, rng) * tint)


def fade(
    image: Image,
    rng: np.random.Generator,
    *,
    gamma: Range = (0.75, 1.35),
    contrast: Range = (0.55, 1.05),
    lift: Range = (0.0, 0.15),
) -> Image:
    """Aged contrast: a gamma curve, then fewer levels above a lifted black (`lift`: fraction of white)."""
    levels = np.linspace(0, 1, 256, dtype=np.float32) ** rng.uniform(*gamma)
    levels = rng.uniform(*lift) + levels * rng.uniform(*contrast)
    result: Image = cv2.LUT(image, _to_uint8(levels * 255))
    return result


# ---------------------------------------------------------------------------------------------------- blur


def gaussian_blur(image: Image, rng: np.random.Generator, *, sigma_px: Range = (0.3, 3.0)) -> Image:
    sigma = max(rng.uniform(*sigma_px), 1e-3)
    result: Image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return result


def anisotropic_blur(image: Image, rng: np.random.Generator, *, sigma_px: Range = (0.3, 3.0)) -> Image:
    """Gaussian blur with two different widths at a random angle: an astigmatic or tilted lens."""
    sigmas = np.maximum(rng.uniform(*sigma_px, size=2), 0.1)
    angle = rng.uniform(0, np.pi)
    radius_px = int(np.ceil(3 * sigmas.max()))
    y, x = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2))
    return _filter(image, kernel)


def motion_blur(image: Image, rng: np.random.Generator, *, length_px: Range = (2.0, 12.0)) -> Image:
    """A straight movement of `length_px` while the shutter was open."""
    half, angle = max(rng.uniform(*length_px), 1.0) / 2, rng.uniform(0, np.pi)
    radius_px = int(np.ceil(half)) + 1
    kernel = np.zeros((2 * radius_px + 1, 2 * radius_px + 1), np.float32)
    for distance_px in np.linspace(-half, half, 4 * radius_px + 1):
        # Spread each point of the path over its four pixels, so that short paths at odd angles are not jagged.
        x, y = radius_px + distance_px * np.cos(angle), radius_px + distance_px * np.sin(angle)
        x0, y0 = int(x), int(y)
        for column, row in ((x0, y0), (x0 + 1, y0), (x0, y0 + 1), (x0 + 1, y0 + 1)):
            kernel[row, column] += (1 - abs(x - column)) * (1 - abs(y - row))
    return _filter(image, kernel)


# ---------------------------------------------------------------------------------------------------- size

DOWN_KERNELS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
"""Area averages; the other two skip pixels and alias, as cheap scalers do."""
UP_KERNELS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


def downsample(image: Image, rng: np.random.Generator, *, factor: Range = (1.0, 5.0)) -> Image:
    """Shrink by a random factor (below 1: enlarge) with a random kernel. The only step that changes the size."""
    height_px, width_px = image.shape[:2]
    chosen = rng.uniform(*factor)
    size = tuple(max(MIN_SIDE_PX, round(side_px / chosen)) for side_px in (width_px, height_px))
    return _resize(image, size, rng, DOWN_KERNELS if chosen >= 1 else UP_KERNELS)


def down_up(image: Image, rng: np.random.Generator, *, factor: Range = (1.0, 5.0)) -> Image:
    """`downsample`, and back to the size it had: softness without leaving the resolution."""
    height_px, width_px = image.shape[:2]
    return _resize(downsample(image, rng, factor=factor), (width_px, height_px), rng, UP_KERNELS)


# ---------------------------------------------------------------------------------------------------- noise


def gaussian_noise(image: Image, rng: np.random.Generator, *, sigma: Range = (0.0, 20.0)) -> Image:
    """Read-out noise, in 8-bit levels. A grey picture gets grey noise."""
    return _to_uint8(image + _noise(image, rng) * np.float32(rng.uniform(*sigma)))


def poisson_noise(image: Image, rng: np.random.Generator, *, photons: Range = (20.0, 400.0)) -> Image:
    """Shot noise of a sensor that counts `photons` at white: grows with the root of the light."""
    deviation = np.sqrt(image.astype(np.float32) * np.float32(255 / rng.uniform(*photons)))
    return _to_uint8(image + _noise(image, rng) * deviation)


def film_grain(
    image: Image, rng: np.random.Generator, *, strength: Range = (4.0, 18.0), size_px: Range = (0.4, 1.4)
) -> Image:
    """Silver grain: soft, the same in all channels, strongest in the mid-tones. `strength` in 8-bit levels."""
    grain = rng.standard_normal(image.shape[:2], np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), max(rng.uniform(*size_px), 0.1))
    grain *= np.float32(rng.uniform(*strength)) / max(float(grain.std()), 1e-6)
    luma = image.astype(np.float32) @ LUMA / 255
    weight = 0.35 + 2.6 * luma * (1 - luma)  # 0.35 in black and white, 1 in the middle
    return _to_uint8(image + (grain * weight)[:, :, None])


# ---------------------------------------------------------------------------------------------------- codecs


def jpeg(image: Image, rng: np.random.Generator, *, quality: Range = (20.0, 95.0)) -> Image:
    """One JPEG generation, 4:2:0."""
    options = [cv2.IMWRITE_JPEG_QUALITY, round(rng.uniform(*quality))]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a picture of {image.shape}")
    result: Image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return result


def video_compression(
    image: Image,
    rng: np.random.Generator,
    *,
    crf: Range = (24.0, 40.0),
    mpeg2_quantizer: Range = (4.0, 24.0),
    mpeg2_share: Range = (0.2, 0.2),
    motion_px: Range = (0.0, 3.0),
) -> Image:
    """The last frame of a one- to three-frame clip through H.264 (at `crf`) or MPEG-2 (at a fixed quantizer).

    The clip drifts by `motion_px` a frame and ends at the picture as it is, so blocks, ringing and the smear of motion
    compensation are the codec's own. Without PyAV (`HAS_PYAV`) the picture is returned as it came, as a copy.
    """
    codec = "mpeg2video" if rng.random() < rng.uniform(*mpeg2_share) else "libx264"
    quality = round(rng.uniform(*(mpeg2_quantizer if codec == "mpeg2video" else crf)))
    num_frames = int(rng.integers(1, 4))
    angle, speed_px = rng.uniform(0, 2 * np.pi), rng.uniform(*motion_px)
    step = np.array([np.cos(angle), np.sin(angle)]) * speed_px
    if not HAS_PYAV:
        return image.copy()
    height_px, width_px = image.shape[:2]
    frames = []
    for frames_to_go in range(num_frames - 1, 0, -1):
        shift = np.array([[1, 0, step[0] * frames_to_go], [0, 1, step[1] * frames_to_go]])
        frames.append(cv2.warpAffine(image, shift, (width_px, height_px), borderMode=cv2.BORDER_REFLECT_101))
    return _through_codec([*frames, image], codec, quality)


def _through_codec(frames: Sequence[NDArray[Any]], codec: str, quality: int) -> Image:
    """Encode equal-sized frames in memory, decode them, return the last one at its size."""
    import av  # the loop also runs on machines without PyAV
    from av.video.codeccontext import VideoCodecContext

    height_px, width_px = frames[0].shape[:2]
    pad_bottom_px, pad_right_px = height_px % 2, width_px % 2  # 4:2:0 wants even sides
    if codec == "libx264":
        options = {"crf": str(quality), "preset": "veryfast", "tune": "zerolatency", "x264-params": "log-level=none"}
        decoder_name = "h264"
    else:
        options = {"qmin": str(quality), "qmax": str(quality)}
        decoder_name = codec
    encoder = av.CodecContext.create(codec, "w")
    decoder = av.CodecContext.create(decoder_name, "r")
    assert isinstance(encoder, VideoCodecContext)
    assert isinstance(decoder, VideoCodecContext)
    encoder.width, encoder.height = width_px + pad_right_px, height_px + pad_bottom_px
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    encoder.thread_count = decoder.thread_count = 1
    encoder.options = options
    packets = []
    for number, frame in enumerate(frames):
        padded = cv2.copyMakeBorder(frame, 0, pad_bottom_px, 0, pad_right_px, cv2.BORDER_REPLICATE)
        picture = av.VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")
        picture.pts, picture.time_base = number, Fraction(1, 25)
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoded = [picture for packet in [*packets, None] for picture in decoder.decode(packet)]
    if len(decoded) != len(frames):
        raise RuntimeError(f"{codec} gave back {len(decoded)} of {len(frames)} frames")
    last = np.asarray(decoded[-1].to_ndarray(format="rgb24"), np.uint8)
    return np.ascontiguousarray(last[:height_px, :width_px])


# ---------------------------------------------------------------------------------------------------- wear


def scratches(
    image: Image, rng: np.random.Generator, *, count: Range = (1.0, 4.0), strength: Range = (0.2, 0.9)
) -> Image:
    """Nearly vertical lines, light or dark, as film dragged past a grain of sand has them."""
    height_px, width_px = image.shape[:2]
    mask = np.zeros((height_px, width_px), np.float32)
    for _ in range(round(rng.uniform(*count))):
        x = rng.uniform(0, width_px)
        lean_px = rng.normal(0, 0.02) * height_px
        top, bottom = sorted(rng.uniform(-0.5, 1.5, size=2) * height_px)
        line = np.zeros_like(mask)
        ends = (round(x), round(top)), (round(x + lean_px), round(bottom))
        cv2.line(line, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
        line = cv2.GaussianBlur(line, (0, 0), rng.uniform(0.4, 0.9))
        mask = np.maximum(mask, line * np.float32(rng.uniform(*strength)))
    tone = 235.0 if rng.random() < 0.6 else 25.0
    return _blend(image, mask, tone)


def dust(image: Image, rng: np.random.Generator, *, count: Range = (1.0, 12.0), size_px: Range = (0.7, 3.5)) -> Image:
    """Specks and hairs on the film, light (on the negative) or dark (on the print)."""
    height_px, width_px = image.shape[:2]
    tone = 240.0 if rng.random() < 0.6 else 20.0
    mask = np.zeros((height_px, width_px), np.float32)
    for _ in range(round(rng.uniform(*count))):
        center = (round(rng.uniform(0, width_px)), round(rng.uniform(0, height_px)))
        radius_px, slimness = rng.uniform(*size_px), rng.uniform(0.3, 1.0)
        axes = (max(1, round(radius_px)), max(1, round(radius_px * slimness)))
        cv2.ellipse(mask, center, axes, rng.uniform(0, 180), 0, 360, float(rng.uniform(0.4, 1.0)), -1, cv2.LINE_AA)
    return _blend(image, cv2.GaussianBlur(mask, (0, 0), 0.6), tone)


# ---------------------------------------------------------------------------------------------------- sequences

STEPS: Mapping[str, StepFunction] = MappingProxyType(
    {
        step.__name__: step
        for step in (
            *(grey, sepia, fade),
            *(gaussian_blur, anisotropic_blur, motion_blur),
            *(downsample, down_up),
            *(gaussian_noise, poisson_noise, film_grain),
            *(jpeg, video_compression),
            *(scratches, dust),
        )
    }
)
TONE_STEPS = frozenset({"grey", "sepia", "fade"})
"""Shared by input and target."""


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
        known = [name for name in inspect.signature(STEPS[self.name]).parameters if name not in ("image", "rng")]
        for key, bounds in self.ranges.items():
            if key not in known:
                raise OptionsError(f"{self.name} has no range {key!r}; it has {', '.join(known) or 'none'}")
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise OptionsError(f"{key} of {self.name} is {bounds}; it must be [low, high]")


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
            degraded = _resize(degraded, (width_px, height_px), rng, kernels)
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


# ---------------------------------------------------------------------------------------------------- arithmetic


def is_grey(image: Image) -> bool:
    """Whether the three channels are equal everywhere."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())


def _to_uint8(values: NDArray[Any]) -> Image:
    levels: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _noise(image: Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit normal noise, (H, W, 3), or (H, W, 1) for a grey picture, which stays grey."""
    height_px, width_px = image.shape[:2]
    return rng.standard_normal((height_px, width_px, 1 if is_grey(image) else 3), np.float32)


def _filter(image: Image, kernel: NDArray[Any]) -> Image:
    kernel = kernel / kernel.sum()
    result: Image = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return result


def _resize(image: Image, size: tuple[int, ...], rng: np.random.Generator, kernels: Sequence[int]) -> Image:
    """To (width, height) px with one of the kernels."""
    kernel = kernels[int(rng.integers(len(kernels)))]
    result: Image = cv2.resize(image, (size[0], size[1]), interpolation=kernel)
    return result


def _blend(image: Image, mask: NDArray[Any], tone: float) -> Image:
    """Lay one grey level (0..255) over the picture, opaque where the mask is 1."""
    opacity = np.clip(mask, 0, 1)[:, :, None]
    return _to_uint8(image * (1 - opacity) + np.float32(tone) * opacity)
