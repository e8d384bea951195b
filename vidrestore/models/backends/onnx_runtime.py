"""The ONNX engine: files of ours and of others, run by onnxruntime with the best provider there is.

A restorer's file has one input and one output, both (N, 3, S, S) RGB in [-1, 1], float32 or float16; N may be fixed.
What `vidrestore export` writes says more about itself (`METADATA`); of other files the template is taken to be GPEN's.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidrestore.errors import OptionsError, OutOfDeviceMemory, RestoreError, WeightsError
from vidrestore.models.backends.levels import check_crops, levels_from_units, units_from_levels
from vidrestore.models.backends.onnx_providers import (
    CUDA,
    TENSORRT,
    import_onnxruntime,
    largest_tensorrt_batch,
    providers,
)
from vidrestore.models.backends.pytorch import resolve_device
from vidrestore.models.gpen import MIN_SIZE_PX
from vidrestore.models.memory import ALLOCATION_FAILURES
from vidrestore.models.spec import ModelSpec
from vidrestore.models.weights import file_sha256, template_of

log = logging.getLogger("vidrestore")

SUFFIX = ".onnx"
METADATA = ("name", "template", "crop_px", "license", "source", "precision", "sha256")
"""What our files say about themselves; `sha256` is that of the weights file that they were made from."""
DTYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
"""What an input or output may be, in onnxruntime's words."""
ORT_ALLOCATION_FAILURES = (*ALLOCATION_FAILURES, "Failed to allocate memory", "bad_alloc", "bad allocation")
SILENT = 4
"""onnxruntime's log level "fatal": what goes wrong is raised too, and one line is enough."""


class OnnxNetwork:
    """The network in a restorer's file: (N, 3, S, S) tensors -> the same, on one device."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """Raises WeightsError for a file that is damaged or no face restorer, RestoreError without memory for it."""
        self.path, self.device = path, device
        self._session = open_session(path, device)
        self.crop_px = check_signature(self._session, path)
        (self._input,), (self._output,) = self._session.get_inputs(), self._session.get_outputs()
        batch = self._input.shape[0]
        self.fixed_batch = batch if isinstance(batch, int) else None
        """N where the file takes no other."""
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.precision = self.metadata.get("precision", str(DTYPES[self._input.type]).removeprefix("torch."))
        """That it computes in; of files that do not say it, that of their input."""
        self.provider: str = self._session.get_providers()[0]
        self._largest_batch = self.fixed_batch
        if self.fixed_batch is None and self.provider == TENSORRT:
            self._largest_batch = largest_tensorrt_batch(self.crop_px)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) on the network's device, RGB in [-1, 1], any N -> the same, in the file's precision.

        Raises RestoreError when onnxruntime fails; a failed allocation keeps its own class (`is_out_of_memory`).
        """
        x = x.to(DTYPES[self._input.type]).contiguous()
        try:
            return torch.cat([self._run(part) for part in torch.split(x, self._largest_batch or len(x))])
        except Exception as exc:  # onnxruntime's own have no common class
            if is_out_of_memory(exc):
                raise
            raise RestoreError(f"{self.path}: onnxruntime failed: {_first_line(exc)}") from exc

    def _run(self, x: Tensor) -> Tensor:
        """At most `fixed_batch`. Bound in place, so that nothing is copied between host and device."""
        count = len(x)
        missing = (self.fixed_batch or count) - count
        if missing:  # copies of the last face stand in for those that a file of a fixed batch still wants
            x = torch.cat([x, x[-1:].expand(missing, -1, -1, -1)])
        y = torch.empty_like(x, dtype=DTYPES[self._output.type])
        binding, where = self._session.io_binding(), (self.device.type, self.device.index or 0)
        for bind, value, tensor in ((binding.bind_input, self._input, x), (binding.bind_output, self._output, y)):
            element = np.float16 if tensor.dtype == torch.float16 else np.float32
            bind(value.name, *where, element, tuple(tensor.shape), tensor.data_ptr())
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # onnxruntime computes on a stream of its own
        self._session.run_with_iobinding(binding)
        return y[:count]


