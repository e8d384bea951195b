"""What onnxruntime can compute with on this machine. No torch here, so that it can be asked for in no time."""

import ctypes.util
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from vidrestore.errors import OptionsError
from vidrestore.models.weights import weights_folder

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
TENSORRT_BATCH_PIXELS = 16 * 512**2
"""Of the largest batch that an engine of TensorRT is made for: 16 faces of 512 px, one of 2048. None beyond."""


def import_onnxruntime() -> ModuleType:
    """Raises OptionsError, naming what to install."""
    try:
        import onnxruntime
    except ModuleNotFoundError as exc:
        hint = "pip install 'vidrestore[onnx]' (on CUDA then onnxruntime-gpu in place of onnxruntime)"
        raise OptionsError(f"the ONNX engine needs the package onnxruntime: {hint}") from exc
    except ImportError as exc:  # a library that it needs is missing
        reason = str(exc).strip().splitlines()[0]
        raise OptionsError(f"onnxruntime is installed but cannot be loaded ({reason}); install it again") from exc
    module: ModuleType = onnxruntime
    return module


def describe_onnxruntime() -> str:
    """One line for people: version and providers, or what to install."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime: not installed (pip install 'vidrestore[onnx]')"
    try:
        onnxruntime = import_onnxruntime()
    except OptionsError as exc:
        return f"onnxruntime: {exc}"
    known = [name for name in (TENSORRT, CUDA, CPU) if name in onnxruntime.get_available_providers()]
    return f"onnxruntime: {onnxruntime.__version__} with {', '.join(known)}"


def providers(path: Path, gpu: int | None) -> list[tuple[str, dict[str, str]]]:
    """What to run a file with on that GPU, or on none: the best first, each with its options.

    The CPU's is always there, for what the others lack.
    """
    chosen: list[tuple[str, dict[str, str]]] = []
    if gpu is not None:
        index = str(gpu)
        if TENSORRT in import_onnxruntime().get_available_providers() and _has_tensorrt():
            graph = _graph(path)
            half = "1" if _is_half(graph) else "0"  # allowed to, TensorRT would make float16 of float32 as well
            cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache_folder() / "tensorrt")}
            chosen.append((TENSORRT, {"device_id": index, "trt_fp16_enable": half, **cache, **_batches(graph)}))
        chosen.append((CUDA, {"device_id": index, "use_tf32": "0"}))  # float32 means float32
    return [*chosen, (CPU, {})]


def cache_folder() -> Path:
    """Where files made for this engine are kept, beside the downloads; it may be deleted at any time."""
    return weights_folder() / "onnx"


def _has_tensorrt() -> bool:
    """Whether it can be used: the provider is listed even where its libraries are not. (`_graph` needs onnx.)"""
    if importlib.util.find_spec("onnx") is None:
        return False
    return importlib.util.find_spec("tensorrt") is not None or ctypes.util.find_library("nvinfer") is not None


def largest_tensorrt_batch(size_px: int) -> int:
    """Faces of size_px x size_px that `providers` has an engine made for."""
    return max(1, TENSORRT_BATCH_PIXELS // size_px**2)


def _graph(path: Path) -> Any:
    import onnx

    return onnx.load(str(path), load_external_data=False).graph


def _is_half(graph: Any) -> bool:
    """Whether any of the weights are float16."""
    import onnx

    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer)


def _batches(graph: Any) -> dict[str, str]:
    """What TensorRT is told of a batch axis that is dynamic: without it, each new batch would make an engine anew."""
    weights = {tensor.name for tensor in graph.initializer}
    image = next(value for value in graph.input if value.name not in weights)
    batch, *picture = image.type.tensor_type.shape.dim
    sizes = [size.dim_value for size in picture]
    if batch.dim_value or not all(sizes):
        return {}
    largest = largest_tensorrt_batch(sizes[-1])
    counts = {"min": 1, "opt": largest, "max": largest}
    return {
        f"trt_profile_{bound}_shapes": f"{image.name}:{'x'.join(map(str, [count, *sizes]))}"
        for bound, count in counts.items()
    }
