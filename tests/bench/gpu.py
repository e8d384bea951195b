"""How fast GPEN is on a GPU, and what each trick gives: python tests/bench/gpu.py [--out FILE.json]

Runs from a bare checkout with PyTorch, NumPy and OpenCV only, in under 8 minutes: what does not fit is left out, and
said so. Random weights of the released shapes. Each network is compared with float32 as the official code computes it
(`plain_gpen.py`), then timed with CUDA events. The share of the peak counts the multiplications of the convolutions as
the network defines them, whatever a trick adds to them, against the fastest large bfloat16 matrix product here.
`--device cpu --quick` goes through all of it with tiny networks.
"""

import argparse
import copy
import gc
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), str(HERE.parent)]

from plain_gpen import plain_forward  # noqa: E402 - the path comes first

from vidrestore.models.backends.cuda_graphs import GraphedNet, convolutions  # noqa: E402
from vidrestore.models.backends.pytorch import PytorchRestorer, network_for_cuda  # noqa: E402
from vidrestore.models.gpen import Gpen, GpenConfig  # noqa: E402
from vidrestore.models.memory import is_out_of_memory  # noqa: E402
from vidrestore.models.prepared import PreparedGpen  # noqa: E402
from vidrestore.models.spec import ModelSpec  # noqa: E402

BUDGET_S = 440.0
"""Of the 8 minutes; loading PyTorch and the last thing begun take the rest."""
COMPILE_S = 100.0
"""What torch.compile may take for one shape; it is not begun with less time left."""
MEASURE_S = 0.3
"""Time spent on timing one network, in several parts of which the fastest counts."""
WARM_UPS = 3
"""Calls before: the second records a CUDA graph, the third replays it."""
FIRST = [(512, 16), (2048, 16), (512, 1), (2048, 1)]
"""Sizes and batches with a target come first, and have all variants."""
UPSAMPLINGS = ("transposed", "phases", "subpixel")
TRANSFER_FRAMES = 192
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Variant:
    name: str
    build: Callable[[Gpen], nn.Module | Run]
    is_core: bool = True
    """Measured at every size and batch, not only at `FIRST`."""
    cuda_only: bool = False
    benchmark: bool = False
    """cuDNN times its algorithms. With graphs it always does."""


def on_device_of(net: Gpen, build: Callable[[Gpen], nn.Module]) -> nn.Module:
    return build(net).to(next(net.parameters()).device)


def graphed(build: Callable[[Gpen], nn.Module], *, benchmark: bool = True) -> Callable[[Gpen], Run]:
    def built(net: Gpen) -> Run:
        module = on_device_of(net, build)

        def plain(x: Tensor) -> tuple[Tensor, ...]:
            if benchmark:  # `GraphedNet` asks for it
                return (module(x),)
            with convolutions(benchmark=False):
                return (module(x),)

        graph = GraphedNet(plain)

        def run(x: Tensor) -> Tensor:
            return graph(x)[0]

        run.graph = graph  # type: ignore[attr-defined]
        return run

    return built


def prepared(dtype: torch.dtype) -> Callable[[Gpen], nn.Module]:
    return lambda net: PreparedGpen(net, dtype)


def fused(dtype: torch.dtype, upsampling: str) -> Callable[[Gpen], nn.Module]:
    def build(net: Gpen) -> nn.Module:
        from vidrestore.models.fused import FusedGpen

        return FusedGpen(net, dtype, upsampling=upsampling)  # type: ignore[arg-type]

    return build


def training_module(dtype: torch.dtype, memory_format: torch.memory_format) -> Callable[[Gpen], Run]:
    def build(net: Gpen) -> Run:
        own = copy.deepcopy(net).to(dtype=dtype)
        return lambda x: own(x.to(dtype=dtype).contiguous(memory_format=memory_format))

    return build


