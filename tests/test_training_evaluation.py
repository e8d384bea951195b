"""Promises of the evaluation: its averages are true, and the same for the same call."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.drawn_faces import write_coarse_faces
from tests.fakes import IdentityRestorer
from vidrestore.errors import OptionsError
from vidrestore.training import evaluation
from vidrestore.training.degrade import LEVELS
from vidrestore.training.evaluation import evaluate, run
from vidrestore.training.evaluation_faces import TrueFaces
from vidrestore.training.evaluation_result import DEGRADED, GRID_MARGIN_PX, MEAN, UNTOUCHED, Evaluation, grid, table
from vidrestore.training.measures import PLAIN_MEASURES, installed_measures

SIDE_PX = 64
MODEL = "identity"
"""Name of the fake restorers' row."""


class AddingRestorer(IdentityRestorer):
    """Adds a colour to every crop, within 0 … 255."""

    def __init__(self, rgb: tuple[int, int, int]) -> None:
        super().__init__()
        self.rgb = rgb

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.clip(super().restore(crops).astype(int) + self.rgb, 0, 255).astype(np.uint8)


def made_up_faces(count: int = 3) -> TrueFaces:
    """Soft blotches of middling brightness."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (count, SIDE_PX, SIDE_PX, 3))
    blotches = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in noise])
    crops = np.clip(128 + 200 * blotches, 20, 235).astype(np.uint8)
    return TrueFaces(crops, tuple(f"face_{number}.png" for number in range(count)))


@pytest.fixture(scope="module")
def nothing_done() -> Evaluation:
    """Of a restorer that gives back what it got."""
    return evaluate(IdentityRestorer(), made_up_faces())


def test_doing_nothing_gains_nothing_anywhere(nothing_done: Evaluation) -> None:
    """In all 9 cells, the 2 untouched ones and the 3 averages, in every figure; the damage itself is in order."""
    rows = [row for row in nothing_done.rows if row.method == MODEL]
    assert len(rows) == 9 + 2 + 3
    assert {nothing_done.gain(row, key) for row in rows for key in PLAIN_MEASURES} == {0.0}
    assert nothing_done.tint[MODEL] == 0
    mild, medium, heavy = (nothing_done.figures(MEAN, level, DEGRADED)["psnr_db"] for level in LEVELS)
    assert 45 > mild > medium > heavy > 10


def test_a_clean_face_is_perfect_until_it_is_restored(nothing_done: Evaluation) -> None:
    """Two levels too bright are 42.11 dB; no damage is 45 dB (the most that counts), SSIM 1 and sharpness 1."""
    perfect = {"psnr_db": 45.0, "ssim": 1.0, "sharpness": 1.0}
    assert nothing_done.figures(UNTOUCHED, "clean", DEGRADED) == pytest.approx(perfect)
    brighter = evaluate(AddingRestorer((2, 2, 2)), made_up_faces(), ["clean"])
    assert brighter.figures(UNTOUCHED, "clean", MODEL)["psnr_db"] == pytest.approx(42.11, abs=0.01)


def test_colour_in_a_grey_face_is_reported() -> None:
    """A restorer that adds 9 levels of red to a grey face has a tint of 9."""
    result = evaluate(AddingRestorer((9, 0, 0)), made_up_faces(), ["clean"])
    assert result.tint[MODEL] == 9
    assert result.tint[DEGRADED] == 0


def test_average_is_over_presets(nothing_done: Evaluation) -> None:
    each = [nothing_done.figures(preset, "heavy", DEGRADED)["ssim"] for preset in ("official", "archival", "call")]
    assert nothing_done.figures(MEAN, "heavy", DEGRADED)["ssim"] == pytest.approx(np.mean(each))


def test_a_face_is_damaged_alike_whoever_is_beside_it(nothing_done: Evaluation) -> None:
    faces = made_up_faces()
    alone = evaluate(IdentityRestorer(), TrueFaces(faces.crops[1:2], faces.names[1:2]), ["call"])
    for level in LEVELS:
        assert np.array_equal(alone.pictures["call", level][0], nothing_done.pictures["call", level][1])


def test_an_unknown_preset_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="official"):
        run("no-such-model", [tmp_path], presets=["stormy"])


def test_what_is_not_installed_is_named_with_its_command(weights_folder: Path) -> None:
    measures, absent = installed_measures("cpu", "tight")
    assert measures == {}
    assert set(absent) == {"lpips", "identity"}
    assert "arcface" in absent["identity"]
    result = evaluate(IdentityRestorer(), made_up_faces(1), ["clean"], absent=absent)
    assert all(f"Not measured: {name} ({why})." in table(result) for name, why in absent.items())


def test_the_same_call_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON and grid; every method of every cell has its PSNR in the JSON and its column in the tables."""
    folder = tmp_path / "faces"
    folder.mkdir()
    write_coarse_faces(folder, 5)
    monkeypatch.setattr(evaluation, "load_restorer", lambda name, device: IdentityRestorer(template="tight"))
    written = []
    for number in range(2):
        paths = {"json_path": tmp_path / f"{number}.json", "grid_path": tmp_path / f"{number}.png"}
        text = run(MODEL, [folder], presets=["archival"], count=3, split="all", **paths, device="cpu")
        written.append([path.read_bytes() for path in paths.values()] + [text.encode()])
    assert written[0] == written[1]
    facts = json.loads(written[0][0])
    assert facts["num_faces"] == len(facts["faces"]) == 3
    cells = {(row["preset"], row["level"], row["method"]) for row in facts["rows"] if row["psnr_db"] > 0}
    assert len(cells) == (3 + 2 + 3) * 4
    assert all(row["psnr_db_gain"] == 0 for row in facts["rows"] if row["method"] == MODEL)
    assert "| preset | level | degraded | Lanczos | NLM + unsharp | identity |" in text


def test_grid_shows_truth_and_all_methods_of_three_faces(nothing_done: Evaluation) -> None:
    """A line of names above, a caption and a row of faces for each of the 11 cells."""
    picture = grid(nothing_done)
    line_px = GRID_MARGIN_PX
    assert picture.shape == (line_px + 11 * (line_px + SIDE_PX), 3 * 5 * SIDE_PX, 3)
    first_row = picture[2 * line_px : 2 * line_px + SIDE_PX]
    truth = nothing_done.pictures["official", "mild"][0, 0]
    assert np.array_equal(first_row[:, :SIDE_PX], truth)
