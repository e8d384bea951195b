"""How well a restorer does on faces that it does not know, beside doing nothing and beside two classical filters.

Every face is degraded by every preset at every level; what comes back is compared with the face as it was. All that is
random depends on the names of presets and faces alone: the same call gives the same figures, a larger one the same
pictures for the faces that both have.

Results are judged as a user gets them: 8-bit RGB.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import OptionsError, SourceError
from vidrestore.images import check_image_target, frame_from_rgb, write_image
from vidrestore.models.engines import load_restorer
from vidrestore.models.spec import Restorer
from vidrestore.report import Report
from vidrestore.stages.restore import Batcher
from vidrestore.target import check_target, replaced_when_complete, writing
from vidrestore.training.baselines import BASELINES
from vidrestore.training.degrade import LEVELS, Degradation, Step
from vidrestore.training.degrade_steps import Image, is_grey
from vidrestore.training.evaluation_faces import DEFAULT_COUNT, Split, TrueFaces, load_true_faces
from vidrestore.training.evaluation_result import DEGRADED, GRID_FACES, MEAN, UNTOUCHED, Evaluation, Row, grid, table
from vidrestore.training.measures import PLAIN_MEASURES, Images, Measure, installed_measures

logger = logging.getLogger("vidrestore")

DEFAULT_PRESETS = ("official", "archival", "call")
PRESET_PX = 512
"""Side of the crop that the presets' lengths are given for."""
CHUNK_FACES = 8
"""Degraded, restored and measured together."""


def evaluate(
    restorer: Restorer,
    faces: TrueFaces,
    presets: Sequence[str] = DEFAULT_PRESETS,
    *,
    measures: Mapping[str, Measure] = PLAIN_MEASURES,
    absent: Mapping[str, str] | None = None,
) -> Evaluation:
    """Every face through every preset at every level, as it is, and as it is but grey. Raises OptionsError."""
    spec = restorer.spec
    batcher = Batcher(restorer, Report(source="faces", target="figures"), CHUNK_FACES)
    methods = (DEGRADED, *BASELINES, spec.name)
    rows: list[Row] = []
    tint = dict.fromkeys(methods, 0)
    pictures: dict[tuple[str, str], Images] = {}
    with ThreadPoolExecutor() as pool:
        for (preset, level), degradation in _degradations(presets, faces.crops.shape[1]).items():
            figures: dict[str, list[dict[str, NDArray[np.float64]]]] = {method: [] for method in methods}
            for start in range(0, len(faces.names), CHUNK_FACES):
                chunk = slice(start, start + CHUNK_FACES)
                damage = functools.partial(_damaged, degradation, preset)
                pairs = list(pool.map(damage, faces.crops[chunk], faces.names[chunk]))
                inputs, truths = (np.stack(images) for images in zip(*pairs, strict=True))
                results = _results(pool, batcher, inputs)
                for method, measured in _measured(pool, results, truths, measures).items():
                    figures[method].append(measured)
                for method, levels in _tints(results).items():
                    tint[method] = max(tint[method], levels)
                if start == 0:
                    pictures[preset, level] = np.stack([truths, *results.values()], axis=1)[:GRID_FACES]
            for method, parts in figures.items():
                means = {key: float(np.concatenate([part[key] for part in parts]).mean()) for key in measures}
                rows.append(Row(preset, level, method, means))
            before, after = rows[-len(methods)].figures["psnr_db"], rows[-1].figures["psnr_db"]
            logger.info("%s %s: %.2f dB, restored %.2f dB", preset, level, before, after)
    rows += _means(rows, presets, methods)
    model = {
        "name": spec.name,
        "sha256": restorer.sha256,
        "crop_px": spec.crop_px,
        "template": spec.template,
        "device": restorer.device_name,
        "dtype": restorer.dtype_name,
    }
    return Evaluation(model, faces.names, methods, tuple(rows), tint, absent or {}, pictures)


