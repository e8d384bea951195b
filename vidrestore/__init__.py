"""vidrestore: restore the faces in a video; keep everything else as it was.

Public names are loaded on first use (PEP 562), so that `import vidrestore` loads neither torch, av nor cv2.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidrestore.allocator import keep_freed_memory
    from vidrestore.errors import (
        InputError,
        OptionsError,
        RestoreError,
        SourceError,
        TargetError,
        VidrestoreError,
        WeightsError,
    )
    from vidrestore.loading import Models, load_models
    from vidrestore.models.backends.pytorch import load_gpen
    from vidrestore.options import Options
    from vidrestore.pipeline import restore_video
    from vidrestore.report import Report
    from vidrestore.still import restore_image

__version__ = "0.1.0"

_HOMES = {
    "InputError": "vidrestore.errors",
    "Models": "vidrestore.loading",
    "Options": "vidrestore.options",
    "OptionsError": "vidrestore.errors",
    "Report": "vidrestore.report",
    "RestoreError": "vidrestore.errors",
    "SourceError": "vidrestore.errors",
    "TargetError": "vidrestore.errors",
    "VidrestoreError": "vidrestore.errors",
    "WeightsError": "vidrestore.errors",
    "keep_freed_memory": "vidrestore.allocator",
    "load_models": "vidrestore.loading",
    "load_gpen": "vidrestore.models.backends.pytorch",
    "restore_image": "vidrestore.still",
    "restore_video": "vidrestore.pipeline",
}

__all__ = [
    "InputError",
    "Models",
    "Options",
    "OptionsError",
    "Report",
    "RestoreError",
    "SourceError",
    "TargetError",
    "VidrestoreError",
    "WeightsError",
    "__version__",
    "keep_freed_memory",
    "load_gpen",
    "load_models",
    "restore_image",
    "restore_video",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vidrestore' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
