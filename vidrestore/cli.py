"""The command line: flags built from the fields of Options; the only module that prints."""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from vidrestore import __version__
from vidrestore.allocator import keep_freed_memory
from vidrestore.errors import InputError, OptionsError, VidrestoreError, WeightsError
from vidrestore.options import Options, plain_type
from vidrestore.report import Report

EXIT_FAILURE = 1
"""A failure that is not the user's."""
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_HUNG_UP = 129
"""128 + the signal's number, as shells have it."""
UNWINDING_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
    UNWINDING_SIGNALS.append(signal.SIGHUP)  # the terminal was closed; nohup has it ignored

log = logging.getLogger("vidrestore")


class PrintError(VidrestoreError):
    """Stdout takes no more: its disk is full, or whoever read it has gone."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code. Errors are one line on stderr."""
    open_closed_streams()
    keep_freed_memory()
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        with unwound_by_signals(), cli.make_context("vidrestore", words) as context:
            cli.invoke(context)
    except click.exceptions.Exit as exc:  # --help, --version
        sys.exit(exc.exit_code)
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        sys.exit(EXIT_BAD_INPUT)
    except click.ClickException as exc:
        _leave(EXIT_BAD_INPUT, f"{exc.format_message()} (see vidrestore --help)")
    except HungUp as exc:
        _leave(EXIT_HUNG_UP, f"the terminal was closed; {_with_notes(exc) or 'nothing was written'}")
    except Terminated as exc:
        _leave(EXIT_TERMINATED, f"terminated; {_with_notes(exc) or 'nothing was written'}")
    except KeyboardInterrupt as exc:
        _leave(EXIT_INTERRUPTED, f"interrupted; {_with_notes(exc) or 'nothing was written'}")
    except InputError as exc:
        _leave(EXIT_BAD_INPUT, _with_notes(exc))
    except PrintError as exc:
        _give_up_stdout()
        _leave(EXIT_FAILURE, str(exc))
    except VidrestoreError as exc:
        _leave(EXIT_FAILURE, _with_notes(exc))
    except BrokenPipeError:
        _give_up_stdout()
        sys.exit(EXIT_FAILURE)
    except MemoryError as exc:
        _leave(EXIT_FAILURE, f"out of memory; {_with_notes(exc) or 'close other programs'}")
    except Exception as exc:
        log.debug("unexpected failure", exc_info=True)
        what = f"unexpected failure: {type(exc).__name__}: {_with_notes(exc)}"
        _leave(EXIT_FAILURE, f"{what}; run `vidrestore --debug ...` for more, and report it")


