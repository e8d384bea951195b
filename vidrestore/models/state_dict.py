"""Opening files of weights: tensors by name, and never code."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vidrestore.errors import WeightsError

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
STATE_KEYS = ("g_ema", "params_ema", "params", "state_dict")
"""Where a checkpoint with several state dicts keeps the one to use (GPEN's training, Real-ESRGAN's, Lightning's)."""
MAX_TENSORS_BYTES = 4 * 2**30
"""A whole training checkpoint of GPEN 2048 with its optimizers is about 1.6 GiB; more than this is no model of ours."""


def read_metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says about itself: `template`, `license`, `source`, …; {} for other files.

    Raises WeightsError when the file is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as exc:
        raise WeightsError(_unreadable(path, exc)) from exc


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Name -> CPU tensor, from .safetensors, .pth, .pt or .ckpt. No code in the file is ever run.

    Of a checkpoint with several state dicts the one to use is taken (`STATE_KEYS`); the prefix `module.`, left by
    data-parallel training, is dropped. Raises WeightsError when the file is missing, damaged or too large, and when it
    holds anything but tensors or values that are not finite.
    """
    data = _open_tensors(path)
    for key in STATE_KEYS:
        if isinstance(data.get(key), Mapping):
            data = data[key]
            break
    if not data or not all(isinstance(key, str) and torch.is_tensor(value) for key, value in data.items()):
        wanted = f"tensors by name, or one of {', '.join(STATE_KEYS)} that does"
        raise WeightsError(f"{path}: not a model's weights: it must hold {wanted}; choose another file")
    state: dict[str, Tensor] = {key: value.detach() for key, value in data.items()}
    # A tensor may claim to be larger than its file (strides of zero), so the sizes count once more.
    _check_size(path, sum(tensor.numel() * tensor.element_size() for tensor in state.values()))
    for key, tensor in state.items():
        if tensor.layout != torch.strided or not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: damaged: {key} holds values that are not finite; get the file again")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def assign(module: nn.Module, state: Mapping[str, Tensor | None], path: Path, name: str, library: str) -> None:
    """Put the tensors of a file in the place of the module's, which may have no memory; None is one that it lacks.

    For a network `name` that a library builds. Raises WeightsError when they are not that network's.
    """
    try:
        module.load_state_dict({key: value for key, value in state.items() if value is not None}, assign=True)
    except RuntimeError as exc:  # the hash was right, so it is the library that has changed
        raise WeightsError(
            f"{path}: does not hold the layers of {name} as {library} builds it; install another version of {library}"
        ) from exc


def _open_tensors(path: Path) -> Mapping[Any, Any]:
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise WeightsError(f"{path}: no weights file; these end in .safetensors, {', '.join(TORCH_SUFFIXES)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_size(path, sum(entry.file_size for entry in archive.infolist()))
        with warnings.catch_warnings():
            # Of a pickle that is not torch's own, which is read or refused all the same.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            data = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as exc:  # a damaged pickle can make the reader raise anything
        raise WeightsError(_unreadable(path, exc)) from exc
    return data if isinstance(data, Mapping) else {}


def _check_size(path: Path, num_bytes: int) -> None:
    if num_bytes > MAX_TENSORS_BYTES:
        limit = f"{MAX_TENSORS_BYTES / 2**30:.0f} GiB"
        raise WeightsError(f"{path}: refused: it unpacks to {num_bytes / 2**30:.1f} GiB, more than {limit}")


def _unreadable(path: Path, exc: Exception) -> str:
    if isinstance(exc, FileNotFoundError):
        return f"{path}: no such file"
    hint = "get the file again, or convert it to .safetensors where you trust it"
    return f"{path}: damaged, or not a file of weights only ({_one_line(exc)}); {hint}"


def _one_line(exc: BaseException) -> str:
    """The first sentence of an error of a library below, which may have many lines."""
    lines = str(exc).strip().splitlines()
    return lines[0].split(". ")[0][:160] if lines else type(exc).__name__