def _degradations(presets: Sequence[str], crop_px: int) -> dict[tuple[str, str], Degradation]:
    """(preset, level) -> what is done to the faces."""
    if not presets:
        raise OptionsError("--presets names none; leave it out for the usual ones")
    length_scale = crop_px / PRESET_PX
    chosen = {preset: Degradation.preset(preset, length_scale=length_scale) for preset in presets}
    levels = {(preset, level): whole.at_level(level) for preset, whole in chosen.items() for level in LEVELS}
    grey = Degradation((Step("grey", 1.0, {}),))
    return {**levels, (UNTOUCHED, "clean"): Degradation(()), (UNTOUCHED, "grey"): grey}


def _damaged(degradation: Degradation, preset: str, crop: Image, name: str) -> tuple[Image, Image]:
    """(input, truth). All levels of a preset begin with the same draws, so they mostly take the same steps."""
    digest = hashlib.sha256(f"{preset} {Path(name).name}".encode()).digest()
    return degradation.pair(crop, np.random.default_rng(int.from_bytes(digest[:8], "big")))


def _results(pool: ThreadPoolExecutor, batcher: Batcher, inputs: Images) -> dict[str, Images]:
    """What each method makes of the inputs."""
    filtered = {name: np.stack(list(pool.map(baseline, inputs))) for name, baseline in BASELINES.items()}
    return {DEGRADED: inputs, **filtered, batcher.restorer.spec.name: batcher.restore(inputs)}


def _tints(results: Mapping[str, Images]) -> dict[str, int]:
    """Method -> largest difference between the channels of a result whose input is grey; empty if none is."""
    greys = [is_grey(image) for image in results[DEGRADED]]
    return {method: int(np.ptp(images[greys], axis=-1).max()) for method, images in results.items() if any(greys)}


def _measured(
    pool: ThreadPoolExecutor, results: Mapping[str, Images], truths: Images, measures: Mapping[str, Measure]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Method -> figure -> (N,)."""
    jobs = {
        method: {key: pool.submit(measure, images, truths) for key, measure in measures.items()}
        for method, images in results.items()
    }
    return {method: {key: job.result() for key, job in of_method.items()} for method, of_method in jobs.items()}


def _means(rows: Sequence[Row], presets: Sequence[str], methods: Sequence[str]) -> Iterator[Row]:
    """Averages over the presets, level by level."""
    for level in LEVELS:
        for method in methods:
            cells = [
                row.figures for row in rows if (row.level, row.method) == (level, method) and row.preset in presets
            ]
            yield Row(MEAN, level, method, {key: float(np.mean([cell[key] for cell in cells])) for key in cells[0]})


def run(
    model: str,
    folders: Sequence[Path],
    *,
    presets: Sequence[str] = DEFAULT_PRESETS,
    count: int = DEFAULT_COUNT,
    split: Split = "val",
    only: str = "*",
    json_path: Path | None = None,
    grid_path: Path | None = None,
    device: str = "auto",
) -> str:
    """What `vidrestore evaluate` does: writes the files that are asked for, gives the tables as Markdown.

    `model` is a name of the catalogue, a weights file or an ONNX file. Raises InputError before the work where it can.
    """
    if not folders:
        raise SourceError("no faces given; name a folder of faces (--faces)")
    for path in (json_path, grid_path):
        if path is not None:
            check_target(path, folders[0], overwrite=True)
    if grid_path is not None:
        check_image_target(grid_path)
    _degradations(presets, PRESET_PX)  # an unknown preset is said now
    restorer = load_restorer(model, device=device)
    faces = load_true_faces(folders, restorer.spec, count=count, split=split, only=only, device=device)
    assert restorer.spec.template is not None, "every restorer names its template"
    more_measures, absent = installed_measures(device, restorer.spec.template)
    evaluation = evaluate(restorer, faces, presets, measures={**PLAIN_MEASURES, **more_measures}, absent=absent)
    if json_path is not None:
        with replaced_when_complete(json_path) as temporary, writing(json_path):
            temporary.write_text(json.dumps(evaluation.as_dict(), indent=1) + "\n", encoding="utf-8")
    if grid_path is not None:
        write_image(grid_path, frame_from_rgb(grid(evaluation)), {})
    return table(evaluation)
