"""Promises of the evaluation: its figures are true, and the same for the same call."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes import FixedDetector, IdentityRestorer, face_at, fake_spec
from vidrestore.errors import InputError, OptionsError, SourceError
from vidrestore.face import template_px
from vidrestore.training import evaluation
from vidrestore.training.data import in_val
from vidrestore.training.degrade import LEVELS
from vidrestore.training.evaluation import (
    DEGRADED,
    MEAN,
    PLAIN_MEASURES,
    UNTOUCHED,
    TrueFaces,
    denoised_and_sharpened,
    evaluate,
    grid,
    installed_measures,
    lanczos,
    load_true_faces,
    psnr_db,
    run,
    sharpness,
    ssim,
    table,
)

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


def write_faces(folder: Path, count: int, *, with_table: bool = True) -> None:
    """Coarse noise of 200 px with landmarks of the tight template, eyes 72 px apart."""
    rng = np.random.default_rng(8)
    names = ("leye", "reye", "nose", "lmouth", "rmouth")
    lines = ["file\t" + "\t".join(f"{name}_{axis}" for name in names for axis in "xy")]
    for number in range(count):
        coarse = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (200, 200), interpolation=cv2.INTER_NEAREST))
        lines.append(f"{number}.png\t" + "\t".join(f"{value:.1f}" for value in template_px("tight", 200).ravel()))
    if with_table:
        (folder / "landmarks.tsv").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def nothing_done() -> evaluation.Evaluation:
    """Of a restorer that gives back what it got."""
    return evaluate(IdentityRestorer(), made_up_faces())


def test_doing_nothing_gains_nothing_anywhere(nothing_done: evaluation.Evaluation) -> None:
    """In all 9 cells, the 2 untouched ones and the 3 averages, in every figure; the damage itself is in order."""
    rows = [row for row in nothing_done.rows if row.method == MODEL]
    assert len(rows) == 9 + 2 + 3
    assert {nothing_done.gain(row, key) for row in rows for key in PLAIN_MEASURES} == {0.0}
    assert nothing_done.tint[MODEL] == 0
    mild, medium, heavy = (nothing_done.figures(MEAN, level, DEGRADED)["psnr_db"] for level in LEVELS)
    assert 45 > mild > medium > heavy > 10


def test_a_clean_face_is_perfect_until_it_is_restored(nothing_done: evaluation.Evaluation) -> None:
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


def test_average_is_over_presets(nothing_done: evaluation.Evaluation) -> None:
    each = [nothing_done.figures(preset, "heavy", DEGRADED)["ssim"] for preset in ("official", "archival", "call")]
    assert nothing_done.figures(MEAN, "heavy", DEGRADED)["ssim"] == pytest.approx(np.mean(each))


def test_a_face_is_damaged_alike_whoever_is_beside_it(nothing_done: evaluation.Evaluation) -> None:
    faces = made_up_faces()
    alone = evaluate(IdentityRestorer(), TrueFaces(faces.crops[1:2], faces.names[1:2]), ["call"])
    for level in LEVELS:
        assert np.array_equal(alone.pictures["call", level][0], nothing_done.pictures["call", level][1])


def test_figures_are_those_of_the_textbook(rng: np.random.Generator) -> None:
    """5 levels off: 34.15 dB. Half the contrast: a quarter of the gradient energy. Equal: SSIM 1; noise: near 0."""
    truth = rng.integers(60, 180, (2, 32, 32, 3), dtype=np.uint8)
    other = rng.integers(60, 180, (2, 32, 32, 3), dtype=np.uint8)
    assert psnr_db(truth + 5, truth) == pytest.approx(10 * np.log10(255**2 / 25))
    assert sharpness(truth // 2, truth) == pytest.approx(0.25, rel=0.02)
    assert ssim(truth, truth) == pytest.approx(1.0)
    assert abs(ssim(other, truth)).max() < 0.2


def test_baselines_do_what_their_names_say(rng: np.random.Generator) -> None:
    """Noise of 4 levels is weaker by 3 dB or more after both; a colour stays within 2 levels (Lab has 8 bits)."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    clean = np.stack([60 + 2 * x, 90 + y, 200 - x - y], axis=2).astype(np.uint8)
    noisy = np.clip(clean + rng.normal(0, 4, clean.shape), 0, 255).round().astype(np.uint8)
    for filtered in (lanczos, denoised_and_sharpened):
        before, after = (psnr_db(image[None], clean[None])[0] for image in (noisy, filtered(noisy)))
        assert after > before + 3
        flat = np.full_like(clean, (200, 120, 40))
        assert np.abs(filtered(flat).astype(int) - flat).max() <= 2


def test_val_faces_alone_are_taken_and_never_more_than_asked_for(tmp_path: Path) -> None:
    write_faces(tmp_path, 300)
    spec = fake_spec(crop_px=32, template="tight")
    val = {f"{number}.png" for number in range(300) if in_val(f"{number}.png", 0.02)}
    assert len(val) >= 3, "the names give enough faces for this test"
    assert set(load_true_faces([tmp_path], spec).names) <= val
    assert len(load_true_faces([tmp_path], spec, count=2).names) == 2
    everything = load_true_faces([tmp_path], spec, count=50, split="all")
    assert len(everything.names) == 50
    assert everything.crops.shape == (50, 32, 32, 3)
    assert load_true_faces([tmp_path], spec, count=50, split="all").names == everything.names


def test_pictures_without_landmarks_are_searched_for_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest face of each; `only` chooses among the files; they are no training faces, so no split applies."""
    write_faces(tmp_path, 4, with_table=False)
    faces = (face_at(40, 40, 20), face_at(240, 240, 400))
    monkeypatch.setattr(evaluation, "load_detector", lambda name, device: FixedDetector(faces))
    found = load_true_faces([tmp_path], fake_spec(crop_px=32), only="[0-2].png")
    assert sorted(found.names) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(("options", "word"), [({"only": "*.bmp"}, "--only"), ({"count": 0}, "--count")])
def test_no_face_is_an_error_of_one_line(tmp_path: Path, options: dict[str, object], word: str) -> None:
    write_faces(tmp_path, 3)
    with pytest.raises(InputError, match=word) as caught:
        load_true_faces([tmp_path], fake_spec(crop_px=32), split="all", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_an_unknown_preset_are_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no folder"):
        load_true_faces([tmp_path / "nowhere"], fake_spec(crop_px=32))
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
    write_faces(folder, 5)
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


def test_grid_shows_truth_and_all_methods_of_three_faces(nothing_done: evaluation.Evaluation) -> None:
    """A line of names above, a caption and a row of faces for each of the 11 cells."""
    picture = grid(nothing_done)
    line_px = evaluation.GRID_MARGIN_PX
    assert picture.shape == (line_px + 11 * (line_px + SIDE_PX), 3 * 5 * SIDE_PX, 3)
    first_row = picture[2 * line_px : 2 * line_px + SIDE_PX]
    truth = nothing_done.pictures["official", "mild"][0, 0]
    assert np.array_equal(first_row[:, :SIDE_PX], truth)
