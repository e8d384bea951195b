"""The training room's part of the command line: `vidrestore train ...` and `vidrestore evaluate`."""

import dataclasses
import json
from pathlib import Path

import click

PATH = click.Path(path_type=Path)


@click.group(invoke_without_command=True)
@click.option("--config", type=PATH, help="TOML file of the run, such as configs/train_gpen_lite.toml.")
@click.option("--faces", help="Folder of faces or packed file, instead of the config's.")
@click.option("--folder", type=PATH, help="Folder of the run; goes on with what is there. [default: runs/NAME]")
@click.option("--start-from", type=PATH, help="Checkpoint (ours, or of GPEN's own script) to begin a new run with.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.pass_context
def train(
    context: click.Context,
    config: Path | None,
    faces: str | None,
    folder: Path | None,
    start_from: Path | None,
    device: str,
) -> None:
    """Train a restorer, or prepare and use what training needs.

    Ctrl-C leaves a checkpoint, and the same command goes on from it. On several GPUs:
    torchrun --nproc-per-node N -m vidrestore train --config ...
    """
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise click.UsageError("--config is missing; name a TOML file such as configs/train_gpen_lite.toml")
    from vidrestore.training.config import TrainConfig
    from vidrestore.training.train import run

    run(TrainConfig.from_toml(config), faces=faces, folder=folder, start_from=start_from, device=device)


@train.command()
@click.argument("faces", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The packed file to write.")
@click.option("--template", default="tight", show_default=True, help="How faces are laid out; that of the model.")
@click.option("--size", "crop_px", default=160, show_default=True, help="Side of the crops in pixels.")
def pack(faces: Path, output: Path, template: str, crop_px: int) -> None:
    """Align all faces of the folder FACES into one file that keeps a fast GPU fed."""
    from vidrestore.training.packed import pack as pack_faces

    pack_faces(faces, output, template=template, crop_px=crop_px)


@train.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The .safetensors file to write.")
@click.option("--half", is_flag=True, help="Store float16: half the bytes, as in the embedded models.")
def export(checkpoint: Path, output: Path, half: bool) -> None:
    """Make a weights file from CHECKPOINT, a step_*.pt or the folder of a run (then its newest)."""
    from vidrestore.training.export import export_restorer

    export_restorer(checkpoint, output, half=half)


@train.command()
@click.option("--config", type=PATH, required=True, help="TOML file of the recipe.")
@click.option("--faces", type=PATH, required=True, help="Folder of faces with landmarks.tsv.")
@click.option("--teacher", type=PATH, help="RetinaFace weights. [default: retinaface-mobilenet0.25, as pulled]")
@click.option("--backgrounds", type=PATH, help="Folder of pictures without faces. [default: scikit-image's samples]")
@click.option("--folder", type=PATH, default=Path("runs/retinaface-lite"), show_default=True)
def detector(config: Path, faces: Path, teacher: Path | None, backgrounds: Path | None, folder: Path) -> None:
    """Train the embedded detector, or go on from what is in the folder of the run."""
    from vidrestore.models.weights import find
    from vidrestore.training.detector import DetectorTraining, load_teacher, train_detector
    from vidrestore.training.detector_pictures import load_backgrounds, load_face_pictures, sample_backgrounds
    from vidrestore.training.detector_scenes import SceneMaker
    from vidrestore.training.stopping import StopSignal

    recipe = DetectorTraining.from_toml(config)
    network = load_teacher(teacher or find("retinaface-mobilenet0.25").path)
    scenery = load_backgrounds(backgrounds or sample_backgrounds())
    maker = SceneMaker(load_face_pictures(faces), scenery, recipe.size_px)
    stop = StopSignal()
    stop.install()
    train_detector(recipe, maker, network, folder, stop)


@train.command()
@click.argument("checkpoint", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The .safetensors file to write.")
@click.option("--figures", type=PATH, help="What `compare-detectors --json` wrote.")
def export_detector(checkpoint: Path, output: Path, figures: Path | None) -> None:
    """Make a weights file from CHECKPOINT, or from the newest in the folder of a run."""
    from vidrestore.training import detector

    known = json.loads(figures.read_text()) if figures else None
    detector.export_detector(checkpoint, output, figures=known)


@train.command()
@click.option("--weights", type=PATH, required=True, help="The student's file.")
@click.option("--teacher", type=PATH, help="RetinaFace weights. [default: retinaface-mobilenet0.25, as pulled]")
@click.option(
    "--pictures", "folders", type=PATH, required=True, multiple=True, help="Stills or clips; may be repeated."
)
@click.option("--frames", "num_frames", default=24, show_default=True, help="Frames taken from each clip.")
@click.option("--json", "json_path", type=PATH, help="Also write the figures here.")
def compare_detectors(
    weights: Path, teacher: Path | None, folders: tuple[Path, ...], num_frames: int, json_path: Path | None
) -> None:
    """A student beside its teacher, on pictures that took no part in the training."""
    from vidrestore.models.weights import find
    from vidrestore.training import detector_evaluation

    student = detector_evaluation.as_detector(weights)
    reference = detector_evaluation.as_detector(teacher or find("retinaface-mobilenet0.25").path)
    results = {}
    for folder in folders:
        pictures = detector_evaluation.load_pictures(folder, num_frames)
        figures = detector_evaluation.compare_detectors(student, reference, pictures)
        click.echo(f"{folder.name}\n\n{detector_evaluation.table(figures)}\n")
        results[folder.name] = [dataclasses.asdict(row) for row in figures]
    if json_path:
        json_path.write_text(json.dumps(results, indent=1))


@click.command()
@click.option("--model", required=True, help="Name of a restorer, or a weights file.")
@click.option("--faces", type=PATH, required=True, multiple=True, help="Folder of faces; may be repeated.")
@click.option("--only", default="*", show_default=True, help="Take the files whose names match.")
@click.option("--presets", default="official,archival,call", show_default=True, help="Ways to degrade them.")
@click.option("--count", default=96, show_default=True, help="Faces at most, always the same ones.")
@click.option(
    "--split",
    type=click.Choice(["val", "all"]),
    default="val",
    show_default=True,
    help="Of folders with landmarks.tsv.",
)
@click.option("--json", "json_path", type=PATH, help="Write all figures here.")
@click.option("--grid", "grid_path", type=PATH, help="Write a picture of some faces here, side by side.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
def evaluate(
    model: str,
    faces: tuple[Path, ...],
    only: str,
    presets: str,
    count: int,
    split: str,
    json_path: Path | None,
    grid_path: Path | None,
    device: str,
) -> None:
    """Figures of a restorer on faces it does not know, beside the degraded faces and two classical filters."""
    from vidrestore.training.evaluation import run

    table = run(
        model,
        faces,
        presets=tuple(name.strip() for name in presets.split(",")),
        count=count,
        split="all" if split == "all" else "val",
        only=only,
        json_path=json_path,
        grid_path=grid_path,
        device=device,
    )
    click.echo(table)
