"""What `vidrestore bench` found: plain data, for people and as JSON."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Timing:
    """One way to run one model."""

    engine: str
    provider: str
    """What the engine computes with: onnxruntime's provider, or the device."""
    dtype: str
    batch_size: int
    ms_a_face: float
    """The fastest of a few rounds, pixels to pixels, over the faces of the batch."""
    gflops: float | None
    """GFLOP/s by the network's own count of operations; None where that is not known (ONNX files)."""
    share_of_ceiling: float | None
    """Of the convolution's GFLOP/s in this dtype; above 1 where an engine multiplies less than the network's count."""
    largest_error_levels: int | None
    """Of 255, against PyTorch in float32, on a portrait; None without such a reference (ONNX files)."""
    mean_error_levels: float | None
    memory_mb: int | None
    """Peak on the GPU; None on a CPU, and for engines that do not say it."""


@dataclass(frozen=True, slots=True)
class ClipTiming:
    """A run of the whole pipeline with the fastest way."""

    source: str
    num_frames: int
    num_faces: int
    frames_per_second: float
    seconds_a_frame: dict[str, float]
    """By stage; lanes overlap, so they may sum to more than a frame takes."""
    limiting_stage: str
    """The longest stage of the lane that the others wait for."""


@dataclass(frozen=True, slots=True)
class ModelResult:
    model: str
    crop_px: int
    gflop: float | None
    """Of one face."""
    timings: tuple[Timing, ...]
    skipped: tuple[str, ...]
    """What was not measured, and why."""
    fastest: Timing | None
    fastest_float32: Timing | None
    clip: ClipTiming | None

    @property
    def flags(self) -> str:
        """What to give to `vidrestore restore`."""
        if self.fastest is None:
            return ""
        best = self.fastest
        return f"--model {self.model} --engine {best.engine} --dtype {best.dtype} --batch-size {best.batch_size}"


@dataclass(frozen=True, slots=True)
class BenchResult:
    device: str
    device_name: str
    num_threads: int
    versions: dict[str, str]
    ceiling_gflops: dict[str, float]
    """A large convolution in PyTorch, by dtype."""
    models: tuple[ModelResult, ...]
    seconds_total: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        result = asdict(self)
        for row, model in zip(result["models"], self.models, strict=True):
            row["flags"] = model.flags
        return result
