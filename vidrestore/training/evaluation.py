"""How well a restorer does on faces that it does not know, beside doing nothing and beside two classical filters.

Every face is degraded by every preset at every level; what comes back is compared with the face as it was. All that is
random depends on the names of presets and faces alone: the same call gives the same figures, a larger one the same
pictures for the faces that both have.

Results are judged as a user gets them: 8-bit RGB.
"""

import fnmatch
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidrestore.errors import InputError, OptionsError, SourceError
from vidrestore.face import template_px
from vidrestore.images import check_image_target, frame_from_rgb, write_image
from vidrestore.models.backends.pytorch import load_detector, load_restorer, resolve_device
from vidrestore.models.catalog import EMBEDDED_DETECTOR
from vidrestore.models.spec import ModelSpec, Restorer
from vidrestore.report import Report
from vidrestore.stages.restore import Batcher
from vidrestore.target import check_target, replaced_when_complete, writing
from vidrestore.training.data import DataConfig, in_val, name_hash, stack_images, to_network
from vidrestore.training.degrade import LEVELS, Degradation, Image, Step, is_grey
from vidrestore.training.losses import gradient_energy
from vidrestore.training.packed import (
    LANDMARKS_TABLE,
    align_face,
    detail,
    eye_distance_px,
    found_landmarks_px,
    picture_names,
    read_landmarks,
    read_picture,
)

logger = logging.getLogger("vidrestore")

Images = NDArray[np.uint8]
"""(N, S, S, 3) RGB."""
Measure = Callable[[Images, Images], NDArray[np.float64]]
"""(results, truths) -> (N,), one figure for each face."""
Split = Literal["val", "all"]

DEFAULT_PRESETS = ("official", "archival", "call")
DEFAULT_COUNT = 96
"""Faces: about three minutes of two idle CPU cores for gpen-lite-256 (0.4 s of one core for each face and cell)."""
PRESET_PX = 512
"""Side of the crop that the presets' lengths are given for."""
UNTOUCHED = "none"
"""In the place of a preset, with the levels "clean" (the face itself) and "grey" (without its colours)."""
MEAN = "mean"
"""In the place of a preset: the average over all of them."""
DEGRADED, LANCZOS, DENOISED = "degraded", "Lanczos", "NLM + unsharp"
EQUAL_DB = 45.0
"""PSNR above this counts as this, as in training: nobody sees a difference, and untouched inputs (infinitely many dB)
would rule the averages."""
CHUNK_FACES = 8
"""Degraded and measured together; so many are also restored at once on a GPU. On a CPU one by one takes half the time:
its features stay in the cache (0.10 against 0.21 s of gpen-lite-256 on one core)."""
GRID_FACES = 3
GRID_TILE_PX = 256
"""Largest side of a face in the grid."""
GRID_MARGIN_PX = 24
"""Height of a line of text in the grid."""


# ---------------------------------------------------------------------------------------------------- faces


@dataclass(frozen=True, slots=True, eq=False)
class TrueFaces:
    """Aligned faces as they really are."""

    crops: Images
    names: tuple[str, ...]
    """Of the files, relative to their folders."""


