"""Outside the crop squares, and only there, a sample that changed is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import CLIPS
from tests.test_pipeline import NegativeRestorer, one_face
from tests.verified import DEFAULT, LOSSLESS, Change, difference, verified, written
from vidrestore.frame import Frame
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.verify.output import verify_output
from vidrestore.verify.pair import VerifyError
from vidrestore.verify.samples import covered_samples, crop_mask

SQUARE = np.array([[20.0, 10.0], [40.0, 10.0], [40.0, 30.0], [20.0, 30.0]])
"""Of a crop in a picture of 64 x 48."""


def with_sample(number: int, plane: int, y: int, x: int) -> Change:
    """One bit of one sample of one frame flipped."""

    def change(frames: list[Frame]) -> list[Frame]:
        planes = [each.copy() for each in frames[number].planes]
        planes[plane][y, x] ^= 1
        return [*frames[:number], replace(frames[number], planes=tuple(planes)), *frames[number + 1 :]]

    return change


@pytest.mark.parametrize(("plane", "y", "x"), [(0, 47, 63), (0, 5, 30), (1, 20, 5), (2, 0, 0)])
def test_one_flipped_bit_outside_the_square_is_found(plane: int, y: int, x: int, tmp_path: Path) -> None:
    faces = [[SQUARE]] * 12
    message = difference("h264", tmp_path, ".mkv", LOSSLESS, with_sample(7, plane, y, x), faces=faces)
    assert f"frame 7 at 0.280 s: 1 samples of {['Y', 'Cb', 'Cr'][plane]} outside the crop squares" in message
    assert f"({x}, {y})" in message
    assert str(tmp_path / "out.mkv") in message


@pytest.mark.parametrize(("plane", "y", "x"), [(0, 20, 30), (0, 10, 20), (1, 10, 15)])
def test_what_is_in_the_square_of_that_frame_may_change(plane: int, y: int, x: int, tmp_path: Path) -> None:
    flip = with_sample(7, plane, y, x)
    verified("h264", tmp_path, ".mkv", LOSSLESS, flip, faces=[[SQUARE]] * 12)
    faces = [[SQUARE]] * 7 + [[]] + [[SQUARE]] * 4
    assert "frame 7" in difference("h264", tmp_path, ".mkv", LOSSLESS, flip, faces=faces)


@pytest.mark.parametrize("name", ["h264", "yuv422", "interlaced_top", "rgb"])
def test_a_run_that_turns_faces_into_negatives_passes_by_its_own_faces_file_only(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    source, output, faces = clip.make(tmp_path), tmp_path / "out.mkv", tmp_path / "faces.json"
    models = Models(one_face(clip), NegativeRestorer())
    restore_video(source, output, Options(lossless=True, faces=faces, min_face_px=1), models=models)
    listed = json.loads(faces.read_text())["frames"]
    squares = [[np.array(face["crop_corners_px"]) for face in frame["faces"]] for frame in listed]
    assert verify_output(source, output, squares, lossless=True).num_frames == clip.num_frames
    with pytest.raises(VerifyError, match="frame 0"):
        verify_output(source, output, [], lossless=True)


def test_a_face_that_fills_the_picture_leaves_nothing_to_compare(tmp_path: Path) -> None:
    everything = np.array([[-9.0, -9.0], [80.0, -9.0], [80.0, 80.0], [-9.0, 80.0]])
    source, output = CLIPS["h264"].make(tmp_path), tmp_path / "out.mp4"
    written(source, output, DEFAULT)
    found = verify_output(source, output, [[everything]] * 12, lossless=False)
    assert found.worst_psnr_db is None
    almost = everything.clip(-9, 60)
    verify_output(source, output, [[almost]] * 12, lossless=False)


def test_a_turned_square_covers_its_own_samples_only() -> None:
    diamond = np.array([[32.0, 4.0], [52.0, 24.0], [32.0, 44.0], [12.0, 24.0]])
    mask = crop_mask([diamond], 64, 48)
    assert mask is not None
    y, x = np.mgrid[:48, :64]
    distance = np.abs(x - 32) + np.abs(y - 24)
    assert mask[distance <= 20].all()
    assert not mask[distance > 24].any()  # the bounding box would reach 40
    chroma = covered_samples(mask, (24, 32))
    assert chroma[10, 13]
    assert not chroma[2, 2]
    assert crop_mask([], 64, 48) is None
    outside = crop_mask([diamond - 200], 64, 48)
    assert outside is not None
    assert not outside.any()


def in_all_planes(changed: Callable[[NDArray[np.float64]], NDArray[np.float64]], *numbers: int) -> Change:
    def change(frames: list[Frame]) -> list[Frame]:
        return [
            replace(
                frame,
                planes=tuple(np.clip(np.rint(changed(p.astype(float))), 0, 255).astype(np.uint8) for p in frame.planes),
            )
            if not numbers or frame.index in numbers
            else frame
            for frame in frames
        ]

    return change


def test_without_lossless_a_green_frame_and_a_wrong_range_are_found(tmp_path: Path) -> None:
    green = in_all_planes(lambda plane: 0 * plane, 6)
    assert "frame 6 at 0.240 s is another picture" in difference("h264", tmp_path, ".mp4", DEFAULT, green)
    for stretch in (lambda p: (p - 16) * 255 / 219, lambda p: p * 219 / 255 + 16):
        message = difference("h264", tmp_path, ".mp4", DEFAULT, in_all_planes(stretch))
        assert "limited and full range are mixed up" in message
