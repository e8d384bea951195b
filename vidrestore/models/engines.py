"""`--engine`: what runs a restorer. `auto` is PyTorch for weights and onnxruntime for ONNX files."""

from pathlib import Path

from vidrestore.errors import OptionsError
from vidrestore.models.backends import onnx_runtime, pytorch
from vidrestore.models.spec import Restorer


def load_restorer(
    name_or_path: str | Path, *, engine: str = "auto", device: str = "auto", dtype: str = "auto", progress: bool = False
) -> Restorer:
    """The restorer of that name, of a weights file or of an ONNX file. A named one that is not installed is downloaded.

    Raises WeightsError and OptionsError, RestoreError when it does not fit into memory; with `engine` "onnx" also what
    `load_exported` does.
    """
    if Path(name_or_path).suffix == onnx_runtime.SUFFIX:
        if engine == "pytorch":
            raise OptionsError(f"--engine pytorch: cannot run {name_or_path}; use --engine onnx or auto")
        return onnx_runtime.load_onnx(Path(name_or_path).expanduser(), device=device, dtype=dtype)
    if engine == "onnx":
        from vidrestore.models.export import load_exported

        return load_exported(name_or_path, device=device, dtype=dtype, progress=progress)
    return pytorch.load_restorer(name_or_path, device=device, dtype=dtype, progress=progress)