def load_true_faces(
    folders: Sequence[Path],
    spec: ModelSpec,
    *,
    count: int = DEFAULT_COUNT,
    split: Split = "val",
    only: str = "*",
    device: str = "auto",
) -> TrueFaces:
    """At most `count` faces for the restorer `spec`, chosen by the hash of their file names and in its order.

    Of a folder with `landmarks.tsv`, `split` leaves those that training with the same rule (`data.in_val`) never saw.
    Folders without one are taken for pictures apart from the training; the embedded detector finds the largest face in
    each. As in training, faces whose eyes are too near each other are left out, and the softest of the rest: they
    are not the truth. `only` is a pattern for file names, such as `gt_*`. Raises SourceError.
    """
    if count < 1:
        raise OptionsError(f"--count {count}: must be 1 or more")
    rules = DataConfig()
    detector = functools.cache(lambda: load_detector(EMBEDDED_DETECTOR, device=device))
    candidates = [candidate for folder in folders for candidate in _candidates(folder, split, only, rules)]
    candidates.sort(key=lambda candidate: (name_hash(candidate[1]), candidate[1]))
    assert spec.template is not None, "every restorer names its template"
    assert spec.crop_px is not None, "every restorer has a size"
    template = template_px(spec.template, spec.crop_px)
    num_wanted = int(np.ceil(count / (1 - rules.softest_dropped)))
    crops: list[Image] = []
    names: list[str] = []
    for folder, name, landmarks_px in candidates:
        if len(crops) == num_wanted:
            break
        picture = read_picture(folder / name)
        if landmarks_px is None:
            landmarks_px = found_landmarks_px(picture, detector())
        if landmarks_px is None or eye_distance_px(landmarks_px) < rules.min_eye_distance_px:
            logger.info("%s: left out, no face with its eyes %g px apart", folder / name, rules.min_eye_distance_px)
            continue
        crop = align_face(picture, landmarks_px, template, spec.crop_px)
        if crop is None:
            raise SourceError(f"{folder / name}: its landmarks lie outside the picture; mend them")
        crops.append(crop)
        names.append(name)
    if not crops:
        where = ", ".join(str(folder) for folder in folders)
        raise SourceError(f"{where}: no face to evaluate on; try --split all or another --only")
    softest_first = np.argsort([detail(crop) for crop in crops], kind="stable").tolist()
    softest = set(softest_first[: int(rules.softest_dropped * len(crops))])
    kept = [number for number in range(len(crops)) if number not in softest][:count]
    return TrueFaces(np.stack([crops[number] for number in kept]), tuple(names[number] for number in kept))


def _candidates(
    folder: Path, split: Split, only: str, rules: DataConfig
) -> Iterator[tuple[Path, str, NDArray[np.float64] | None]]:
    """(folder, file, landmarks where they are known) of every face that may be chosen."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: is no folder; name a folder of faces (--faces)")
    table = folder / LANDMARKS_TABLE
    rows: Sequence[tuple[str, NDArray[np.float64] | None]]
    if table.is_file():
        rows = [row for row in read_landmarks(table) if eye_distance_px(row[1]) >= rules.min_eye_distance_px]
        if split == "val":
            rows = [row for row in rows if in_val(row[0], rules.val_share)]
    else:
        rows = [(name, None) for name in picture_names(folder)]
    yield from ((folder, name, points) for name, points in rows if fnmatch.fnmatchcase(Path(name).name, only))


# ---------------------------------------------------------------------------------------------------- baselines

LANCZOS_SHRINK = 2
"""Crops come at full size, whatever was lost. This is the picture that a classical upscaler would have been given: of
1.25, 1.5, 2 and 3 the factor with the best PSNR over all presets and levels (+0.28 dB, training faces)."""
NLM_STRENGTH = 5.0
"""Of OpenCV's non-local means, for brightness and colour. With the unsharp mask behind it, 2, 3, 5 and 8 gain -0.13,
0.11, 0.25 and -0.03 dB (training faces, as for Lanczos); 0.7 to 2 times the noise estimated in each picture at most
-0.05: most of these inputs are too soft rather than too noisy."""
NLM_PATCH_PX, NLM_SEARCH_PX = 7, 21
"""OpenCV's defaults."""
UNSHARP_AMOUNT = 0.3
UNSHARP_SIGMA_SHARE = 1 / 128
"""Of the crop's side. At this width an amount of 0.3 gains 0.02 dB over none, and 0.6 loses 0.17 dB."""


