"""A `BenchResult` as lines for people."""

from collections.abc import Iterator, Sequence

from vidrestore.bench.result import BenchResult, ClipTiming, ModelResult, Timing

HEADINGS = ("engine", "computes with", "dtype", "batch", "ms a face", "GFLOP/s", "of ceiling", "error", "memory")


def table(result: BenchResult) -> str:
    """Lines without a newline at the end; the last says which flags to use."""
    return "\n".join(_lines(result))


def _lines(result: BenchResult) -> Iterator[str]:
    threads = f", {result.num_threads} threads" if result.device == "cpu" else ""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    yield f"{result.device}: {result.device_name}{threads}; {versions}"
    speeds = ", ".join(f"{dtype} {speed:,.0f} GFLOP/s" for dtype, speed in result.ceiling_gflops.items())
    yield f"ceiling, a convolution of 512 channels: {speeds}"
    for model in result.models:
        yield ""
        yield from _model(model)
    yield ""
    yield "Errors are the largest and the mean difference from PyTorch in float32, in levels of 255, on a portrait."
    yield f"It took {result.seconds_total:.0f} s. Fastest here, for `vidrestore restore`:"
    for model in result.models:
        yield _advice(model)


def _model(model: ModelResult) -> Iterator[str]:
    work = f", {model.gflop:.3g} GFLOP a face" if model.gflop is not None else ""
    yield f"{model.model}: {model.crop_px} px{work}"
    yield from _aligned([HEADINGS, *map(_row, model.timings)])
    for reason in model.skipped:
        yield f"  skipped: {reason}"
    if model.clip is not None:
        yield from _clip(model.clip)


def _row(timing: Timing) -> tuple[str, ...]:
    speed = "-" if timing.gflops is None else f"{timing.gflops:,.0f}"
    share = "-" if timing.share_of_ceiling is None else f"{timing.share_of_ceiling:.0%}"
    memory = "-" if timing.memory_mb is None else f"{timing.memory_mb:,} MB"
    time = f"{timing.ms_a_face:,.2f}" if timing.ms_a_face < 10 else f"{timing.ms_a_face:,.0f}"
    what = (timing.engine, timing.provider, timing.dtype, str(timing.batch_size))
    return (*what, time, speed, share, _error(timing), memory)


def _error(timing: Timing) -> str:
    if timing.largest_error_levels is None or timing.mean_error_levels is None:
        return "-"
    return f"{timing.largest_error_levels}, {timing.mean_error_levels:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Words to the left, the numbers from the fourth column on to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if number < 3 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells)


def _clip(clip: ClipTiming) -> Iterator[str]:
    a_frame = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in clip.seconds_a_frame.items())
    yield f"  {clip.source}: {clip.num_frames} frames, {clip.num_faces} faces; ms a frame: {a_frame}"
    yield f"  expect {clip.frames_per_second:.1f} frames/s; {clip.limiting_stage} is what limits it"


def _advice(model: ModelResult) -> str:
    best, exact = model.fastest, model.fastest_float32
    if best is None:
        return f"{model.model}: nothing could be measured"
    if best.dtype == "float32" or best.largest_error_levels is None or exact is None:
        return model.flags
    changed = f"differs from float32 by up to {best.largest_error_levels} levels of 255"
    changed += f", {best.mean_error_levels:.2f} on average"
    slower = f"--engine {exact.engine} --dtype float32 takes {exact.ms_a_face / best.ms_a_face:.1f} times as long"
    return f"{model.flags}  ({changed}; {slower})"