def with_tf32(build: Callable[[Gpen], nn.Module]) -> Callable[[Gpen], Run]:
    def built(net: Gpen) -> Run:
        module = on_device_of(net, build)

        def run(x: Tensor) -> Tensor:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
                return module(x)

        return run

    return built


def variants() -> list[Variant]:
    half, brain, full = torch.float16, torch.bfloat16, torch.float32
    nchw, nhwc = torch.contiguous_format, torch.channels_last
    core = [
        Variant("official style, float32", official),
        Variant("prepared, float32", prepared(full)),
        Variant("prepared, float16", prepared(half)),
        Variant("fused, float16", fused(half, "transposed"), cuda_only=True),
        *(Variant(f"fused, float16, graph, {how}", graphed(fused(half, how)), cuda_only=True) for how in UPSAMPLINGS),
    ]
    unmeasured = graphed(fused(half, "transposed"), benchmark=False)
    more = [
        Variant("fused, float16, graph, not benchmarked", unmeasured, cuda_only=True),
        Variant("fused, bfloat16, graph", graphed(fused(brain, "transposed")), cuda_only=True),
        Variant("fused, float32, graph", graphed(fused(full, "transposed")), cuda_only=True),
        Variant("prepared, float16, benchmarked", prepared(half), cuda_only=True, benchmark=True),
        Variant("prepared, float16, graph", graphed(prepared(half)), cuda_only=True),
        Variant("prepared, bfloat16", prepared(brain)),
        Variant("prepared, TensorFloat-32", with_tf32(prepared(full)), cuda_only=True),
        Variant("training module, float16, contiguous", training_module(half, nchw)),
        Variant("training module, float16, channels_last", training_module(half, nhwc)),
        Variant("official style, float32, benchmarked", official, cuda_only=True, benchmark=True),
    ]
    return core + [replace(variant, is_core=False) for variant in more]


def official(net: Gpen) -> Run:
    return lambda x: plain_forward(net, x)


def compiled(dtype: torch.dtype) -> Variant:
    name = f"prepared, {dtype_name(dtype)}, torch.compile"
    return Variant(name, lambda net: torch.compile(on_device_of(net, prepared(dtype))), is_core=False, cuda_only=True)


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Bench:
    """What has been measured, and how much time is left."""

    def __init__(self, device: torch.device, *, quick: bool, budget_s: float) -> None:
        self.device = device
        self.quick = quick
        self.end_s = time.perf_counter() + budget_s
        self.result: dict[str, Any] = {"machine": {}, "networks": [], "layers": [], "pipeline": [], "left_out": []}
        self.is_cuda = device.type == "cuda"

    def left_s(self) -> float:
        return self.end_s - time.perf_counter()

    def fits(self, what: str, need_s: float = 0.0) -> bool:
        if self.left_s() > need_s:
            return True
        self.result["left_out"].append(what)
        print(f"left out, no time: {what}", flush=True)
        return False

    def ms(self, run: Callable[[], object], measure_s: float = MEASURE_S) -> float:
        """Fastest mean of several parts; `run` is warm."""
        once_ms = self._timed_ms(run, 1)
        if once_ms > 1000 * measure_s:
            return once_ms
        calls = 1 if self.quick else max(1, min(200, int(measure_s * 1000 / 3 / max(once_ms, 1e-3))))
        return min(self._timed_ms(run, calls) / calls for _ in range(3))

    def _timed_ms(self, run: Callable[[], object], calls: int) -> float:
        if not self.is_cuda:
            start_s = time.perf_counter()
            for _ in range(calls):
                run()
            return 1000 * (time.perf_counter() - start_s)
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            run()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop)

    def forget(self) -> None:
        gc.collect()
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float:
        return torch.cuda.max_memory_allocated() / 2**30 if self.is_cuda else float("nan")


