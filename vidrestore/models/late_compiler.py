"""Importing torchvision without PyTorch's compiler, which it loads for the sake of one function.

`torchvision.ops.roi_align` imports `torch._dynamo.utils` to ask, when it is one day called, whether a device can be
compiled for. That import alone takes 1.7 CPU seconds, nearly as much as torch itself, before the first face is found.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

COMPILER, ASKED = "torch._dynamo", "torch._dynamo.utils"


@contextmanager
def compiler_loaded_late() -> Iterator[None]:
    """Within the block a stand-in takes the place of `torch._dynamo.utils`: its one function loads the compiler when it
    is called, and so does the import of anything else of the compiler. Afterwards it is imported as ever.

    Not for a moment at which another thread might import the compiler.
    """
    if COMPILER in sys.modules:
        yield
        return
    stand_ins = {COMPILER: _StandIn(COMPILER), ASKED: _StandIn(ASKED)}
    stand_ins[ASKED].is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update(stand_ins)
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _remove_stand_ins()


class _StandIn(ModuleType):
    __path__: list[str] = []  # makes it a package, for the import system

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        _remove_stand_ins()
        return getattr(import_module(self.__name__), name)


class _Finder:
    """Finds the compiler's other modules, for which the real one must be there."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: Any = None) -> ModuleSpec | None:
        if not name.startswith(f"{COMPILER}.") or not isinstance(sys.modules.get(COMPILER), _StandIn):
            return None
        _remove_stand_ins()
        return PathFinder.find_spec(name, import_module(COMPILER).__path__)


def _is_compile_supported(device_type: str) -> bool:
    return bool(import_module(ASKED).is_compile_supported(device_type))


def _remove_stand_ins() -> None:
    for name in (ASKED, COMPILER):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]