def lanczos(image: Image) -> Image:
    """Shrunk to half the size by area, where most noise and blocks go, and enlarged again by Lanczos."""
    height_px, width_px = image.shape[:2]
    small = (width_px // LANCZOS_SHRINK, height_px // LANCZOS_SHRINK)
    half = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    result: Image = cv2.resize(half, (width_px, height_px), interpolation=cv2.INTER_LANCZOS4)
    return result


def denoised_and_sharpened(image: Image) -> Image:
    """OpenCV's non-local means for colour, then an unsharp mask."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # it weighs the channels as if they stood so
    smooth = cv2.fastNlMeansDenoisingColored(bgr, None, NLM_STRENGTH, NLM_STRENGTH, NLM_PATCH_PX, NLM_SEARCH_PX)
    levels = cv2.cvtColor(smooth, cv2.COLOR_BGR2RGB).astype(np.float32)
    blurred = cv2.GaussianBlur(levels, (0, 0), UNSHARP_SIGMA_SHARE * image.shape[0])
    sharpened: Image = np.clip(np.rint(levels + UNSHARP_AMOUNT * (levels - blurred)), 0, 255).astype(np.uint8)
    return sharpened


BASELINES: Mapping[str, Callable[[Image], Image]] = {LANCZOS: lanczos, DENOISED: denoised_and_sharpened}
"""(S, S, 3) RGB -> the same shape."""


# ---------------------------------------------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured of every result."""

    title: str
    decimals: int
    has_gain: bool
    """Whether the difference to the degraded input says something."""


FIGURES: Mapping[str, Figure] = {
    "psnr_db": Figure(f"PSNR in dB, at most {EQUAL_DB:g} (higher is better)", 2, True),
    "ssim": Figure("SSIM (higher is better)", 3, True),
    "sharpness": Figure("Sharpness: gradient energy against the truth's (1 is the truth)", 2, False),
    "lpips": Figure("LPIPS (lower is better)", 3, True),
    "identity": Figure("Identity: 1 - cosine of ArcFace's embeddings (lower is better)", 3, True),
}


def psnr_db(results: Images, truths: Images) -> NDArray[np.float64]:
    """Not above `EQUAL_DB`."""
    error = np.square(results.astype(np.float64) - truths).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 255**2 / 10 ** (EQUAL_DB / 10)))


def ssim(results: Images, truths: Images) -> NDArray[np.float64]:
    """With the Gaussian window of Wang et al., IEEE Transactions on Image Processing 13(4), 2004. S >= 11 px."""
    try:
        from skimage.metrics import structural_similarity  # late: an extra
    except ImportError as exc:
        raise OptionsError("SSIM needs scikit-image; run `pip install 'vidrestore[train]'`") from exc
    of_pair: Callable[..., float] = functools.partial(
        structural_similarity, channel_axis=2, data_range=255, gaussian_weights=True, use_sample_covariance=False
    )
    return np.array([of_pair(result, truth) for result, truth in zip(results, truths, strict=True)])


def sharpness(results: Images, truths: Images) -> NDArray[np.float64]:
    """Gradient energy, as a share of the truth's."""
    after, true = (gradient_energy(_tensors(images)).double().numpy() for images in (results, truths))
    return np.asarray(after / np.maximum(true, np.finfo(np.float32).tiny))


PLAIN_MEASURES: Mapping[str, Measure] = {"psnr_db": psnr_db, "ssim": ssim, "sharpness": sharpness}


def installed_measures(device: str, template: str) -> tuple[dict[str, Measure], dict[str, str]]:
    """LPIPS and identity as far as their weights are there, and for each of the others one line on why it is absent."""
    from vidrestore.training.perceptual import (
        Identity,
        Lpips,
    )  # late: a machine that only has PyTorch lacks their needs

    where = resolve_device(device)
    loaders: dict[str, Callable[[], Any]] = {
        "lpips": lambda: Lpips.installed(where),
        "identity": lambda: Identity.installed(where, template),
    }
    measures: dict[str, Measure] = {}
    absent = {}
    for name, load in loaders.items():
        try:
            measures[name] = functools.partial(_by_network, load(), where)
        except InputError as exc:
            absent[name] = str(exc)
    return measures, absent


def _by_network(network: Any, device: torch.device, results: Images, truths: Images) -> NDArray[np.float64]:
    with torch.inference_mode():
        distances = network.per_image(_tensors(results).to(device), _tensors(truths).to(device))
    return np.asarray(distances.double().cpu().numpy())


def _tensors(images: Images) -> torch.Tensor:
    """(N, 3, S, S) float32 in [-1, 1]."""
    return to_network(stack_images(list(images)))


