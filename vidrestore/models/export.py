"""A restorer as an ONNX file, held equal to the PyTorch module before it appears under its name."""

import logging
import math
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch

from vidrestore.errors import OptionsError, RestoreError, WeightsError
from vidrestore.models.backends.onnx_providers import cache_folder, import_onnxruntime
from vidrestore.models.backends.onnx_runtime import (
    METADATA,
    SUFFIX,
    OnnxNetwork,
    OnnxRestorer,
    load_onnx,
    usable_device,
)
from vidrestore.models.backends.pytorch import gpen_of, resolve_dtype
from vidrestore.models.download import obtain
from vidrestore.models.gpen import Gpen
from vidrestore.models.spec import ModelSpec
from vidrestore.models.weights import InstalledModel
from vidrestore.target import check_target, replaced_when_complete, writing

if TYPE_CHECKING:
    from vidrestore.models.onnx_nodes import Precision

log = logging.getLogger("vidrestore")

MAX_DIFFERENCE = {"float32": 1e-3, "float16": 0.02}
"""Between the file and the float32 module, of values in [-1, 1] (0.13 and 2.6 of 255 levels). On a CPU they are
3e-6 in float32; in float16 5e-4 for `gpen-lite-256`, and 3e-3 for random weights whose output overshoots to 3."""
NUM_CHECKED = 2
"""Crops in the check of a file with a dynamic batch: one would hide an axis that is fixed."""
LAST_LEVEL = 255
SEED = 20240501


def export(
    name_or_path: str | Path,
    target: Path,
    *,
    half: bool = False,
    dynamic_batch: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> float:
    """Write the restorer of that name, or of a weights file, as an ONNX file. Returns the largest difference found.

    Raises TargetError and OptionsError before any work, WeightsError for a model that cannot be had, and RestoreError,
    leaving nothing behind, when the file and the module differ by more than `MAX_DIFFERENCE`.
    """
    import_onnx()
    import_onnxruntime()
    if target.suffix != SUFFIX:
        raise OptionsError(f"{target}: an exported model's name ends in {SUFFIX}; choose another with -o")
    check_target(target, Path(name_or_path), overwrite=overwrite)
    installed = obtain(name_or_path, progress=progress)
    return write_onnx(installed, target, precision="float16" if half else "float32", dynamic_batch=dynamic_batch)


def write_onnx(
    installed: InstalledModel, target: Path, *, precision: "Precision", dynamic_batch: bool, for_cpu: bool = False
) -> float:
    """Export, check by the format's own rules, compare with the module. As `export` otherwise.

    `for_cpu`: in the form that is fastest on this machine's CPU, instead of the one that is good anywhere.
    """
    onnx = import_onnx()
    from vidrestore.models.onnx_graph import gpen_graph

    net, spec = gpen_of(installed), installed.spec
    values = (spec.name, spec.template, spec.crop_px, spec.license, spec.source, precision, installed.sha256)
    metadata = dict(zip(METADATA, map(str, values), strict=True))
    try:
        model = gpen_graph(net, precision=precision, dynamic_batch=dynamic_batch, metadata=metadata, for_cpu=for_cpu)
    except ValueError as exc:
        raise WeightsError(f"{installed.path}: {exc}; use float32 (no --half, or --dtype float32)") from exc
    with replaced_when_complete(target) as temporary:
        with writing(target):
            onnx.save(model, str(temporary))  # one file: the largest GPEN is far below the format's 2 GB
        del model
        onnx.checker.check_model(str(temporary), full_check=True)
        difference = largest_difference(net, temporary, num_crops=NUM_CHECKED if dynamic_batch else 1)
        if difference > MAX_DIFFERENCE[precision]:
            wrong = f"{difference:.2g} from PyTorch, more than {MAX_DIFFERENCE[precision]:g}"
            remedy = "use float32 (no --half, or --dtype float32)" if precision == "float16" else "use --engine pytorch"
            raise RestoreError(f"{target}: not written: what {precision} onnxruntime makes is off by {wrong}; {remedy}")
    return difference


def largest_difference(net: Gpen, path: Path, *, num_crops: int) -> float:
    """Between the module and the file on the CPU, on crops of noise, in units of [-1, 1]; inf where it is no number."""
    shape = (num_crops, 3, net.config.size_px, net.config.size_px)
    levels = np.random.default_rng(SEED).integers(0, LAST_LEVEL + 1, shape)
    x = torch.from_numpy((2 * levels / LAST_LEVEL - 1).astype(np.float32))
    with torch.inference_mode():
        difference = OnnxNetwork(path, torch.device("cpu"))(x) - torch.cat([net(crop) for crop in torch.split(x, 1)])
    return float(difference.abs().nan_to_num(math.inf).max())


def load_exported(
    name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto", progress: bool = False
) -> OnnxRestorer:
    """A restorer of the catalogue, or of a weights file, on onnxruntime: exported once and kept by its hash.

    A kept file that is damaged is made anew. Raises WeightsError and OptionsError, TargetError when the exported file
    cannot be kept, and RestoreError when it differs from PyTorch.
    """
    import_onnx()
    import_onnxruntime()
    from vidrestore.models.onnx_graph import GRAPH_VERSION

    usable = usable_device(device)
    installed = obtain(name_or_path, progress=progress)
    spec, precision = installed.spec, resolve_precision(dtype, usable, installed.spec)
    for_cpu = usable.type == "cpu"
    form = f"{precision}-{'cpu' if for_cpu else 'gpu'}-v{GRAPH_VERSION}"
    path = cache_folder() / f"{spec.name}-{installed.sha256}-{form}{SUFFIX}"
    if path.is_file():
        try:
            return load_onnx(path, device=str(usable), spec=spec, sha256=installed.sha256)
        except WeightsError as exc:
            log.warning("%s; it is made anew", exc)
    log.info("exporting %s for onnxruntime, this once, to %s", spec.name, path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_onnx(installed, path, precision=precision, dynamic_batch=True, for_cpu=for_cpu)
    return load_onnx(path, device=str(usable), spec=spec, sha256=installed.sha256)


def resolve_precision(text: str, device: torch.device, spec: ModelSpec) -> "Precision":
    """As `resolve_dtype`, without bfloat16: onnxruntime has hardly any of it. Raises OptionsError."""
    if text == "bfloat16":
        raise OptionsError(
            "--dtype bfloat16: the ONNX engine computes in float32 or float16; use one of these, or auto"
        )
    dtype = resolve_dtype(text, device, spec)
    if dtype == torch.float32 or (dtype == torch.bfloat16 and not spec.half_ok):
        return "float32"
    return "float16"


def import_onnx() -> ModuleType:
    """Raises OptionsError, naming what to install."""
    try:
        import onnx
    except ImportError as exc:
        raise OptionsError("exporting needs the package onnx: pip install 'vidrestore[onnx]'") from exc
    return onnx
