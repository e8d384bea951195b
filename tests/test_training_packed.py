"""Promises of packed faces: what is cut out, what is found, and what comes back from the file."""

import logging
import pickle
import sys
import zipfile
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from vidrestore.errors import OptionsError, SourceError, TargetError
from vidrestore.face import TEMPLATES, template_px
from vidrestore.images import frame_from_rgb
from vidrestore.stages.align import cut_crop
from vidrestore.stages.crop_geometry import similarity
from vidrestore.training.packed import LANDMARK_COLUMNS, PackedFaces, align_face, pack, read_landmarks, read_picture

MIN_DB = 38.0
"""Of a crop as it comes out of a packed file; smooth pictures lose less than faces (41 dB on average)."""


def psnr_db(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / max(((one.astype(float) - other) ** 2).mean(), 1e-9)))


def dots(landmarks_px: NDArray[np.float64], side_px: int, radius_px: float) -> NDArray[np.uint8]:
    """(5, S, S, 3): for each landmark a picture with a bright dot on it."""
    y, x = np.mgrid[:side_px, :side_px]
    squares = (x - landmarks_px[:, :1, None]) ** 2 + (y - landmarks_px[:, 1:, None]) ** 2
    levels = (255 * np.exp(-0.5 * squares / radius_px**2)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def center_px(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    level = crop[..., 1].astype(float)
    level[level < 12] = 0  # JPEG's ringing
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]]
    return np.array([(level * columns).sum(), (level * rows).sum()]) / level.sum()


def write_table(folder: Path, rows: dict[str, NDArray[np.float64]]) -> None:
    """With its columns in an unusual order."""
    lines = ["\t".join((*LANDMARK_COLUMNS[::-1], "file"))]
    lines += ["\t".join((*(f"{value:.2f}" for value in points.ravel()[::-1]), name)) for name, points in rows.items()]
    (folder / "landmarks.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three smooth pictures of 200 px with a table."""
    faces = tmp_path / "faces"
    (faces / "b").mkdir(parents=True)
    rows = {}
    for name in ("a.png", "b/1.png", "b/2.png"):
        picture = cv2.resize(rng.integers(0, 256, (7, 7, 3), np.uint8), (200, 200), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(faces / name), picture)
        rows[name] = template_px("tight", 200) + rng.uniform(-8, 8, 2)
    write_table(faces, rows)
    return faces


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("scale", [0.7, 3.0])
def test_landmarks_land_on_the_template(template: str, scale: float) -> None:
    """Dots drawn on a picture's landmarks are within a third of a pixel of the template in the crop."""
    points = template_px(template, 128)
    landmarks = points * scale + (20, 10)
    for point, picture in enumerate(dots(landmarks, int(128 * scale) + 40, 2 * scale)):
        crop = align_face(picture, landmarks, points, 128)
        assert crop is not None
        assert np.linalg.norm(center_px(crop) - points[point]) < 1 / 3


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7, 5.3])
def test_training_sees_what_inference_sees(scale: float, rng: np.random.Generator) -> None:
    """To the bit, for crops inside the picture, from small faces to large ones."""
    points = template_px("tight", 64)
    side_px = round(64 * scale) + 80
    picture = rng.integers(0, 256, (side_px, side_px, 3), np.uint8)
    turn = np.array([[0.99, -0.1], [0.1, 0.99]]) * scale
    landmarks = points @ turn.T + (40, 30)
    crop = align_face(picture, landmarks, points, 64)
    inference = cut_crop(frame_from_rgb(picture), similarity(landmarks, points), 64)
    assert crop is not None
    assert inference is not None
    assert np.array_equal(crop, inference)


def test_a_picture_that_ends_inside_the_crop_goes_on_mirrored(rng: np.random.Generator) -> None:
    """Stripes do not become streaks beyond the border: every row of the crop varies as much as those of the picture."""
    points = template_px("tight", 64)
    picture = np.zeros((64, 44, 3), np.uint8)
    picture[:, ::4] = picture[:, 1::4] = 200
    crop = align_face(picture, points, points, 64)
    assert crop is not None
    assert crop[:, 46:].astype(float).std(axis=1).min() > 80


def test_a_packed_face_is_what_was_cut_out(folder: Path, tmp_path: Path) -> None:
    """Above 38 dB at the given size, in the table's order, with the eyes' distance of the source within 0.01 px."""
    packed = pack(folder, tmp_path / "faces.zip", template="tight", crop_px=160)
    rows = read_landmarks(folder / "landmarks.tsv")
    assert len(packed) == 3
    assert (packed.template, packed.crop_px) == ("tight", 160)
    assert packed.names == ("a.png", "b/1.png", "b/2.png")
    for number, (name, landmarks) in enumerate(rows):
        crop = align_face(read_picture(folder / name), landmarks, template_px("tight", 160), 160)
        assert crop is not None
        assert psnr_db(packed.crop(number, 160), crop) > MIN_DB
        assert packed.eye_distance_px[number] == pytest.approx(np.linalg.norm(landmarks[1] - landmarks[0]), abs=0.01)


@pytest.mark.parametrize("crop_px", [48, 128, 256, 400])
def test_landmarks_stay_on_the_template_at_any_size(crop_px: int, tmp_path: Path) -> None:
    """A file packed at 160 px, read at another size: dots within 0.4 px of the template of that size."""
    points = template_px("tight", 160)
    for point, picture in enumerate(dots(points, 160, 5)):
        cv2.imwrite(str(tmp_path / f"{point}.png"), picture)
    write_table(tmp_path, {f"{point}.png": points for point in range(5)})
    packed = pack(tmp_path, tmp_path / "faces.zip", crop_px=160, quality=98)
    for point in range(5):
        place = center_px(packed.crop(point, crop_px))
        assert np.linalg.norm(place - template_px("tight", crop_px)[point]) < 0.4


