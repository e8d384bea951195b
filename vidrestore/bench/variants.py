"""Every way that this machine has to run a model, timed.

On a CPU side by side, alternating, so that what else the machine does slows all of them alike. On a GPU one after the
other: the memory that one's CUDA graphs hold is wanted by the next.
"""

import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidrestore.bench.ceiling import hardware_dtypes, synchronize
from vidrestore.bench.result import Timing
from vidrestore.demo import portrait
from vidrestore.errors import OptionsError, OutOfDeviceMemory, RestoreError, TargetError, WeightsError
from vidrestore.models.backends.onnx_runtime import SUFFIX, OnnxRestorer
from vidrestore.models.backends.pytorch import PytorchRestorer
from vidrestore.models.engines import load_restorer
from vidrestore.models.spec import ModelSpec, Restorer

WARM_UPS = {"cpu": 1, "cuda": 3}
"""Runs that do not count. On CUDA the second of a batch size records a graph, and the third is the first as all later
ones (`cuda_graphs.py`)."""
ROUNDS = 3
SETTLING_SHARE = 0.1
"""Of the time that is left: for so long, short runs go on after three rounds. On a busy machine, three of 20 ms each
may all be slow."""
BATCH_SIZES = {"cpu": (1, 4), "cuda": (1, 4, 16)}
FACE_BOX_PX = (86, 80, 446, 440)
"""Left, top, right and bottom of the face, with hair and collar, in the demo's portrait."""
FAILURES = (OptionsError, TargetError, WeightsError, RestoreError, OutOfDeviceMemory, torch.OutOfMemoryError)
"""Of one variant: the others are measured all the same."""
NOISE_SIGMA = 8.0
SEED = 20240501


@dataclass(slots=True, eq=False)
class Variant:
    """One engine in one precision at one batch size."""

    engine: str
    restorer: Restorer
    crops: NDArray[np.uint8]
    result: NDArray[np.uint8]
    memory_mb: int | None
    fastest_s: float = float("inf")

    def run(self) -> NDArray[np.uint8]:
        start_s = time.perf_counter()
        result = self.restorer.restore(self.crops)
        self.fastest_s = min(self.fastest_s, time.perf_counter() - start_s)
        return result

    @property
    def what(self) -> str:
        return f"{self.engine} in {self.restorer.dtype_name}, batch of {len(self.crops)}"

    @property
    def provider(self) -> str:
        if isinstance(self.restorer, OnnxRestorer):
            return self.restorer.net.provider
        return self.restorer.device_name


