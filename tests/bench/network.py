"""How fast the network runs beside the official code: python tests/bench/network.py [--sizes 256 512 ...] [--memory]

Random weights of the released shapes, one face, everything in one process, alternating, the fastest of 3. "Official" is
the code of a checkout that GPEN_REPO names, or else the same maths in `plain_gpen.py`. `--compiled` adds torch.compile,
`--memory` measures each one's peak in a process of its own instead. The last line says what this machine could do: a
large convolution, of the kind that most of the network is.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from plain_gpen import plain_forward
from torch import Tensor

from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.models.prepared import PreparedGpen

ROUNDS = 3


def random_gpen(size_px: int) -> Gpen:
    """Of the released shape (256 px has multiplier 1), with noise where the official initialisation has zeros."""
    torch.manual_seed(0)
    net = Gpen(GpenConfig(size_px, channel_multiplier=1 if size_px == 256 else 2)).eval()
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
        config.size_px, config.style_dim, config.num_mapping_layers, config.channel_multiplier, device="cpu"
    )
    theirs.load_state_dict(net.state_dict())
    theirs.eval()
    return lambda face: theirs(face)[0]


def network(name: str, net: Gpen) -> Callable[[Tensor], Tensor]:
    if name == "official":
        return official(net)
    if name == "training module":
        return lambda face: net(face.contiguous(memory_format=torch.channels_last))
    dtype = torch.bfloat16 if "bfloat16" in name else torch.float32
    if "compiled" in name:
        return torch.compile(PreparedGpen(net, dtype))
    return PreparedGpen(net, dtype, winograd=dtype == torch.float32)


def fastest_s(networks: dict[str, Callable[[], Tensor]]) -> tuple[dict[str, float], dict[str, Tensor]]:
    outputs = {name: run() for name, run in networks.items()}  # once to warm up
    times_s = dict.fromkeys(networks, float("inf"))
    for _ in range(ROUNDS):
        for name, run in networks.items():
            start_s = time.perf_counter()
            run()
            times_s[name] = min(times_s[name], time.perf_counter() - start_s)
    return times_s, outputs


def ceiling_gflops(dtype: torch.dtype) -> float:
    x = torch.randn(1, 512, 64, 64).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(512, 512, 3, 3).to(dtype)
    times_s, _ = fastest_s({"conv": lambda: F.conv2d(x, kernel, padding=1)})
    return 2 * 512 * 512 * 9 * 64 * 64 / times_s["conv"] / 1e9


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = ["official", "training module", "float32", "bfloat16"]
    if given.compiled:
        names += ["float32, compiled", "bfloat16, compiled"]

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
        runs = {name: network(name, net) for name in names}
        times_s, outputs = fastest_s({name: partial(run, face) for name, run in runs.items()})
        for name in names:
            error = (outputs[name] - outputs["official"]).abs()
            ratio = times_s["official"] / times_s[name]
            print(f"{size_px} px, {name}: {times_s[name]:.3f} s, {ratio:.2f} x, ", end="")
            print(f"largest error {error.max():.1e}, mean {error.mean():.1e}", flush=True)
    if not given.memory:
        speeds = {dtype: ceiling_gflops(dtype) for dtype in (torch.float32, torch.bfloat16)}
        print("a convolution here: " + ", ".join(f"{dtype} {speed:.0f} GFLOP/s" for dtype, speed in speeds.items()))


if __name__ == "__main__":
    main()
