"""The PyTorch engine, devices and precision."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidrestore.errors import OptionsError, OutOfDeviceMemory, RestoreError, WeightsError
from vidrestore.models.backends.cuda_graphs import GraphedNet, convolutions
from vidrestore.models.backends.levels import (
    check_crops,
    levels_from_units,
    levels_of,
    not_finite_message,
    units_from_levels,
    units_of,
)
from vidrestore.models.gpen import Gpen, StateDictError
from vidrestore.models.memory import is_out_of_memory
from vidrestore.models.prepared import PreparedGpen
from vidrestore.models.spec import FaceDetector, ModelSpec, Restorer

# What finds and reads files is imported late: a network that is there needs none of the packages that it needs.
if TYPE_CHECKING:
    from vidrestore.models.weights import InstalledModel

log = logging.getLogger("vidrestore")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BFLOAT16_CAPABILITY = (8, 0)
"""First CUDA capability (Ampere) with bfloat16 in hardware."""
FLOAT16_CAPABILITY = (7, 0)
"""First CUDA capability (Volta) where float16 is faster than float32."""
Result = TypeVar("Result")


def resolve_device(text: str) -> torch.device:
    """ "auto", "cpu", "cuda" or "cuda:N" -> a device that is there. Raises OptionsError naming what is."""
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "cpu" or (text == "auto" and num_gpus == 0):
        return torch.device("cpu")
    match = re.fullmatch(r"auto|cuda(?::(\d+))?", text)
    if match is None:
        raise OptionsError(f"--device {text}: must be auto, cpu, cuda or cuda:N")
    index = int(match.group(1) or 0)
    if index >= num_gpus:
        there = ", ".join(["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(num_gpus))])
        raise OptionsError(f"--device {text}: not on this machine, which has: {there}; use one of these, or auto")
    return torch.device("cuda", index)


def resolve_dtype(text: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
    """ "auto" or a key of `DTYPES` -> the precision to compute in. Raises OptionsError.

    "auto" is float32 on a CPU; on CUDA float16 where that is fast and the model bears it, else bfloat16 where the
    hardware has it, else float32. Both are equally fast, but float16 has three more bits: its error is an eighth of
    bfloat16's. Its range is enough, for `prepared.py` divides styles by their largest, and what is left between two
    convolutions of random networks of the released shapes stays below 10 (styles up to 40,000 included) of 65,504.
    """
    if text == "auto":
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
        if capability >= FLOAT16_CAPABILITY and spec.half_ok:
            return torch.float16
        return torch.bfloat16 if capability >= BFLOAT16_CAPABILITY else torch.float32
    if text not in DTYPES:
        raise OptionsError(f"--dtype {text}: must be auto, {', '.join(DTYPES)}")
    if text == "float16" and not spec.half_ok:
        raise OptionsError(f"--dtype float16: {spec.name} overflows in it; use auto, bfloat16 or float32")
    return DTYPES[text]


class PytorchRestorer:
    """A network (N, 3, S, S) float32 -> the same, RGB in [-1, 1], as the `Restorer` of `models/spec.py`.

    `dtype` is what the network computes in; it converts by itself.
    """

    engine_name = "pytorch"

    def __init__(
        self,
        net: nn.Module,
        *,
        spec: ModelSpec,
        sha256: str,
        device: torch.device,
        dtype: torch.dtype,
        graphs: bool = False,
    ) -> None:
        """`graphs`: with CUDA graphs, for a network that always does the same."""
        self.spec = spec
        self.sha256 = sha256
        self.device, self.dtype = device, dtype
        self.device_name, self.dtype_name = str(device), str(dtype).removeprefix("torch.")
        self.net = net.eval().to(device)
        self._graphed = GraphedNet(self._restored) if graphs else None

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(B, S, S, 3) uint8 RGB, B >= 1 -> the same shape. A crop's result does not depend on its batch (on CUDA to
        within rounding: the GPU's libraries choose other kernels for other batches, and the fastest by measuring).

        Raises ValueError for another shape or dtype, OutOfDeviceMemory when a smaller batch might fit, RestoreError
        when the network's output is not finite.
        """
        check_crops(crops, self.spec)
        return self.within_memory(lambda: self._restore(crops), num_faces=len(crops))

    def restore_tensor(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 RGB on the device -> the same, and whether all values were finite, as a () bool tensor.

        For callers in `within_memory` who do the rest on the device, too: nothing waits for it. Where the values were
        not finite they raise `not_finite()`.
        """
        restored = self._graphed or self._restored
        with convolutions(benchmark=False):
            levels, is_finite = restored(crops)
        return levels, is_finite

    def not_finite(self) -> RestoreError:
        return RestoreError(not_finite_message(self.spec.name, self.dtype_name, self._remedy))

    def within_memory(self, work: Callable[[], Result], *, num_faces: int) -> Result:
        """Do the work in inference mode. Raises OutOfDeviceMemory when fewer faces might fit."""
        for _ in range(2):
            try:
                with torch.inference_mode():
                    return work()
            except (RuntimeError, MemoryError) as exc:
                if not is_out_of_memory(exc):
                    raise
            # Out here, because the traceback of the exception above would keep its tensors alive.
            graphs_gone = self._graphed is not None and self._graphed.forget()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if not graphs_gone:
                break
            log.warning("memory is short, so faces are restored without CUDA graphs, which takes a little longer")
        raise OutOfDeviceMemory(f"{self.spec.name}: {num_faces} faces at once do not fit into memory ({self.device})")

    def release_graphs(self) -> None:
        """Give the memory of all CUDA graphs back; sizes that come back later are recorded anew."""
        if self._graphed is not None:
            self._graphed.forget()
            self._graphed = GraphedNet(self._restored)
            torch.cuda.empty_cache()

    def _restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.device.type != "cuda":
            units = self.net(units_from_levels(crops, self.device))
            return levels_from_units(units, name=self.spec.name, precision=self.dtype_name, remedy=self._remedy)
        with torch.cuda.device(self.device):
            pinned = torch.from_numpy(np.require(crops, requirements=["C", "W"])).pin_memory()
            restored, is_finite = self.restore_tensor(pinned.to(self.device, non_blocking=True))
            result = torch.empty(restored.shape, dtype=torch.uint8, pin_memory=True)
            result.copy_(restored, non_blocking=True)
            if not is_finite.item():  # waits until all before it is done
                raise self.not_finite()
        levels: NDArray[np.uint8] = result.numpy()
        return levels

    def _restored(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        units = self.net(units_of(crops))
        return levels_of(units), torch.isfinite(units).all()

    @property
    def _remedy(self) -> str:
        return "choose another with --model" if self.dtype == torch.float32 else "use --dtype float32"


def load_gpen(name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto") -> Gpen:
    """GPEN as a module: (N, 3, S, S) RGB in [-1, 1] -> the same, in the dtype and on the device that it was loaded for.

    A name of the catalogue that is not installed is downloaded. Raises WeightsError and OptionsError, RestoreError
    without memory for it.
    """
    from vidrestore.models.download import obtain

    resolved = resolve_device(device)
    installed = obtain(name_or_path)
    with _memory_for(installed, resolved):
        return gpen_of(installed).to(device=resolved, dtype=resolve_dtype(dtype, resolved, installed.spec))


def load_restorer(
    name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto", progress: bool = False
) -> Restorer:
    """The restorer of that name, or of a weights file. A named one that is not installed is downloaded.

    Raises WeightsError and OptionsError, RestoreError without memory for it.
    """
    from vidrestore.models.download import obtain

    resolved = resolve_device(device)
    installed = obtain(name_or_path, progress=progress)
    precision = resolve_dtype(dtype, resolved, installed.spec)
    is_cuda = resolved.type == "cuda"
    with _memory_for(installed, resolved):
        gpen = gpen_of(installed)
        net = network_for_cuda(gpen, precision, resolved) if is_cuda else network_for_cpu(gpen, precision)
        return PytorchRestorer(
            net, spec=installed.spec, sha256=installed.sha256, device=resolved, dtype=precision, graphs=is_cuda
        )


def load_detector(name_or_path: str | Path, *, device: str = "auto", progress: bool = False) -> FaceDetector:
    """The face detector of that name, or of a weights file. A named one that is not installed is downloaded.

    Raises WeightsError and OptionsError, RestoreError without memory for it.
    """
    from vidrestore.models.download import obtain
    from vidrestore.models.face_detector import RetinaFaceDetector
    from vidrestore.models.state_dict import read_state_dict

    resolved = resolve_device(device)
    installed = obtain(name_or_path, progress=progress)
    _check_kind(installed, "detector")
    with _memory_for(installed, resolved):
        state = read_state_dict(installed.path)
        return RetinaFaceDetector.from_state_dict(state, spec=installed.spec, sha256=installed.sha256, device=resolved)


@contextmanager
def _memory_for(installed: "InstalledModel", device: torch.device) -> Iterator[None]:
    """Raises RestoreError where what is done inside runs out of memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as exc:
        if not is_out_of_memory(exc):
            raise
        hint = "use a smaller model" if device.type == "cpu" else "use --device cpu, or free memory on the GPU"
        raise RestoreError(f"{installed.spec.name}: does not fit into memory ({device}); {hint}") from exc


def network_for_cpu(net: Gpen, dtype: torch.dtype) -> PreparedGpen:
    """The fastest form of the network that works here. Without numba's loops, with the same answer."""
    try:
        prepared = PreparedGpen(net, dtype, winograd=True)
        if any(conv.is_winograd for conv in prepared.convs):
            from vidrestore.models.winograd import try_out  # late: numba takes a second to load

            try_out(dtype)
    except Exception as exc:  # too new a NumPy, a full disk, a damaged cache, and whatever else numba stumbles over
        log.warning("numba does not work here, so faces take longer: %s", _first_line(exc))
        return PreparedGpen(net, dtype)
    return prepared


def network_for_cuda(net: Gpen, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The fastest form of the network that works on this GPU, on the device.

    Without Triton (on Windows, without a C compiler, on GPUs that it does not know) that is `PreparedGpen`, with the
    same answer.
    """
    side_px = net.config.size_px
    try:
        from vidrestore.models.fused import FusedGpen  # late: only here is Triton needed

        fused = FusedGpen(net, dtype).to(device)
        with torch.inference_mode():
            # Now its kernels are compiled. cuDNN is asked with PyTorch's own settings: what it chooses under those of
            # `convolutions` stays open, and is for `GraphedNet` to find.
            fused(torch.zeros(1, 3, side_px, side_px, device=device)).sum().item()
    except Exception as exc:  # whatever Triton, a compiler or a driver finds to complain about
        if is_out_of_memory(exc):
            raise
        log.warning("Triton does not work here, so faces take longer: %s", _first_line(exc))
        return PreparedGpen(net, dtype).to(device)
    return fused


def gpen_of(installed: "InstalledModel") -> Gpen:
    """The network of a file that has been found, float32 on the CPU. Raises WeightsError when it holds another one."""
    from vidrestore.models.state_dict import read_state_dict

    _check_kind(installed, "restorer")
    try:
        net = Gpen.from_state_dict(read_state_dict(installed.path))
    except StateDictError as exc:
        raise WeightsError(f"{installed.path}: {exc}; choose another file with --model") from exc
    if net.config.size_px != installed.spec.crop_px:
        sizes = f"{net.config.size_px} px, not {installed.spec.crop_px}"
        raise WeightsError(f"{installed.path}: holds a GPEN of {sizes}; it is not {installed.spec.name}")
    return net


def _check_kind(installed: "InstalledModel", kind: str) -> None:
    if installed.spec.kind != kind:
        option = "--model" if kind == "restorer" else "--detector"
        raise WeightsError(f"{installed.path}: not a {kind} but a {installed.spec.kind}; choose another with {option}")


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0] or type(exc).__name__
