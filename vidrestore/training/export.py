"""Make a weights file from a checkpoint: `python -m vidrestore.training.export CKPT -o weights/NAME.safetensors`."""

import logging
from pathlib import Path

import click
import torch

from vidrestore.errors import InputError, WeightsError
from vidrestore.models.weights import write_weights
from vidrestore.training.train import TrainConfig, checkpoints, load_checkpoint

logger = logging.getLogger("vidrestore")


def export_restorer(checkpoint: Path, target: Path, *, half: bool = True) -> None:
    """Write the averaged network of a checkpoint, or of the newest in a run's folder, as safetensors, with metadata.

    `half` stores float16: half the bytes; `Gpen.from_state_dict` computes in float32 all the same. A reader never sees
    a file that is partly written. Raises WeightsError when the checkpoint cannot be used.
    """
    if checkpoint.is_dir():
        found = checkpoints(checkpoint)
        if not found:
            raise WeightsError(f"{checkpoint}: holds no checkpoint step_*.pt; train first")
        checkpoint = found[-1]
    saved = load_checkpoint(checkpoint)
    config = TrainConfig.from_table(saved["config"])
    dtype = torch.float16 if half else torch.float32
    tensors = {key: value.to(dtype).contiguous() for key, value in saved["g_ema"].items()}
    metadata = {
        "kind": "restorer",
        "name": config.name,
        "template": config.template,
        "crop_px": str(config.model.size_px),
        "license": config.license,
        "data": config.data_note,
        "steps": str(saved["steps_done"]),
        "minutes": f"{saved['elapsed_s'] / 60:.0f}",
    }
    metadata |= {f"val_{key}": f"{value:.3f}" for key, value in saved["val"].items()}
    write_weights(tensors, metadata, target)
    logger.info("%s: %.1f MB from %s", target, target.stat().st_size / 1e6, checkpoint)


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The .safetensors file to write.")
@click.option("--full", is_flag=True, help="Store float32 instead of float16.")
def main(checkpoint: Path, output: Path, full: bool) -> None:
    """Make a weights file from CHECKPOINT, a step_*.pt or the folder of a run (then its newest)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        export_restorer(checkpoint, output, half=not full)
    except InputError as exc:
        raise click.ClickException(str(exc)) from exc


if __name__ == "__main__":
    main()
