"""`vidrestore bench`: what is fastest on this machine, and what to expect of it."""

import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from vidrestore.bench.ceiling import ceiling_gflops, hardware_dtypes
from vidrestore.bench.clip import time_clip
from vidrestore.bench.result import BenchResult, ClipTiming, ModelResult
from vidrestore.bench.variants import Variant, measured, or_skipped, release, timings, warm_up
from vidrestore.bench.work import gpen_flop
from vidrestore.errors import SourceError
from vidrestore.loading import Models
from vidrestore.models.backends.onnx_runtime import SUFFIX, load_onnx
from vidrestore.models.backends.pytorch import gpen_of, load_detector, resolve_device
from vidrestore.models.catalog import CATALOG, EMBEDDED_DETECTOR
from vidrestore.models.spec import FaceDetector
from vidrestore.models.weights import find, installed_path

BUDGET_S, QUICK_BUDGET_S = 120.0, 6.0
"""For the variants of one model. A 2048 px face takes 5 s on two cores."""
CLIP_BUDGET_S, QUICK_CLIP_BUDGET_S = 20.0, 1.0
PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu")


def bench(
    clip: Path | None = None, *, models: Sequence[str] = (), device: str = "auto", quick: bool = False
) -> BenchResult:
    """Measure the models (names, weights files or ONNX files; all installed restorers where none is given).

    Raises WeightsError, OptionsError and SourceError for input that cannot be used, before anything long begins.
    """
    begin_s = time.monotonic()
    resolved = resolve_device(device)
    if clip is not None and not clip.is_file():
        raise SourceError(f"{clip}: no such file; name a video, or leave it out")
    names = list(models) or installed_restorers()
    flops = {name: flop_of(name, device=str(resolved)) for name in names}
    detector = load_detector(EMBEDDED_DETECTOR, device=str(resolved))
    ceilings = {dtype: ceiling_gflops(resolved, getattr(torch, dtype)) for dtype in hardware_dtypes(resolved)}
    results = tuple(_model(name, flops[name], resolved, ceilings, detector, clip, quick=quick) for name in names)
    return BenchResult(
        device=str(resolved),
        device_name=device_name(resolved),
        num_threads=torch.get_num_threads(),
        versions=versions(),
        ceiling_gflops=ceilings,
        models=results,
        seconds_total=time.monotonic() - begin_s,
    )


def _model(
    name: str,
    gflop: float | None,
    device: torch.device,
    ceilings: Mapping[str, float],
    detector: FaceDetector,
    clip: Path | None,
    *,
    quick: bool,
) -> ModelResult:
    skipped: list[str] = []
    deadline_s = time.monotonic() + (QUICK_BUDGET_S if quick else BUDGET_S)
    spec, variants = measured(name, device, deadline_s=deadline_s, skipped=skipped)
    rows = timings(variants, gflop, ceilings)
    fastest = min(rows, key=lambda row: row.ms_a_face, default=None)
    exact = [row for row in rows if row.dtype == "float32"]
    clip_timing = None
    if fastest is not None:
        budget_s = QUICK_CLIP_BUDGET_S if quick else CLIP_BUDGET_S
        variant = variants[rows.index(fastest)]
        with or_skipped(f"clip, {variant.what}", skipped):
            clip_timing = _clip(clip, variant, detector, device, budget_s)
        release(variant.restorer)
    return ModelResult(
        model=name,
        crop_px=spec.crop_px if spec is not None and spec.crop_px is not None else 0,
        gflop=gflop,
        timings=tuple(rows),
        skipped=tuple(skipped),
        fastest=fastest,
        fastest_float32=min(exact, key=lambda row: row.ms_a_face, default=None),
        clip=clip_timing,
    )


def _clip(
    clip: Path | None, variant: Variant, detector: FaceDetector, device: torch.device, budget_s: float
) -> ClipTiming:
    count = len(variant.crops)
    if device.type == "cuda":  # its CUDA graphs have been given back
        warm_up(variant.restorer, variant.crops, device)
    return time_clip(
        clip,
        Models(detector, variant.restorer),
        device=str(device),
        batch_size=count,
        a_face_s=variant.fastest_s / count,
        budget_s=budget_s,
    )


def installed_restorers() -> list[str]:
    """The embedded one and what has been downloaded, smallest first."""
    found = [spec for spec in CATALOG.values() if spec.kind == "restorer" and installed_path(spec)]
    return [spec.name for spec in sorted(found, key=lambda spec: spec.crop_px or 0)]


def flop_of(name: str, *, device: str) -> float | None:
    """GFLOP of one face; None for an ONNX file, of which only the outside is known.

    Raises WeightsError for a model that is not there or damaged; nothing is downloaded.
    """
    if Path(name).suffix == SUFFIX:
        load_onnx(Path(name).expanduser(), device=device, dtype="auto")
        return None
    return gpen_flop(gpen_of(find(name)).config) / 1e9


def device_name(device: torch.device) -> str:
    """Of the GPU, or of the processor as far as the system tells it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of the engines that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
