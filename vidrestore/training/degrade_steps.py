"""What time, cameras and codecs do to a face: seeded steps.

Every step is a function `step(image, rng, *, some_range=(low, high)) -> image` on (H, W, 3) uint8 RGB. It draws what it
needs from its ranges and from `rng` (a numpy Generator), so the same seed gives the same picture. A step returns a new
array of the same shape; only `downsample` changes the size.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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
    return resize(image, size, rng, DOWN_KERNELS if chosen >= 1 else UP_KERNELS)


def down_up(image: Image, rng: np.random.Generator, *, factor: Range = (1.0, 5.0)) -> Image:
    """`downsample`, and back to the size it had: softness without leaving the resolution."""
    height_px, width_px = image.shape[:2]
    return resize(downsample(image, rng, factor=factor), (width_px, height_px), rng, UP_KERNELS)


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


# ---------------------------------------------------------------------------------------------------- by name

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


def resize(image: Image, size: tuple[int, ...], rng: np.random.Generator, kernels: Sequence[int]) -> Image:
    """To (width, height) px with one of the kernels."""
    kernel = kernels[int(rng.integers(len(kernels)))]
    result: Image = cv2.resize(image, (size[0], size[1]), interpolation=kernel)
    return result


def _blend(image: Image, mask: NDArray[Any], tone: float) -> Image:
    """Lay one grey level (0..255) over the picture, opaque where the mask is 1."""
    opacity = np.clip(mask, 0, 1)[:, :, None]
    return _to_uint8(image * (1 - opacity) + np.float32(tone) * opacity)