def test_the_same_faces_give_the_same_file(folder: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        pack(folder, tmp_path / name, crop_px=64)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_any_archive_program_takes_the_crops_out(folder: Path, tmp_path: Path) -> None:
    packed = pack(folder, tmp_path / "faces.zip", crop_px=64)
    with zipfile.ZipFile(tmp_path / "faces.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "out")
    assert np.array_equal(read_picture(tmp_path / "out/000001.jpg"), packed.crop(1, 64))


def test_a_packed_file_goes_to_other_processes_by_name(folder: Path, tmp_path: Path) -> None:
    """A pickle of it stays below 1 kB, however many faces it holds."""
    packed = pack(folder, tmp_path / "faces.zip", crop_px=64)
    sent = pickle.dumps(packed)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).crop(2, 64), packed.crop(2, 64))


def test_the_largest_face_is_found_where_there_is_no_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In a picture with a small and a large copy of a portrait; a picture without a face is named in one line."""
    portrait = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"))
    small = cv2.resize(portrait, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    both = np.full((600, 760, 3), 127, np.uint8)
    both[: small.shape[0], : small.shape[1]] = small
    both[:, -512:] = portrait
    faces = tmp_path / "faces"
    (faces / "more").mkdir(parents=True)
    cv2.imwrite(str(faces / "both.png"), both)
    cv2.imwrite(str(faces / "more/portrait.jpg"), portrait)
    cv2.imwrite(str(faces / "more/grey.png"), np.full((300, 300, 3), 127, np.uint8))
    with caplog.at_level(logging.WARNING, "vidrestore"):
        packed = pack(faces, tmp_path / "faces.zip", crop_px=96)
    assert packed.names == ("both.png", "more/portrait.jpg")
    assert packed.eye_distance_px[0] == pytest.approx(packed.eye_distance_px[1], rel=0.1)
    middles = [packed.crop(number, 96)[24:72, 24:72].ravel() for number in range(2)]
    assert np.corrcoef(middles)[0, 1] > 0.8  # two detections of one face differ by 5% in size
    (line,) = [record.getMessage() for record in caplog.records]
    assert "1 of 3 pictures: more/grey.png" in line


def test_a_machine_that_cannot_find_faces_says_what_it_lacks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "landmarks.tsv").unlink()
    monkeypatch.setitem(sys.modules, "facexlib.detection.retinaface", None)
    with pytest.raises(SourceError, match="finding faces needs facexlib"):
        pack(folder, tmp_path / "faces.zip", crop_px=64)


def test_nothing_is_left_of_a_file_that_could_not_be_completed(folder: Path, tmp_path: Path) -> None:
    """And the older file of that name stays whole."""
    output = tmp_path / "out" / "faces.zip"
    output.parent.mkdir()
    pack(folder, output, crop_px=64)
    before = output.read_bytes()
    (folder / "b/2.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"b/2\.png: cannot be read as a picture"):
        pack(folder, output, crop_px=64)
    assert output.read_bytes() == before
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("damage", ["absent", "cut", "other"])
def test_a_file_that_holds_no_packed_faces_is_named_in_one_line(folder: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "faces.zip"
    if damage == "cut":
        pack(folder, path, crop_px=64)
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "other":
        path.write_bytes(b"")
    with pytest.raises(SourceError) as caught:
        PackedFaces(path)
    assert str(path) in str(caught.value)
    assert "vidrestore train pack" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_crop_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    pack(folder, path, crop_px=64)
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xd8")
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"face 0 \(a\.png\) is damaged"):
        PackedFaces(path).crop(0, 64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file\tleye_x\na.png\t3\n", "has no column leye_y"),
        ("\t".join(("file", *LANDMARK_COLUMNS)) + "\na.png\tleft\n", "line 2 holds no 10 numbers"),
        ("\t".join(("file", *LANDMARK_COLUMNS)) + "\n", "holds no face"),
        ("\t".join(("file", *LANDMARK_COLUMNS)) + "\na.png" + "\t900\t900" * 5 + "\n", "span no face in the picture"),
        ("\t".join(("file", *LANDMARK_COLUMNS)) + "\na.png" + "\tnan\t9" * 5 + "\n", "line 2 holds no 10 numbers"),
    ],
)
def test_a_wrong_table_is_named(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    (folder / "landmarks.tsv").write_text(text)
    with pytest.raises(SourceError, match=said):
        pack(folder, tmp_path / "faces.zip", crop_px=64)


def test_wrong_wishes_are_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "faces.zip"
    with pytest.raises(OptionsError, match="gpen, tight"):
        pack(folder, output, template="loose")
    with pytest.raises(OptionsError, match="16 or more"):
        pack(folder, output, crop_px=4)
    with pytest.raises(OptionsError, match="between 1 and 100"):
        pack(folder, output, quality=101)
    with pytest.raises(SourceError, match="is no folder"):
        pack(folder / "a.png", output)
    with pytest.raises(TargetError, match="does not exist"):
        pack(folder, tmp_path / "absent" / "faces.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no pictures"):
        pack(tmp_path / "empty", output)


def test_all_given_faces_fit_into_55_mb(shared: Path, tmp_path: Path) -> None:
    """Estimated from every 40th of the 10,641 faces of the development data, at the default size and quality."""
    rows = read_landmarks(shared / "faces" / "landmarks.tsv")
    write_table(tmp_path, {str(shared / "faces" / name): points for name, points in rows[::40]})
    packed = pack(tmp_path, tmp_path / "faces.zip")
    assert packed.path.stat().st_size / len(packed) * len(rows) < 55e6