# ---------------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True, slots=True)
class Row:
    """Averages over all faces of what one method made of one kind of input."""

    preset: str
    """Key of `degrade.PRESETS`, `UNTOUCHED` or `MEAN`."""
    level: str
    method: str
    """`DEGRADED` (the input itself), a key of `BASELINES`, or the model's name."""
    figures: Mapping[str, float]
    """By the keys of `FIGURES`."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All figures, and pictures of the first faces."""

    model: Mapping[str, Any]
    """Name, sha256, crop, template, device and precision."""
    face_names: tuple[str, ...]
    methods: tuple[str, ...]
    """`DEGRADED`, the baselines, the model."""
    rows: tuple[Row, ...]
    """Cell by cell, method by method; then the averages over the presets."""
    tint: Mapping[str, int]
    """Of each method the largest difference between the channels of a result, in levels, where the input was grey."""
    absent: Mapping[str, str]
    """Key of a figure -> why it could not be measured."""
    pictures: Mapping[tuple[str, str], Images]
    """(preset, level) -> (faces, 1 + methods, S, S, 3): the truth, and what each method gave."""

    def figures(self, preset: str, level: str, method: str) -> Mapping[str, float]:
        wanted = (preset, level, method)
        return next(row.figures for row in self.rows if (row.preset, row.level, row.method) == wanted)

    def gain(self, row: Row, key: str) -> float:
        """Of a figure over the degraded input's."""
        return row.figures[key] - self.figures(row.preset, row.level, DEGRADED)[key]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, the same for the same call."""
        rows = []
        for row in self.rows:
            figures = {key: round(value, 4) for key, value in row.figures.items()}
            gains = {f"{key}_gain": round(self.gain(row, key), 4) for key in row.figures if FIGURES[key].has_gain}
            rows.append({"preset": row.preset, "level": row.level, "method": row.method, **figures, **gains})
        return {
            "model": dict(self.model),
            "num_faces": len(self.face_names),
            "rows": rows,
            "largest_tint_levels": dict(self.tint),
            "absent": dict(self.absent),
            "faces": list(self.face_names),
        }


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
    batch_size = 1 if restorer.device_name == "cpu" else CHUNK_FACES
    batcher = Batcher(restorer, Report(source="faces", target="figures"), batch_size)
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


# ---------------------------------------------------------------------------------------------------- output


def table(evaluation: Evaluation) -> str:
    """For people; as Markdown: for each figure a table with the methods side by side, gains in brackets."""
    cells = list(dict.fromkeys((row.preset, row.level) for row in evaluation.rows))
    by_place = {(row.preset, row.level, row.method): row for row in evaluation.rows}
    measured = [key for key in FIGURES if key in evaluation.rows[0].figures]
    lines = [f"{evaluation.model['name']} on {len(evaluation.face_names)} faces; in brackets: gain over the input."]
    for key in measured:
        figure = FIGURES[key]
        lines += ["", f"### {figure.title}", "", f"| preset | level | {' | '.join(evaluation.methods)} |"]
        lines.append("|---|---|" + "---|" * len(evaluation.methods))
        for preset, level in cells:
            entries = []
            for method in evaluation.methods:
                row = by_place[preset, level, method]
                entry = f"{row.figures[key]:.{figure.decimals}f}"
                if figure.has_gain and method != DEGRADED and preset != UNTOUCHED:
                    entry += f" ({evaluation.gain(row, key):+.{figure.decimals}f})"
                entries.append(entry)
            lines.append(f"| {preset} | {level} | {' | '.join(entries)} |")
    tints = ", ".join(f"{method} {evaluation.tint[method]}" for method in evaluation.methods if method != DEGRADED)
    lines += ["", f"Grey inputs: largest difference between the channels of a result, in levels: {tints}."]
    lines += [f"Not measured: {name} ({why})." for name, why in evaluation.absent.items()]
    return "\n".join(lines)


def grid(evaluation: Evaluation) -> Image:
    """(H, W, 3) RGB: a row for each preset and level; for each face the truth and what each method gave."""
    num_faces, num_columns, crop_px = next(iter(evaluation.pictures.values())).shape[:3]
    tile_px = min(crop_px, GRID_TILE_PX)
    header = np.zeros((GRID_MARGIN_PX, num_faces * num_columns * tile_px, 3), np.uint8)
    for number, name in enumerate(("truth", *evaluation.methods) * num_faces):
        _write_text(header, name, number * tile_px)
    rows = [header]
    for (preset, level), faces in evaluation.pictures.items():
        tiles = [_shrunk(image, tile_px) for images in faces for image in images]
        caption = np.zeros_like(header)
        _write_text(caption, f"{preset}, {level}", 0)
        rows += [caption, np.hstack(tiles)]
    return np.vstack(rows)


def _shrunk(image: Image, side_px: int) -> Image:
    if image.shape[0] == side_px:
        return image
    result: Image = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return result


def _write_text(line: Image, text: str, x_px: int) -> None:
    """White on a line of the grid, in place."""
    place = (x_px + 4, GRID_MARGIN_PX - 7)
    cv2.putText(line, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)


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

    `model` is a name of the catalogue or a weights file. Raises InputError before the work where it can.
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
