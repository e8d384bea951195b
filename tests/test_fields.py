"""An interlaced picture is two pictures: no face is restored through a comb, and no two moments become one."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import CLIPS
from tests.faces import face_at as tracked_at
from tests.fakes import FixedDetector, IdentityRestorer, face_at
from tests.test_pipeline import one_face
from vidrestore.face import PlacedFace, SkippedFace
from vidrestore.fields import FieldPairs
from vidrestore.frame import Fields, Frame, RestoredFrame
from vidrestore.layout import PixelLayout, Plane
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video, restored_frames
from vidrestore.report import Report
from vidrestore.video.read import VideoReader

FIRST_MOMENT, SECOND_MOMENT = 60, 180
"""Two flat greys: in the rows of one picture they are the worst of all combs."""


def comb(fields: Fields, *, width_px: int = 96, height_px: int = 80, pts: int = 0, depth_bits: int = 8) -> Frame:
    """A picture whose moments are of one grey each, in 4:2:0."""
    layout = PixelLayout("test", "yuv", depth_bits, 1, 1, False, True, "bt709", "left")
    dtype = np.uint8 if depth_bits == 8 else np.uint16
    planes = []
    for component in layout.components:
        plane: Plane = np.full(layout.plane_shape(component, width_px, height_px), SECOND_MOMENT, dtype)
        plane[0 if fields == "top first" else 1 :: 2] = FIRST_MOMENT
        planes.append(plane)
    return Frame(0, pts, Fraction(1, 25), tuple(planes), layout, fields)


def done(frame: Frame, *, faces: bool = True) -> RestoredFrame:
    face = PlacedFace(tracked_at((48.0, 40.0), 30.0), np.eye(2, 3), 64)
    left_alone = SkippedFace(face.face, "a reason")
    return RestoredFrame(frame, frame, (face,) if faces else (), (left_alone,) if faces else ())


@pytest.mark.parametrize("height_px", [1, 2, 3, 4, 5, 48, 49, 51])
@pytest.mark.parametrize("depth_bits", [8, 16])
@pytest.mark.parametrize("fields", ["top first", "bottom first"])
def test_each_moment_is_free_of_the_other_and_together_they_are_the_picture(
    fields: Fields, depth_bits: int, height_px: int
) -> None:
    pairs, frame = FieldPairs(), comb(fields, height_px=height_px, depth_bits=depth_bits)
    moments = list(pairs.split([frame]))
    for moment, level in zip(moments, (FIRST_MOMENT, SECOND_MOMENT), strict=True):
        moment.layout.check_planes(moment.planes)
        for plane in moment.planes:
            if len(plane) > 1:
                assert (plane == level).all()
    (whole,) = pairs.woven(map(done, moments))
    for before, after in zip(frame.planes, whole.frame.planes, strict=True):
        assert np.array_equal(before, after)
    assert whole.source is frame
    assert pairs.num_interlaced == 1


@pytest.mark.parametrize("depth_bits", [8, 16])
def test_rows_between_are_the_mean_of_their_neighbours(depth_bits: int) -> None:
    frame = comb("top first", depth_bits=depth_bits)
    rng = np.random.default_rng(1)
    frame.planes[0][...] = rng.integers(0, 1 << depth_bits, frame.planes[0].shape)
    first, second = FieldPairs().split([frame])
    luma = frame.planes[0].astype(int)
    assert np.array_equal(first.planes[0][1:-1:2], (luma[0:-2:2] + luma[2::2]) // 2)
    assert np.array_equal(second.planes[0][2::2], (luma[1:-2:2] + luma[3::2]) // 2)


def test_moments_are_half_a_frame_apart_and_frames_keep_their_time() -> None:
    pairs = FieldPairs()
    frames = [replace(comb("top first", pts=pts), index=index) for index, pts in enumerate((7, 8, 10))]
    moments = list(pairs.split(frames))
    assert [moment.pts * moment.time_base * 25 for moment in moments] == [7, 7.5, 8, 9, 10, 11]
    assert [moment.index for moment in moments] == list(range(6))
    assert [whole.frame.pts for whole in pairs.woven(map(done, moments))] == [7, 8, 10]


def test_faces_say_which_moment_of_the_picture_they_are_of() -> None:
    pairs = FieldPairs()
    marks: list[Fields] = ["", "top first"]
    frames = [replace(comb(fields, pts=pts), index=pts) for pts, fields in enumerate(marks)]
    film, interlaced = pairs.woven(map(done, pairs.split(frames)))
    for each, moments in ((film, [0]), (interlaced, [1, 2])):
        assert [face.moment for face in each.faces] == moments
        assert [face.moment for face in each.skipped] == moments


def test_progressive_pictures_between_interlaced_ones_go_through_whole() -> None:
    """Film that was transferred with a 3:2 pulldown: three pictures as they were, two in combs."""
    pairs = FieldPairs()
    marks: list[Fields] = ["", "", "top first", "top first", ""]
    frames = [comb(fields, pts=pts) for pts, fields in enumerate(marks)]
    moments = list(pairs.split(frames))
    assert len(moments) == 7
    times = [moment.pts * moment.time_base for moment in moments]
    assert times == sorted(set(times))
    assert {moment.time_base for moment in moments} == {Fraction(1, 50)}  # stages subtract ticks
    whole = list(pairs.woven(map(done, moments)))
    assert [each.source for each in whole] == frames
    assert [each.frame.fields for each in whole] == marks


def test_a_picture_without_faces_is_the_very_picture() -> None:
    pairs, frame = FieldPairs(), comb("bottom first")
    (whole,) = pairs.woven(done(moment, faces=False) for moment in pairs.split([frame]))
    assert whole.frame is frame


class Recorder(IdentityRestorer):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[NDArray[np.uint8]] = []

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.seen.extend(crops)
        return super().restore(crops)


def test_the_restorer_never_sees_a_comb() -> None:
    pairs, recorder = FieldPairs(), Recorder()
    frames = [comb("top first", pts=pts) for pts in range(4)]
    for frame in frames:  # columns, so that there is something to restore, and every row of a moment is the same
        luma = frame.planes[0]
        luma[...] = luma * 0.5 + 60 + 40 * np.sin(np.arange(luma.shape[1]) / 4)
    models = Models(FixedDetector((face_at(192, 160, 130),)), recorder)  # in the detector's 384 x 320 px
    options = Options(temporal="off", min_face_px=1, device="cpu")
    moments = pairs.split(frames)
    whole = list(pairs.woven(restored_frames(moments, models, options, Report("", ""), rotation_deg=0)))
    assert len(whole) == 4
    assert len(recorder.seen) == 8
    for crop in recorder.seen:
        assert np.abs(np.diff(crop.astype(int), axis=0)).max() <= 1
    levels = [crop.mean() for crop in recorder.seen]
    for first, second in zip(levels[0::2], levels[1::2], strict=True):
        assert second - first > 40


@pytest.mark.parametrize("name", ["interlaced", "interlaced_top", "interlaced_ffv1", "interlaced_outside", "dv"])
def test_an_interlaced_video_comes_out_sample_for_sample_and_says_what_was_done(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    source, target, faces = clip.make(tmp_path), tmp_path / "out.mkv", tmp_path / "faces.json"
    options = Options(lossless=True, min_face_px=1, temporal="off", faces=faces)
    report = restore_video(source, target, options, models=Models(one_face(clip), IdentityRestorer()))
    with VideoReader(source) as before, VideoReader(target) as after:
        pairs = list(zip(before.frames(), after.frames(), strict=True))
    for one, other in pairs:
        assert one.time_s == pytest.approx(other.time_s, abs=1e-9)
        assert all(map(np.array_equal, one.planes, other.planes))
    assert report.num_frames == len(pairs)
    count = len(pairs)
    assert f"{source}: {count} frames are interlaced; faces were restored field by field" in report.warnings
    assert [len(frame["faces"]) for frame in json.loads(faces.read_text())["frames"]] == [2] * count
