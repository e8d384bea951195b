"""Nobody waits for PyTorch's compiler who does not use it."""

import subprocess
import sys

LOADED = "import sys, torch; loaded = lambda: 'torch._dynamo' in sys.modules\n"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", LOADED + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_embedded_models_are_loaded_and_used_without_the_compiler() -> None:
    code = """
import numpy as np
from vidrestore.models.backends.pytorch import load_detector, load_restorer
load_detector("retinaface-lite", device="cpu").detect(np.zeros((1, 64, 64, 3), np.uint8))
load_restorer("gpen-lite-256", device="cpu").restore(np.zeros((1, 256, 256, 3), np.uint8))
print(loaded())
"""
    assert run(code) == "False\n"


def test_it_is_there_as_ever_for_those_who_do() -> None:
    code = """
from vidrestore.models.late_compiler import compiler_loaded_late
with compiler_loaded_late():
    from torchvision.ops import roi_align
print(loaded(), sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu"), loaded())
print(int(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))))
"""
    assert run(code).split() == ["False", "True", "True", "2"]


def test_another_name_of_the_compiler_asked_for_meanwhile_is_the_real_one() -> None:
    code = """
from vidrestore.models.late_compiler import compiler_loaded_late
with compiler_loaded_late():
    from torch._dynamo.utils import counters
print(loaded(), counters is sys.modules["torch._dynamo.utils"].counters)
"""
    assert run(code).split() == ["True", "True"]


def test_another_module_of_the_compiler_imported_meanwhile_is_the_real_one() -> None:
    code = """
from vidrestore.models.late_compiler import compiler_loaded_late
with compiler_loaded_late():
    import torch._dynamo.config
    import torch._dynamo.utils
print(loaded(), torch._dynamo.config.cache_size_limit > 0, hasattr(torch._dynamo.utils, "counters"))
"""
    assert run(code).split() == ["True", "True", "True"]
