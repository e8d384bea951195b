"""How fast the network runs beside the official code: python tests/bench/network.py [--sizes 256 512 ...] [--memory]

Random weights of the released shapes, one face, in one run, alternating, the fastest of 3. "Official" is the code of a
checkout that GPEN_REPO names, or else the same maths in `plain_gpen.py`. It has a process of its own, for its users
have the C library's settings, while vidrestore keeps freed memory (`allocator.py`), as everything else here does:
"official, memory kept" tells what that alone gains. `--onnx` adds what `--engine onnx` runs on a CPU, `--compiled`
torch.compile; `--memory` measures the peak of each instead. The last line says what this machine could do: a large
convolution, of the kind that most of the network is.
"""

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from plain_gpen import plain_forward
from torch import Tensor

from vidrestore.allocator import keep_freed_memory
from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.models.prepared import PreparedGpen

ROUNDS = 3
OFFICIAL = "official"


def random_gpen(size_px: int) -> Gpen:
    """Of the released shape (256 px is half as wide), with noise where the official initialisation has zeros."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(256, 1, 0.5) if size_px == 256 else GpenConfig(size_px)).eval()
    for parameter in net.parameters():
        if parameter.detach().abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def official(net: Gpen) -> Callable[[Tensor], Tensor]:
    if "GPEN_REPO" not in os.environ:
        return lambda face: plain_forward(net, face)
    sys.path.insert(0, str(Path(os.environ["GPEN_REPO"]) / "face_model"))
    from gpen_model import FullGenerator  # type: ignore[import-not-found]

    config = net.config
    theirs = FullGenerator(
        config.size_px,
        config.style_dim,
        config.num_mapping_layers,
        config.channel_multiplier,
        narrow=config.width,
        device="cpu",
    )
    theirs.load_state_dict(net.state_dict())
    theirs.eval()
    return lambda face: theirs(face)[0]


def network(name: str, net: Gpen) -> Callable[[Tensor], Tensor]:
    if name.startswith(OFFICIAL):
        return official(net)
    if name == "training module":
        return lambda face: net(face.contiguous(memory_format=torch.channels_last))
    if name == "onnx":
        return onnx_network(net)
    dtype = torch.bfloat16 if "bfloat16" in name else torch.float32
    if "compiled" in name:  # the compiler cannot look into what numba has compiled
        return torch.compile(PreparedGpen(net, dtype))
    return PreparedGpen(net, dtype, winograd=True)


def onnx_network(net: Gpen) -> Callable[[Tensor], Tensor]:
    import onnx

    from vidrestore.models.backends.onnx_runtime import OnnxNetwork
    from vidrestore.models.onnx_graph import gpen_graph

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(gpen_graph(net, precision="float32", dynamic_batch=True, metadata={}, for_cpu=True), str(path))
        return OnnxNetwork(path, torch.device("cpu"))


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start_s = time.perf_counter()
    output = run()
    return time.perf_counter() - start_s, output


@cache
def official_of(size_px: int) -> Callable[[Tensor], Tensor]:
    return official(random_gpen(size_px))


@torch.inference_mode()
def timed_official(size_px: int, face: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """In a process of its own."""
    seconds, output = timed(lambda: official_of(size_px)(torch.from_numpy(face)))
    return seconds, output.numpy()


Timed = Callable[[], tuple[float, Tensor]]


def fastest_s(networks: dict[str, Timed]) -> tuple[dict[str, float], dict[str, Tensor]]:
    outputs = {name: run()[1] for name, run in networks.items()}  # once to warm up
    times_s = dict.fromkeys(networks, float("inf"))
    for _ in range(ROUNDS):
        for name, run in networks.items():
            times_s[name] = min(times_s[name], run()[0])
    return times_s, outputs


def ceiling_gflops(dtype: torch.dtype) -> float:
    x = torch.randn(1, 512, 64, 64).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(512, 512, 3, 3).to(dtype)
    times_s, _ = fastest_s({"conv": lambda: timed(lambda: F.conv2d(x, kernel, padding=1))})
    return 2 * 512 * 512 * 9 * 64 * 64 / times_s["conv"] / 1e9


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = [OFFICIAL, f"{OFFICIAL}, memory kept", "training module", "float32", "bfloat16"]
    if given.compiled:
        names += ["float32, compiled", "bfloat16, compiled"]
    if given.onnx:
        names += ["onnx"]

    if given.only != OFFICIAL:  # before any thread is there
        keep_freed_memory()
    if given.only:
        (size_px,) = given.sizes
        network(given.only, random_gpen(size_px))(torch.zeros(1, 3, size_px, size_px))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    for size_px in given.sizes:
        if given.memory:
            for name in names:
                command = [sys.executable, __file__, "--sizes", str(size_px), "--only", name]
                peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                print(f"{size_px} px, {name}: {float(peak):.2f} GiB")
            continue
        net = random_gpen(size_px)
        face = torch.rand(1, 3, size_px, size_px) * 2 - 1
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other_process:

            def official_elsewhere(size_px: int = size_px, face: Tensor = face, pool: Executor = other_process) -> Any:
                seconds, output = pool.submit(timed_official, size_px, face.numpy()).result()
                return seconds, torch.from_numpy(output)

            runs: dict[str, Timed] = {OFFICIAL: official_elsewhere}
            runs |= {name: partial(timed, partial(network(name, net), face)) for name in names if name != OFFICIAL}
            times_s, outputs = fastest_s(runs)
        for name in names:
            error = (outputs[name] - outputs[OFFICIAL]).abs()
            ratio = times_s[OFFICIAL] / times_s[name]
            print(f"{size_px} px, {name}: {times_s[name]:.3f} s, {ratio:.2f} x, ", end="")
            print(f"largest error {error.max():.1e}, mean {error.mean():.1e}", flush=True)
    if not given.memory:
        speeds = {dtype: ceiling_gflops(dtype) for dtype in (torch.float32, torch.bfloat16)}
        print("a convolution here: " + ", ".join(f"{dtype} {speed:.0f} GFLOP/s" for dtype, speed in speeds.items()))


if __name__ == "__main__":
    main()