def random_gpen(size_px: int, *, quick: bool, device: torch.device) -> Gpen:
    """Of the released shape (256 px is half as wide), with noise where the official initialisation has zeros."""
    torch.manual_seed(0)
    config = GpenConfig(256, 1, 0.5) if size_px == 256 else GpenConfig(size_px)
    if quick:
        config = GpenConfig(size_px, 1, 1 / 32, style_dim=32, num_mapping_layers=2)
    with device:
        net = Gpen(config).eval().requires_grad_(False)
        for parameter in net.parameters():
            if parameter.abs().max() == 0:
                torch.nn.init.normal_(parameter, std=0.1)
    return net.to(device)


def network_gflop(config: GpenConfig) -> float:
    """Of one face, two for a multiplication and an addition; convolutions only."""
    total, finer = 0, 0
    for size_px in reversed(config.resolutions_px):
        channels = config.channels(size_px)
        total += channels * size_px**2 * (finer * 9 if finer else 3)
        finer = channels
    coarser = config.channels(4)
    total += 9 * coarser**2 * 16
    for size_px in config.resolutions_px:
        channels = config.channels(size_px)
        if size_px > 4:
            total += 9 * 2 * coarser * channels * (size_px // 2) ** 2 + 9 * 2 * channels**2 * size_px**2
        total += 2 * channels * 3 * size_px**2
        coarser = channels
    return 2 * total / 1e9


def measure_machine(bench: Bench) -> float:
    """TFLOP/s of the bfloat16 peak."""
    machine = bench.result["machine"]
    machine["torch"] = torch.__version__
    machine["cudnn"] = torch.backends.cudnn.version()
    machine["device"] = torch.cuda.get_device_name() if bench.is_cuda else "cpu"
    try:
        import triton

        machine["triton"] = triton.__version__
    except ImportError:
        machine["triton"] = None
    side = 64 if bench.quick else 8192
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        for _ in range(WARM_UPS):
            a @ b
        machine[f"{dtype_name(dtype)} TFLOP/s"] = 2 * side**3 / bench.ms(lambda a=a, b=b: a @ b) / 1e9
    a = torch.empty(2**12 if bench.quick else 2**31, dtype=torch.uint8, device=bench.device)
    b = torch.empty_like(a)
    machine["copy GB/s"] = 2 * a.numel() / bench.ms(lambda: b.copy_(a)) / 1e6
    print(
        ", ".join(
            f"{key}: {value if isinstance(value, str | int | None) else round(value, 1)}"
            for key, value in machine.items()
        )
    )
    return machine["bfloat16 TFLOP/s"]


def in_own_thread(bench: Bench, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` returns or raises.

    PyTorch keeps cuDNN's algorithm for a shape, timed or not, as the first variant got it, and keeps it for the thread:
    in one thread all variants would run with the choices of the first.
    """

    def run() -> dict[str, Any]:
        if bench.is_cuda:
            torch.cuda.set_device(bench.device)
        with torch.inference_mode():
            return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def measure_variant(bench: Bench, variant: Variant, net: Gpen, faces: Tensor, reference: Tensor) -> dict[str, Any]:
    """One row. Raises what the network raises."""
    bench.forget()
    run = variant.build(net)
    if isinstance(run, nn.Module):
        run = run.to(bench.device)
    with convolutions(benchmark=variant.benchmark):
        for _ in range(WARM_UPS if hasattr(run, "graph") else 2):
            output = run(faces)
        batch_ms = bench.ms(lambda: run(faces))
    error = (output[: len(reference)].float() - reference).abs()
    row = {
        "ms a face": batch_ms / len(faces),
        "peak GiB": bench.peak_gib(),
        "largest error": float(error.max()),
        "mean error": float(error.mean()),
    }
    if hasattr(run, "graph") and not run.graph._recordings:
        row["note"] = "no graph was recorded"
    return row


def measure_networks(bench: Bench, size_px: int, batch: int, peak_tflops: float, chosen: list[Variant]) -> None:
    net = random_gpen(size_px, quick=bench.quick, device=bench.device)
    gflop = network_gflop(net.config)
    torch.manual_seed(1)
    faces = (torch.rand(batch, size_px, size_px, 3, device=bench.device) * 2 - 1).permute(0, 3, 1, 2)
    with convolutions(benchmark=False):
        reference = torch.cat([plain_forward(net, face[None]) for face in faces[:2]])
    print(f"\n### {size_px} px, batch {batch} ({gflop:.1f} GFLOP a face, output's deviation {reference.std():.2f})\n")
    print("| network | ms a face | x official | of bf16 peak | peak GiB | largest error | mean error |")
    print("|---|---|---|---|---|---|---|")
    official_ms = None
    for variant in chosen:
        what = f"{size_px} px, batch {batch}: {variant.name}"
        if (variant.cuda_only and not bench.is_cuda) or not bench.fits(
            what, COMPILE_S if "compile" in variant.name else 0
        ):
            continue
        row: dict[str, Any] = {"size_px": size_px, "batch": batch, "network": variant.name, "GFLOP a face": gflop}
        try:
            row |= in_own_thread(bench, lambda v=variant: measure_variant(bench, v, net, faces, reference))
        except Exception as exc:  # the others are measured all the same
            row["note"] = "out of memory" if is_out_of_memory(exc) else f"{type(exc).__name__}: {first_line(exc)}"
            bench.result["networks"].append(row)
            print(f"| {variant.name} | {row['note']} | | | | | |", flush=True)
            continue
        if official_ms is None and variant.name.startswith("official"):
            official_ms = row["ms a face"]
        row["share of bf16 peak"] = gflop / row["ms a face"] / peak_tflops
        row["x official"] = official_ms / row["ms a face"] if official_ms else None
        bench.result["networks"].append(row)
        faster = f"{row['x official']:.2f}" if official_ms else ""
        name = f"{variant.name} ({row['note']})" if "note" in row else variant.name
        print(
            f"| {name} | {row['ms a face']:.3f} | {faster} | {100 * row['share of bf16 peak']:.1f}% | "
            f"{row['peak GiB']:.2f} | {row['largest error']:.1e} | {row['mean error']:.1e} |",
            flush=True,
        )
    bench.forget()


def measure_layers(bench: Bench, size_px: int, batch: int) -> None:
    """Each layer of the fused network alone: where the time goes, and which upsampling is best at which size."""
    from vidrestore.models.fused import FusedGpen

    net = random_gpen(size_px, quick=bench.quick, device=bench.device)
    networks = {how: FusedGpen(net, torch.float16, upsampling=how).to(bench.device) for how in UPSAMPLINGS}
    print(f"\n### Layers of {size_px} px, batch {batch}: ms of the convolution -> with what follows; its TFLOP/s\n")
    print("| layer | " + " | ".join(UPSAMPLINGS) + " |\n|---|---|---|---|")
    plain = networks["transposed"]
    for number, kernel in enumerate(plain.down_kernels):
        if not bench.fits(f"layers of {size_px} px, encoder {number}"):
            return
        out_px = size_px // 2 ** (number + 1)
        row = measure_down(bench, batch, kernel, plain.encoder_biases[number], out_px)
        bench.result["layers"].append({"size_px": size_px, "batch": batch, "layer": f"encoder {number}", **row})
        print(f"| encoder, {out_px} px | {layer_cell(row)} |", flush=True)
    sizes_px = [size for size in net.config.resolutions_px for _ in range(2)][1:]
    for number, out_px in enumerate(sizes_px):
        cells = []
        doubles = plain.layers[number].upsampling is not None
        for how in UPSAMPLINGS if doubles else UPSAMPLINGS[:1]:
            if not bench.fits(f"layers of {size_px} px, {out_px} px, {how}"):
                return
            row = measure_styled(bench, batch, networks[how].layers[number], out_px)
            bench.result["layers"].append({"size_px": size_px, "batch": batch, "layer": number, **row})
            cells.append(layer_cell(row))
        print(f"| {out_px} px{', doubling' if doubles else ''} | " + " | ".join(cells) + " |", flush=True)


def layer_cell(row: dict[str, Any]) -> str:
    return f"{row['convolution ms']:.3f} -> {row['whole ms']:.3f}; {row['TFLOP/s']:.0f}"


def measure_styled(bench: Bench, batch: int, layer: Any, out_px: int) -> dict[str, Any]:
    from vidrestore.models.fused_kernels import Scaled

    in_px = out_px if layer.upsampling is None else out_px // 2
    num_in = layer.kernel.shape[0] if layer.upsampling == "transposed" else layer.kernel.shape[1]
    x = half_picture(batch, num_in, in_px, bench.device)
    features = half_picture(batch, layer.num_out, out_px, bench.device)
    ones = torch.ones(batch, 2 * layer.num_out, device=bench.device)
    gain = ones[:, : layer.num_out]
    scaled = Scaled(gain, layer.bias, layer.bias, layer.feature_gain, layer.feature_bias, ones)

    def conv() -> Tensor:
        if layer.upsampling == "transposed":
            return F.conv_transpose2d(x, layer.kernel, stride=2)
        return F.conv2d(x, layer.kernel, padding=1)

    work = 2 * batch * 9 * num_in * layer.num_out * in_px**2
    times = layer_times(bench, conv, lambda: layer(x, features, scaled, None), work)
    return {"out_px": out_px, "upsampling": layer.upsampling, **times}


def measure_down(bench: Bench, batch: int, kernel: Tensor, bias: Tensor, out_px: int) -> dict[str, Any]:
    from vidrestore.models.fused_kernels import blurred

    x = half_picture(batch, kernel.shape[1], 2 * out_px, bench.device)
    filtered = blurred(x, bias)
    work = 2 * batch * 9 * kernel.shape[0] * kernel.shape[1] * out_px**2
    times = layer_times(
        bench,
        lambda: F.conv2d(filtered, kernel, stride=2),
        lambda: F.conv2d(blurred(x, bias), kernel, stride=2),
        work,
    )
    return {"out_px": out_px, "upsampling": None, **times}


def layer_times(
    bench: Bench, conv: Callable[[], object], whole: Callable[[], object], work_flop: int
) -> dict[str, float]:
    with convolutions(benchmark=True):
        for _ in range(WARM_UPS):
            conv()
            whole()
        conv_ms, whole_ms = bench.ms(conv, 0.03), bench.ms(whole, 0.03)
    return {"convolution ms": conv_ms, "whole ms": whole_ms, "TFLOP/s": work_flop / conv_ms / 1e9}


def half_picture(batch: int, channels: int, size_px: int, device: torch.device) -> Tensor:
    shape = (batch, channels, size_px, size_px)
    return torch.empty(shape, dtype=torch.float16, device=device, memory_format=torch.channels_last).normal_()


def print_profile(bench: Bench, size_px: int, batch: int) -> None:
    """The kernels that take longest."""
    from torch.profiler import ProfilerActivity, profile

    net = network_for_cuda(random_gpen(size_px, quick=bench.quick, device=bench.device), torch.float16, bench.device)
    faces = torch.rand(batch, size_px, size_px, 3, device=bench.device).permute(0, 3, 1, 2) * 2 - 1
    with convolutions(benchmark=True):
        for _ in range(WARM_UPS):
            net(faces)
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as recorded:
            net(faces)
            torch.cuda.synchronize()
    kernels = [(event.key, event.count, event.self_device_time_total / 1000) for event in recorded.key_averages()]
    total_ms = sum(ms for _, _, ms in kernels)
    print(f"\n### Kernels of {size_px} px, batch {batch}: {total_ms:.2f} ms\n\n| kernel | calls | ms |\n|---|---|---|")
    rows = sorted(kernels, key=lambda kernel: -kernel[2])[:20]
    bench.result.setdefault("profile", []).append({"size_px": size_px, "batch": batch, "kernels": rows})
    for name, count, ms in rows:
        print(f"| {name[:110]} | {count} | {ms:.3f} |", flush=True)


# ---- The pipeline


def moving_face(num_frames: int, *, quick: bool) -> Iterator[Any]:
    """720p frames in memory with one face that drifts; no decoder and no detector."""
    from faces import face_at, yuv_frame

    from vidrestore.frame import FrameFaces

    width_px, height_px, side_px = (160, 96, 60) if quick else (1280, 720, 480)
    pictures = [yuv_frame(width_px, height_px) for _ in range(4)]
    for index in range(num_frames):
        drift_px = 0.05 * side_px * np.sin(index / 10)
        face = face_at((width_px / 2 + drift_px, height_px / 2), side_px)
        yield FrameFaces(replace(pictures[index % 4], index=index, pts=index), (face,))


def measure_pipeline(bench: Bench, size_px: int, batch: int) -> None:
    """Frames a second from planes to planes: crops, restoration, pasting and all copies, one frame after the other."""
    from vidrestore.report import Report
    from vidrestore.stages.align import align_faces, place_faces
    from vidrestore.stages.paste import paste_faces
    from vidrestore.stages.restore import restore_faces

    net = random_gpen(size_px, quick=bench.quick, device=bench.device)
    dtype = torch.float16 if bench.is_cuda else torch.float32
    module = network_for_cuda(net, dtype, bench.device) if bench.is_cuda else PreparedGpen(net, dtype)
    spec = ModelSpec("bench", "restorer", "", None, None, None, "", "", crop_px=size_px, template="tight")
    restorer = PytorchRestorer(module, spec=spec, sha256="", device=bench.device, dtype=dtype, graphs=bench.is_cuda)
    waits = {"batch_size": batch, "max_wait_frames": max(batch, 16)}

    def on_host(placed: Iterator[Any], report: Report) -> Iterator[Any]:
        aligned = report.timed("align", align_faces(placed))
        restored = report.timed("batch", restore_faces(aligned, restorer, report, **waits))
        return report.timed("paste", paste_faces(restored, strength=1.0))

    def on_device(placed: Iterator[Any], report: Report) -> Iterator[Any]:
        from vidrestore.device.lane import restored_on_device

        lane = restored_on_device(placed, restorer, report, **waits, strength=1.0, steady=False)
        return report.timed("lane", lane)

    def placed(tracked: Iterable[Any]) -> Iterator[Any]:
        return place_faces(tracked, spec, min_face_px=0, max_faces=None)

    num_frames = 4 if bench.quick else TRANSFER_FRAMES
    for name, way in (("stages on the CPU", on_host), ("all on the device", on_device)):
        if not bench.fits(f"pipeline, {size_px} px, {name}"):
            return
        try:
            for _ in range(WARM_UPS):  # on the CPU a rest comes once each time, of the size that it has below, too
                for _ in way(placed(moving_face(3 * batch, quick=bench.quick)), Report("", "")):
                    pass
            frames = list(moving_face(num_frames, quick=bench.quick))
            report, start_s = Report("", ""), time.perf_counter()
            count = sum(1 for _ in way(placed(frames), report))
            seconds = time.perf_counter() - start_s
        except Exception as exc:
            note = f"{type(exc).__name__}: {first_line(exc)}"
            bench.result["pipeline"].append({"size_px": size_px, "batch": batch, "way": name, "note": note})
            print(f"| {size_px} px, batch {batch}, {name} | {note} | |", flush=True)
            continue
        row = {
            "size_px": size_px, "batch": batch, "way": name, "frames a second": count / seconds,
            "ms a frame": {stage: 1000 * s / count for stage, s in report.seconds_per_stage.items()},
        }  # fmt: skip
        bench.result["pipeline"].append(row)
        stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in row["ms a frame"].items())
        print(f"| {size_px} px, batch {batch}, {name} | {row['frames a second']:.1f} | {stages} |", flush=True)
    bench.forget()


def measure_transfers(bench: Bench) -> None:
    """A batch of 16 faces of 512 px as uint8, over the bus and back, pinned and not."""
    crops = np.zeros((16, 512, 512, 3), np.uint8)
    pageable, pinned = torch.from_numpy(crops), torch.from_numpy(crops).pin_memory()
    there = pinned.to(bench.device)
    rows = {
        "pin": lambda: pageable.pin_memory(),
        "to device, pinned": lambda: there.copy_(pinned, non_blocking=True),
        "to device": lambda: there.copy_(pageable),
        "to host, pinned": lambda: pinned.copy_(there, non_blocking=True),
        "to host": lambda: there.cpu(),
    }
    speeds = {name: crops.nbytes / bench.ms(run, 0.1) / 1e6 for name, run in rows.items()}
    bench.result["machine"] |= {f"{name} GB/s": speed for name, speed in speeds.items()}
    print("\ntransfers, GB/s: " + ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items()))


def first_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0][:200]


def attempt(what: str, bench: Bench, section: Callable[..., None], *arguments: Any) -> None:
    """A section that fails is said and left out."""
    if not bench.fits(what):
        return
    try:
        section(bench, *arguments)
    except Exception as exc:
        bench.result["left_out"].append(f"{what}: {type(exc).__name__}: {first_line(exc)}")
        print(f"failed: {what}: {type(exc).__name__}: {first_line(exc)}", flush=True)
    bench.forget()


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, to see that it runs")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S)
    parser.add_argument("--only", help="variants whose names contain this, everywhere; nothing else is measured")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        device = torch.device("cuda", torch.cuda.current_device())
    bench = Bench(device, quick=given.quick, budget_s=given.budget_s)
    sizes = given.sizes or ([32] if given.quick else [256, 512, 1024, 2048])
    batches = given.batches or ([1, 2] if given.quick else [1, 4, 16])
    pairs = [(size_px, batch) for size_px in sizes for batch in batches]
    first = pairs if given.quick else [pair for pair in FIRST if pair in pairs]

    start_s = time.perf_counter()
    peak_tflops = measure_machine(bench)
    every = variants()
    core = [variant for variant in every if variant.is_core]

    def networks(pairs: list[tuple[int, int]], chosen: list[Variant]) -> None:
        for size_px, batch in pairs:
            attempt(f"{size_px} px, batch {batch}", bench, measure_networks, size_px, batch, peak_tflops, chosen)

    if given.only:
        networks(pairs, [variant for variant in every if given.only in variant.name])
    else:
        # What has a target, then the pipeline, then where the time goes, then all else; torch.compile is last.
        networks(first[:2], every)
        print("\n### 720p, one face a frame\n\n| | frames/s | ms a frame |\n|---|---|---|", flush=True)
        attempt("pipeline", bench, measure_pipeline, *first[0])
        if bench.is_cuda:
            attempt("transfers", bench, measure_transfers)
            for pair in first[:2]:
                attempt("layers", bench, measure_layers, *pair)
                attempt("profile", bench, print_profile, *pair)
        networks(first[2:], every)
        networks([pair for pair in pairs if pair not in first], core)
        if bench.is_cuda:
            networks(first[:1], [compiled(torch.float16)])
    bench.result["seconds"] = time.perf_counter() - start_s
    print(f"\n{bench.result['seconds']:.0f} s; left out: {'; '.join(bench.result['left_out']) or 'nothing'}")
    if given.out:
        given.out.write_text(json.dumps(bench.result, indent=1))
    return bench.result


if __name__ == "__main__":
    main()