def face_crops(size_px: int, count: int) -> NDArray[np.uint8]:
    """(count, size_px, size_px, 3) uint8 RGB: the portrait, each with noise of its own, always the same."""
    left, top, right, bottom = FACE_BOX_PX
    face = cv2.resize(portrait()[top:bottom, left:right], (size_px, size_px), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(SEED)
    noisy = face + rng.normal(0, NOISE_SIGMA, (count, *face.shape))
    crops: NDArray[np.uint8] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return crops


def engines_and_dtypes(model: str, device: torch.device) -> Iterator[tuple[str, str]]:
    """What can be tried, float32 of PyTorch first. An ONNX file has an engine and a precision of its own."""
    if Path(model).suffix == SUFFIX:
        yield "onnx", "auto"
        return
    dtypes = hardware_dtypes(device)
    for dtype in dtypes:
        yield "pytorch", dtype
    if not missing_packages():
        for dtype in dtypes:
            if dtype != "bfloat16":  # of which onnxruntime has hardly any
                yield "onnx", dtype


def missing_packages() -> list[str]:
    """Those that the ONNX engine would need."""
    return [package for package in ("onnx", "onnxruntime") if importlib.util.find_spec(package) is None]


def measured(
    model: str, device: torch.device, *, deadline_s: float, skipped: list[str]
) -> tuple[ModelSpec | None, list[Variant]]:
    """Warm up and time every variant until `deadline_s` of `time.monotonic`; what is left out is told in `skipped`.

    The first one is measured however long it takes; single faces come before batches.
    """
    variants: list[Variant] = []
    choices, sizes = list(engines_and_dtypes(model, device)), BATCH_SIZES[device.type]
    is_cuda = device.type == "cuda"

    def begin(engine: str, restorer: Restorer, size: int) -> None:
        if not is_cuda:
            variants.append(_warmed_up(engine, restorer, device, size))
            return
        try:
            alone = [_warmed_up(engine, restorer, device, size)]
            _settle(alone, deadline_s, skipped, num_turns=len(choices) * len(sizes))
        finally:  # after a failure, too: it goes on without graphs until then
            release(restorer)
        variants.extend(alone)

    for engine, dtype in choices:
        if variants and time.monotonic() >= deadline_s:
            skipped.append(f"{engine} in {dtype}: no time left")
            continue
        with or_skipped(f"{engine} in {dtype}", skipped):
            begin(engine, load_restorer(model, engine=engine, device=str(device), dtype=dtype), 1)
    if missing := missing_packages():
        skipped.append(f"onnx: {' and '.join(missing)} not installed (pip install 'vidrestore[onnx]')")
    if not is_cuda:
        _run_in_turn(variants, float("inf"), skipped)
    singles = list(variants)
    for size in sizes[1:]:
        for single in singles:
            what = f"{single.engine} in {single.restorer.dtype_name}, batch of {size}"
            if time.monotonic() + (WARM_UPS[device.type] + ROUNDS) * size * single.fastest_s > deadline_s:
                skipped.append(f"{what}: no time left")
                continue
            with or_skipped(what, skipped):
                begin(single.engine, single.restorer, size)
    if not is_cuda:
        _settle(variants, deadline_s, skipped)
    order = [id(single.restorer) for single in singles]
    variants.sort(key=lambda variant: (order.index(id(variant.restorer)), len(variant.crops)))
    return (singles[0].restorer.spec if singles else None), variants


@contextmanager
def or_skipped(what: str, skipped: list[str]) -> Iterator[None]:
    """What fails inside is told in `skipped`."""
    try:
        yield
    except FAILURES as exc:
        reason = str(exc).partition("\n")[0]
        skipped.append(f"{what}: {reason}")


def _settle(variants: list[Variant], deadline_s: float, skipped: list[str], *, num_turns: int = 1) -> None:
    """All rounds. `num_turns`: how often this is called until the deadline."""
    now_s = time.monotonic()
    rounds, settled_s = 0, now_s + SETTLING_SHARE * (deadline_s - now_s) / num_turns
    while variants and (rounds < ROUNDS or time.monotonic() < settled_s):
        _run_in_turn(variants, deadline_s, skipped)
        rounds += 1


def _run_in_turn(variants: list[Variant], deadline_s: float, skipped: list[str]) -> None:
    """Each once. One that fails now is taken out, and told in `skipped`."""
    for variant in tuple(variants):
        if time.monotonic() < deadline_s or variant.fastest_s == float("inf"):
            done = False
            with or_skipped(variant.what, skipped):
                variant.run()
                done = True
            if not done:
                variants.remove(variant)


def release(restorer: Restorer) -> None:
    """Give the memory of its CUDA graphs back."""
    if isinstance(restorer, PytorchRestorer):
        restorer.release_graphs()


def warm_up(restorer: Restorer, crops: NDArray[np.uint8], device: torch.device) -> NDArray[np.uint8]:
    """Until it runs as it always will; the result of the last run."""
    for _ in range(WARM_UPS[device.type] - 1):
        restorer.restore(crops)
    return restorer.restore(crops)


def _warmed_up(engine: str, restorer: Restorer, device: torch.device, batch_size: int) -> Variant:
    assert restorer.spec.crop_px is not None, "every restorer has a size"
    crops = face_crops(restorer.spec.crop_px, batch_size)
    before = _start_of_memory(device)
    result = warm_up(restorer, crops, device)
    memory_mb = None
    if before is not None and engine == "pytorch":
        memory_mb = (torch.cuda.max_memory_allocated(device) - before) // 10**6
    return Variant(engine, restorer, crops, result, memory_mb)


def _start_of_memory(device: torch.device) -> int | None:
    """Bytes that PyTorch has allocated on a GPU, whose peak is counted from here; None on a CPU."""
    if device.type != "cuda":
        return None
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def timings(variants: Sequence[Variant], gflop: float | None, ceiling_gflops: Mapping[str, float]) -> list[Timing]:
    """Each variant with its speed and its error on the first crop, in the variants' order."""
    reference = next(
        (v.result[0].astype(int) for v in variants if (v.engine, v.restorer.dtype_name) == ("pytorch", "float32")), None
    )
    rows = []
    for variant in variants:
        dtype, count = variant.restorer.dtype_name, len(variant.crops)
        a_face_s = variant.fastest_s / count
        gflops = None if gflop is None else gflop / a_face_s
        ceiling = ceiling_gflops.get(dtype)
        error = None if reference is None else np.abs(variant.result[0] - reference)
        rows.append(
            Timing(
                engine=variant.engine,
                provider=variant.provider,
                dtype=dtype,
                batch_size=count,
                ms_a_face=1000 * a_face_s,
                gflops=gflops,
                share_of_ceiling=gflops / ceiling if gflops is not None and ceiling else None,
                largest_error_levels=None if error is None else int(error.max()),
                mean_error_levels=None if error is None else float(error.mean()),
                memory_mb=variant.memory_mb,
            )
        )
    return rows
