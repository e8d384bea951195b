"""What an evaluation has found: all figures, as plain data or tables, and pictures in a grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vidrestore.training.degrade_steps import Image
from vidrestore.training.measures import FIGURES, Images

UNTOUCHED = "none"
"""In the place of a preset, with the levels "clean" (the face itself) and "grey" (without its colours)."""
MEAN = "mean"
"""In the place of a preset: the average over all of them."""
DEGRADED = "degraded"
"""In the place of a method: the input itself."""
GRID_FACES = 3
"""The first ones; their pictures are kept."""
GRID_TILE_PX = 256
"""Largest side of a face in the grid."""
GRID_MARGIN_PX = 24
"""Height of a line of text in the grid."""


@dataclass(frozen=True, slots=True)
class Row:
    """Averages over all faces of what one method made of one kind of input."""

    preset: str
    """Key of `degrade.PRESETS`, `UNTOUCHED` or `MEAN`."""
    level: str
    method: str
    """`DEGRADED` (the input itself), a key of `baselines.BASELINES`, or the model's name."""
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