def open_closed_streams() -> None:
    """A service may start us without standard streams: then the first files opened would get what is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as we run


class Terminated(KeyboardInterrupt):
    """SIGTERM: unwinds like Ctrl-C, so that nothing half-written is left behind."""


class HungUp(KeyboardInterrupt):
    """SIGHUP, likewise."""


@contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM unwind the program once; more of them are ignored while it puts things in order.

    A second KeyboardInterrupt in the middle of stopping a thread would leave it running and its files behind.
    """
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield
        return

    def unwind(number: int, _frame: FrameType | None) -> None:
        for ignored in UNWINDING_SIGNALS:
            signal.signal(ignored, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated if number == signal.SIGTERM else HungUp

    previous = {number: signal.signal(number, unwind) for number in UNWINDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _with_notes(error: BaseException) -> str:
    """What it says, and what was noted of it on its way up."""
    return "; ".join(filter(None, [str(error), *getattr(error, "__notes__", [])]))


def _leave(code: int, message: str) -> None:
    _say(f"vidrestore: error: {' '.join(message.split())}")
    sys.exit(code)


def _print(text: str, *, complete: Path | str | None = None) -> None:
    """On stdout. Raises PrintError, which names the file that is complete all the same, so that nobody makes it anew;
    BrokenPipeError where there is none and the reader has seen enough, as that of `| head` has."""
    try:
        click.echo(text)
    except OSError as exc:
        if complete is None and isinstance(exc, BrokenPipeError):
            raise
        done = "" if complete is None else f"{complete}: is complete, but "
        raise PrintError(
            f"{done}what was to be printed could not be ({exc.strerror}); send stdout to where it can be written"
        ) from exc


def _give_up_stdout() -> None:
    """Python would try once more at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    """On stderr, where somebody may look on or nobody: no reason to fail."""
    with suppress(OSError):
        click.echo(text, err=True)


def option_flags(command: Callable[..., Any], names: Collection[str] | None = None) -> Callable[..., Any]:
    """Add one flag for every field of Options, or for those of these names, in their order."""
    for spec in reversed(fields(Options)):
        if names is not None and spec.name not in names:
            continue
        kind, _, words = plain_type(spec)
        name = "--" + spec.name.replace("_", "-")
        help_text = spec.metadata["help"]
        if kind is bool:
            command = click.option(f"{name}/--no-{name[2:]}", default=None, help=help_text)(command)
            continue
        if spec.metadata["is_time"]:
            shown: Any = click.STRING
        elif words:
            shown = click.Choice(words)
        else:
            shown = {int: click.INT, float: click.FLOAT, Path: click.Path(path_type=Path)}.get(kind, click.STRING)
        default = "" if spec.default is None else f" [default: {spec.default}]"
        command = click.option(name, type=shown, default=None, help=help_text + default)(command)
    return command


class WithTrainingRoom(click.Group):
    """Opens the training room only when one of its commands is called: restoring must work without it."""

    TRAINING_COMMANDS = ("evaluate", "train")

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), *self.TRAINING_COMMANDS])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.TRAINING_COMMANDS:
            return super().get_command(context, name)
        from vidrestore.training import commands

        return {"evaluate": commands.evaluate, "train": commands.train}[name]


class OneLine(logging.Formatter):
    """For messages that name files, whose names may have several."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the standard library
        return in_one_line(super().formatMessage(record))


def in_one_line(text: str) -> str:
    return " ".join(text.splitlines())


@click.group(cls=WithTrainingRoom, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show what goes on inside.")
def cli(debug: bool) -> None:
    """Restore the faces in a video; keep everything else as it was."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(logging.DEBUG if debug else logging.INFO)


ANALYSIS_OPTIONS = frozenset(
    ("model", "detector", "device", "stream", "rate", "start", "end", "detect_every", "lag", "min_face_px", "max_faces")
    + ("decoder", "overwrite", "resume")
)
"""What decides where faces are, and how much each is restored."""


@cli.command()
@click.argument("input", type=click.Path(path_type=Path))
@click.option("--faces", type=click.Path(path_type=Path), help="[default: <stem>_faces.json beside INPUT]")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file of options; flags win over it.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@partial(option_flags, names=ANALYSIS_OPTIONS)
def analyze(input: Path, faces: Path | None, config: Path | None, quiet: bool, **flags: Any) -> None:
    """Find the faces of a video and write them to a file, for `vidrestore restore --from-faces`.

    Choose among the tracks with --tracks, or edit the file: delete faces, set a face's "strength" or "restored", or
    add to "edits" what becomes of a track, such as {"track_id": 2, "from_s": 1.5, "to_s": 4, "strength": 0.5}.
    """
    from vidrestore.faces_file.read import read_faces_file
    from vidrestore.faces_file.summary import tracks_of
    from vidrestore.images import is_image
    from vidrestore.pipeline import analyze_video
    from vidrestore.progress import Progress
    from vidrestore.video.sequence import find_sequence, is_sequence

    if is_image(input) and not is_sequence(input):
        raise OptionsError(f"{input}: is a still image, whose faces are not tracked; restore it at once")
    options = Options() if config is None else Options.from_toml(config)
    given = {name: value for name, value in flags.items() if value is not None}
    options = options.changed(given, origin="command line")
    if quiet:
        log.setLevel(logging.ERROR)
    named = find_sequence(input).folder.absolute() if is_sequence(input) else input
    path = faces or named.with_name(f"{named.stem}_faces.json")
    with Progress(quiet=quiet) as progress:
        analyze_video(input, path, options, on_frame=progress.update)
    if not quiet:
        lines = ["track       from, s         to, s   frames   eyes apart, px   strength"]
        for track in tracks_of(read_faces_file(path)):
            lines.append(
                f"{track.track_id:5}  {track.begin_s:12.3f}  {track.end_s:12.3f}  {track.num_frames:7}  "
                f"{track.eyes_apart_px:15.1f}  {track.strength:9.2f}"
            )
        _print("\n".join([*lines, str(path)]), complete=path)


@cli.command()
@click.argument("input", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(), help="[default: <stem>_restored<suffix> beside INPUT]")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file of options; flags win over it.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the final report as one JSON object.")
@option_flags
def restore(input: Path, output: str | None, config: Path | None, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Restore the faces in a video, a still image or a sequence of images.

    A sequence of PNG, TIFF or DPX images is a folder, or a pattern such as scans/frame_%06d.dpx, as INPUT and as output
    (a new folder with a slash at its end).
    """
    options = Options() if config is None else Options.from_toml(config)
    given = {name: value for name, value in flags.items() if value is not None}
    options = options.changed(given, origin="command line")
    report = run(input, target_for(input, output), options, quiet=quiet)
    if as_json:
        _print(json.dumps(report.as_dict()), complete=report.target)
    elif not quiet:
        _say(summary(report))


def target_for(source: Path, output: str | None) -> Path:
    """What to write for an output as it was typed."""
    from vidrestore.images import is_image
    from vidrestore.video.sequence import is_sequence
    from vidrestore.video.sequence_target import default_target, resolved_target

    if output is None and is_sequence(source):
        return default_target(source)
    if output is None:
        return source.with_name(f"{source.stem}_restored{source.suffix}")
    is_still = is_image(source) and not is_sequence(source)
    return Path(output) if is_still else resolved_target(source, output)


def run(source: Path, target: Path, options: Options, *, quiet: bool) -> Report:
    """Restore with a progress display on stderr."""
    from vidrestore.images import is_image
    from vidrestore.pipeline import restore_video
    from vidrestore.progress import Progress
    from vidrestore.still import restore_still
    from vidrestore.video.sequence import is_sequence

    if quiet:
        log.setLevel(logging.ERROR)
    is_still = is_image(source) and not is_sequence(source)
    restore_file = restore_still if is_still else restore_video
    with Progress(quiet=quiet) as progress:
        return restore_file(source, target, options, on_frame=progress.update)


def summary(report: Report) -> str:
    """A few lines for people."""
    rate = report.num_frames / report.seconds_total if report.seconds_total else 0.0
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.seconds_per_stage.items() if seconds >= 0.05)
    reused = f" ({report.num_faces_reused} not anew)" if report.num_faces_reused else ""
    lines = [
        f"{in_one_line(report.target)}: {report.num_frames} frames, "
        f"{report.num_faces_restored} faces restored{reused}, {report.num_faces_skipped} left alone, "
        f"{report.num_tracks} tracks",
        f"{report.seconds_total:.1f} s ({rate:.1f} frames/s) with {report.model} on {report.device}; seconds: {stages}",
    ]
    return "\n".join(lines)


@cli.command()
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--quiet", is_flag=True, help="Say nothing but errors and where the files are.")
def demo(folder: Path, quiet: bool) -> None:
    """Make a short bad clip, restore it, and leave both to look at. Needs no download."""
    from vidrestore.demo import make_demo

    for path in make_demo(folder, lambda source, target, options: run(source, target, options, quiet=quiet)):
        _print(str(path))


@cli.command()
@click.argument("input", type=click.Path(path_type=Path))
def info(input: Path) -> None:
    """Say what is in a video: streams, colours, clock, and faces in a sample of frames."""
    from vidrestore.info import describe

    for line in describe(input):
        _print(line)


@cli.command("report")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("restored", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="[default: <stem>_report.html beside RESTORED]")
@click.option("--faces", type=click.Path(path_type=Path), help="The faces file of the run; else faces are looked for.")
@click.option("--reference", type=click.Path(path_type=Path), help="The clean video, where there is one.")
@click.option("--start", help="The --start of the run.")
@click.option("--end", help="The --end of the run.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--overwrite", is_flag=True, help="Replace a report that exists.")
def report_command(
    source: Path,
    restored: Path,
    output: Path | None,
    faces: Path | None,
    reference: Path | None,
    overwrite: bool,
    **run_flags: Any,
) -> None:
    """Measure what RESTORED made of the faces in SOURCE: a page with figures, plots and pictures, and a JSON file.

    Flicker, sharpness, trembling, delay and likeness, before and after; each is explained in the page.
    """
    from vidrestore.metrics.run import report_on

    given = {name: value for name, value in run_flags.items() if value is not None}
    options = Options().changed(given, origin="command line")
    page = output or restored.with_name(f"{restored.stem}_report.html")
    report_on(
        source,
        restored,
        page,
        faces=faces,
        reference=reference,
        start_s=options.start,
        end_s=options.end,
        device=options.device,
        overwrite=overwrite,
    )
    _print(str(page), complete=page)


@cli.command()
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The .onnx file to write.")
@click.option("--half", is_flag=True, help="Compute in float16, with styles and the image in float32.")
@click.option("--dynamic-batch", is_flag=True, help="Take any number of faces at once, not one.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
def export(model: str, output: Path, half: bool, dynamic_batch: bool, overwrite: bool) -> None:
    """Write the restorer MODEL (a name or a weights file) as an ONNX file, checked against PyTorch.

    Opset 17; `input` and `output` are (N, 3, S, S) float32 RGB in [-1, 1], N is 1 or dynamic; the file says its name,
    template, crop_px, license, source, precision and the sha256 of the weights.
    """
    from vidrestore.models import export as exporter

    progress = sys.stderr.isatty()
    difference = exporter.export(
        model, output, half=half, dynamic_batch=dynamic_batch, overwrite=overwrite, progress=progress
    )
    megabytes = output.stat().st_size / 1e6
    facts = f"{megabytes:.1f} MB; largest difference from PyTorch {difference:.2g} in [-1, 1]"
    _print(f"{output}: {facts}", complete=output)


@cli.command()
@click.argument("clip", type=click.Path(path_type=Path), required=False)
@click.option("--model", "names", multiple=True, help="A name or a file; may be repeated. [default: all installed]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--quick", is_flag=True, help="Seconds instead of minutes for each model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def bench(clip: Path | None, names: tuple[str, ...], device: str, quick: bool, as_json: bool) -> None:
    """Measure which engine, precision and batch are fastest here, and how many frames a second to expect of CLIP.

    Without CLIP, that is a made one of 1280x720 with one face. The last line says which flags to use.
    """
    from vidrestore.bench.run import bench as measure
    from vidrestore.bench.table import table

    if log.level > logging.DEBUG:
        log.setLevel(logging.WARNING)  # what the pipeline tells of each run is nothing to the table
    result = measure(clip, models=names, device=device, quick=quick)
    _print(json.dumps(result.as_dict()) if as_json else table(result))


@cli.group()
def models() -> None:
    """List, download and check models."""


@models.command("list")
def models_list() -> None:
    """Every model of the catalogue, whether it is here, and what can run ONNX files."""
    from vidrestore.models.backends.onnx_providers import describe_onnxruntime
    from vidrestore.models.catalog import CATALOG
    from vidrestore.models.weights import installed_path, weights_folder

    _print(f"weights folder: {weights_folder()}")
    for spec in CATALOG.values():
        state = "embedded" if spec.url is None else "installed" if installed_path(spec) else "not installed"
        size = f"{spec.crop_px} px" if spec.crop_px else ""
        _print(f"{spec.name:26}{spec.kind:10}{size:8}  {state:14}{spec.license}")
    _print(describe_onnxruntime())


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Download a model."""
    from vidrestore.models.download import pull as pull_model

    path = pull_model(name, progress=sys.stderr.isatty()).path
    _print(str(path), complete=path)


@models.command()
def verify() -> None:
    """Compare every installed model with its hash."""
    from vidrestore.models.weights import verify as verify_models

    checks = verify_models()
    for check in checks:
        if check.problem:
            _print(f"{check.spec.name}: {check.problem}")
        elif check.path:
            known = "as expected" if check.expected_sha256 else "nothing to compare with"
            _print(f"{check.spec.name}: {check.sha256} ({known})")
    if any(check.problem for check in checks):
        raise WeightsError("some models are damaged or missing; the lines above say what to do")


if __name__ == "__main__":
    main()