class OnnxRestorer:
    """A network in an ONNX file as the `Restorer` of `models/spec.py`."""

    engine_name = "onnx"

    def __init__(self, net: OnnxNetwork, *, spec: ModelSpec, sha256: str) -> None:
        self.spec, self.sha256 = spec, sha256
        self.device_name, self.dtype_name = str(net.device), net.precision
        self.net = net
        if net.fixed_batch is not None:
            hint = "`vidrestore export --dynamic-batch` makes a file that takes any number"
            log.warning("%s: takes faces only %d at a time, so batches are split; %s", net.path, net.fixed_batch, hint)

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(B, S, S, 3) uint8 RGB, B >= 1 -> the same shape. A crop's result does not depend on its batch.

        Raises ValueError for another shape or dtype, OutOfDeviceMemory when a smaller batch might fit, RestoreError
        when onnxruntime fails or the output is not finite.
        """
        check_crops(crops, self.spec)
        try:
            y = self.net(units_from_levels(crops, self.net.device))
            remedy = "export it without --half" if self.dtype_name == "float16" else "choose another with --model"
            return levels_from_units(y, name=self.spec.name, precision=self.dtype_name, remedy=remedy)
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
        # Raised out here, because the traceback of the exception above would keep its tensors alive.
        where = f"memory ({self.device_name})"
        raise OutOfDeviceMemory(f"{self.spec.name}: {len(crops)} faces at once do not fit into {where}")


def load_onnx(
    path: Path, *, device: str = "auto", dtype: str = "auto", spec: ModelSpec | None = None, sha256: str | None = None
) -> OnnxRestorer:
    """The restorer in an ONNX file. `spec` and `sha256` are given where the file was made of a model that has them.

    Raises WeightsError for a file that is damaged or no face restorer; OptionsError for a device that onnxruntime
    cannot use, for another `dtype` than the file's, and when onnxruntime is not installed.
    """
    onnxruntime = import_onnxruntime()
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    net = OnnxNetwork(path, usable_device(device))
    if dtype not in ("auto", net.precision):
        hint = "leave it at auto, or export the model once more"
        raise OptionsError(f"--dtype {dtype}: {path} computes in {net.precision}; {hint}")
    spec = spec or spec_of_onnx(net)
    log.info("onnxruntime %s with %s", onnxruntime.__version__, net.provider)
    return OnnxRestorer(net, spec=spec, sha256=sha256 or file_sha256(path))


def usable_device(text: str) -> torch.device:
    """As `resolve_device`, but only a device that this onnxruntime has a provider for; "auto" may fall back to the CPU.

    Raises OptionsError.
    """
    device = resolve_device(text)
    if device.type == "cpu" or CUDA in import_onnxruntime().get_available_providers():
        return device
    hint = "install onnxruntime-gpu in place of onnxruntime, or use --engine pytorch"
    if text != "auto":
        raise OptionsError(f"--device {text}: this onnxruntime has no {CUDA}; {hint}")
    log.warning("this onnxruntime has no %s, so it computes on the CPU; %s", CUDA, hint)
    return torch.device("cpu")


def open_session(path: Path, device: torch.device) -> Any:
    """Raises WeightsError for a file that is damaged, RestoreError without memory for it, OptionsError without CUDA."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = torch.get_num_threads()
    # Its threads spin while they wait for one another; between faces the cores belong to the rest of the pipeline.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    gpu = device.index if device.type == "cuda" else None
    try:
        # Without its fallback, which prints: what is used instead is decided in `usable_device`.
        chosen = providers(path, gpu)
        session = onnxruntime.InferenceSession(path, options, providers=chosen, enable_fallback=0)
    except Exception as exc:  # onnxruntime's own have no common class
        if is_out_of_memory(exc):
            raise RestoreError(f"{path}: does not fit into memory ({device})") from exc
        what = "damaged, or no ONNX file that this onnxruntime can run"
        raise WeightsError(f"{path}: {what} ({_first_line(exc)}); get the file again, or export it again") from exc
    if device.type == "cuda" and CUDA not in session.get_providers():
        raise OptionsError(f"onnxruntime could not start CUDA on {device}; use --engine pytorch, or --device cpu")
    return session


def check_signature(session: Any, path: Path) -> int:
    """Side S of the crops of a file (N, 3, S, S) -> the same; names that stand for sizes are taken on trust, but S.

    Raises WeightsError for any other file.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    side = inputs[0].shape[-1] if len(inputs) == 1 and inputs[0].shape else None
    if isinstance(side, int) and side >= MIN_SIZE_PX and len(outputs) == 1:
        batch = inputs[0].shape[0]
        wanted = [batch if isinstance(batch, int) else None, 3, side, side]
        if all(value.type in DTYPES and _fits(value.shape, wanted) for value in (*inputs, *outputs)):
            return side
    has = " -> ".join(", ".join(f"{value.name} {_shape(value.shape)}" for value in part) for part in (inputs, outputs))
    raise WeightsError(
        f"{path}: no face restorer (N, 3, S, S) -> (N, 3, S, S): it has {has}; choose another with --model"
    )


def _fits(shape: list[int | str | None], wanted: list[int | None]) -> bool:
    """Whether a declared shape can be the wanted one; no shape at all, as some exporters leave it, can be any."""
    if not shape:
        return True
    known = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(not isinstance(a, int) or b in (None, a) for a, b in known)


def _shape(shape: list[int | str | None]) -> str:
    return f"({', '.join(map(str, shape))})"


def spec_of_onnx(net: OnnxNetwork) -> ModelSpec:
    """The row that the catalogue would have for a file of the user's own.

    Raises WeightsError for a template that we do not know.
    """
    path, metadata = net.path, net.metadata
    return ModelSpec(
        name=metadata.get("name", path.stem),
        kind="restorer",
        file_name=path.name,
        url=None,
        sha256=None,
        size_bytes=path.stat().st_size,
        license=metadata.get("license", "unknown"),
        source=metadata.get("source", "the user's own file"),
        crop_px=net.crop_px,
        template=template_of(path, metadata),
    )


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an exception of onnxruntime, or of PyTorch, means that the device has no memory left."""
    if isinstance(exc, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(text in str(exc) for text in ORT_ALLOCATION_FAILURES)


def _first_line(exc: BaseException) -> str:
    """What went wrong, without onnxruntime's numbers before it."""
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[0].rsplit(" : ", 1)[-1][:200]
