"""The whole journey: everything but the faces comes out as it went in."""

import json
import threading
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import CLIPS, Clip
from tests.fakes import FixedDetector, IdentityRestorer, face_at
from vidrestore.errors import TargetError
from vidrestore.frame import Frame, RestoredFrame
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.report import Report
from vidrestore.video.read import VideoReader


class NegativeRestorer(IdentityRestorer):
    """Turns every crop into its negative, upside down: a change that nobody can overlook."""

    def restore(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return 255 - super().restore(crops)[:, ::-1]


def read_frames(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader.frames())


def copied_packets(path: Path) -> list[tuple[int, int, int | None, bytes]]:
    """(stream, pts in microseconds, duration, bytes) of everything but the picture."""
    with av.open(str(path)) as container:
        packets = []
        for packet in container.demux():
            if packet.stream.type == "video" or packet.pts is None or packet.time_base is None:
                continue
            packets.append(
                (packet.stream.index, round(1e6 * packet.pts * packet.time_base), packet.size, bytes(packet))
            )
    return packets


def one_face(clip: Clip) -> FixedDetector:
    """A face in the middle of the picture, in the pixels of the copy that the detector is shown."""
    scale = min(max(max(clip.width_px, clip.height_px), 480), max(clip.width_px, clip.height_px) * 4)
    scale /= max(clip.width_px, clip.height_px)
    size = min(clip.width_px, clip.height_px)
    return FixedDetector((face_at(clip.width_px * scale / 2, clip.height_px * scale / 2, 0.4 * size * scale),))


LOSSLESS_SUFFIX = {".mp4": ".mp4", ".mov": ".mkv"}
KEPT = [
    "h264",
    "silent",
    "one_frame",
    "variable_rate",
    "b_frames",
    "late_start",
    "long",
    "hevc_10_bit",
    "yuv444",
    "full_range",
    "gray",
    "rgb",
    "odd_size",
    "tiny",
    "anamorphic",
]


@pytest.mark.parametrize("name", KEPT)
def test_a_restorer_that_changes_nothing_gives_back_the_very_video(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    source, target = clip.make(tmp_path), tmp_path / f"out{clip.suffix}"
    models = Models(one_face(clip), IdentityRestorer())
    report = restore_video(source, target, Options(lossless=True, min_face_px=1, temporal="off"), models=models)
    before, after = read_frames(source), read_frames(target)
    assert [frame.time_s for frame in after] == pytest.approx([frame.time_s for frame in before], abs=1e-9)
    for one, other in zip(before, after, strict=True):
        for plane, kept in zip(one.planes, other.planes, strict=True):
            assert np.array_equal(plane, kept)
    assert report.num_frames == len(before)
    assert report.num_faces_restored == len(before)
    assert copied_packets(target) == copied_packets(source)


@pytest.mark.parametrize("name", ["h264", "hevc_10_bit", "yuv422", "rgb"])
def test_only_the_crop_square_changes(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    suffix = ".mkv"
    source, target, faces = clip.make(tmp_path), tmp_path / f"out{suffix}", tmp_path / "faces.json"
    models = Models(one_face(clip), NegativeRestorer())
    restore_video(source, target, Options(lossless=True, faces=faces, min_face_px=1), models=models)
    found = json.loads(faces.read_text())["frames"]
    for index, (one, other) in enumerate(zip(read_frames(source), read_frames(target), strict=True)):
        (face,) = found[index]["faces"]
        corners = np.array(face["crop_corners_px"])
        low, high = corners.min(axis=0), corners.max(axis=0)
        for plane, changed in zip(one.planes, other.planes, strict=True):
            scale = np.array([plane.shape[1] / clip.width_px, plane.shape[0] / clip.height_px])
            x0, y0 = np.floor(low * scale).astype(int)
            x1, y1 = np.ceil(high * scale).astype(int) + 1
            outside = np.ones(plane.shape, bool)
            outside[max(y0, 0) : y1, max(x0, 0) : x1] = False
            assert np.array_equal(plane[outside], changed[outside])
        assert not np.array_equal(one.planes[0], other.planes[0])


def test_without_faces_the_pictures_are_the_source_s_and_the_report_says_so(tmp_path: Path) -> None:
    source, target = CLIPS["h264"].make(tmp_path), tmp_path / "out.mp4"
    report = restore_video(source, target, Options(lossless=True), models=Models(FixedDetector(()), IdentityRestorer()))
    for one, other in zip(read_frames(source), read_frames(target), strict=True):
        assert all(np.array_equal(plane, kept) for plane, kept in zip(one.planes, other.planes, strict=True))
    assert any("no faces were found" in warning for warning in report.warnings)


def test_forty_faces_are_all_found_and_listed(tmp_path: Path) -> None:
    clip = CLIPS["long"]
    source, faces = clip.make(tmp_path), tmp_path / "faces.json"
    crowd = tuple(face_at(12 + 24 * (k % 10), 14 + 40 * (k // 10), 18) for k in range(40))
    options = Options(faces=faces, min_face_px=1, max_faces=30)
    report = restore_video(
        source, tmp_path / "out.mp4", options, models=Models(FixedDetector(crowd), IdentityRestorer())
    )
    for frame in json.loads(faces.read_text())["frames"]:
        reasons = Counter(face.get("reason") for face in frame["faces"])
        # Some of these faces lie where the picture is nearly flat.
        assert reasons[None] + reasons["too dark or faint"] == 30
        assert reasons[None] >= 25
        assert reasons["more than 30 faces"] == 10
    assert report.num_tracks == 40


def test_a_part_of_a_video_keeps_its_sound_in_time(tmp_path: Path) -> None:
    source, target, faces = CLIPS["long"].make(tmp_path), tmp_path / "out.mp4", tmp_path / "faces.json"
    options = Options(start=2.0, end=4.0, lossless=True, faces=faces)
    report = restore_video(source, target, options, models=Models(FixedDetector(()), IdentityRestorer()))
    assert report.num_frames == 50
    wanted = read_frames(source)[50:100]
    for one, other in zip(wanted, read_frames(target), strict=True):
        assert np.array_equal(one.planes[0], other.planes[0])
        assert other.time_s == pytest.approx(one.time_s - 2.0, abs=1e-6)
    assert [frame["time_s"] for frame in json.loads(faces.read_text())["frames"]][:3] == [0.0, 0.04, 0.08]


def test_the_comparison_shows_source_and_result_side_by_side(tmp_path: Path) -> None:
    clip = CLIPS["h264"]
    source, compare = clip.make(tmp_path), tmp_path / "compare.mkv"
    models = Models(one_face(clip), NegativeRestorer())
    options = Options(compare=compare, min_face_px=1)
    restore_video(source, tmp_path / "out.mp4", options, models=models)
    for one, both in zip(read_frames(source), read_frames(compare), strict=True):
        left, right = np.split(both.planes[0].astype(int), 2, axis=1)
        assert np.abs(left - one.planes[0]).mean() < 3  # encoded at the default quality
        assert np.abs(right - one.planes[0]).mean() > 5


def test_the_comparison_of_a_turned_video_is_side_by_side_as_a_player_shows_it(tmp_path: Path) -> None:
    """Turned clockwise, the lower half of the stored picture comes to lie on the left: the source's."""
    clip = CLIPS["rotated"]
    source, compare = clip.make(tmp_path), tmp_path / "compare.mkv"
    models = Models(FixedDetector((face_at(180, 240, 120),)), NegativeRestorer())
    restore_video(source, tmp_path / "out.mp4", Options(compare=compare, min_face_px=1), models=models)
    one, both = read_frames(source)[0], read_frames(compare)[0]
    restored, original = np.split(both.planes[0].astype(int), 2, axis=0)
    assert np.abs(original - one.planes[0]).mean() < 3
    assert np.abs(restored - one.planes[0]).mean() > 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_after_a_cancellation_nothing_is_left_and_no_thread_lives(tmp_path: Path, error: type[BaseException]) -> None:
    source = CLIPS["long"].make(tmp_path)

    def cancel(done: RestoredFrame, report: Report) -> None:
        if report.num_frames == 10:
            raise error

    before = set(threading.enumerate())
    options = Options(faces=tmp_path / "faces.json", compare=tmp_path / "compare.mp4")
    models = Models(FixedDetector(()), IdentityRestorer())
    with pytest.raises(error):
        restore_video(source, tmp_path / "out.mp4", options, models=models, on_frame=cancel)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
    assert set(threading.enumerate()) == before


class BrokenDetector(FixedDetector):
    def detect(self, images: NDArray[np.uint8]) -> list[tuple[object, ...]]:  # type: ignore[override]
        raise RuntimeError("the detector broke")


def test_an_error_in_the_compute_lane_reaches_the_caller(tmp_path: Path) -> None:
    source = CLIPS["long"].make(tmp_path)
    with pytest.raises(RuntimeError, match="the detector broke"):
        restore_video(source, tmp_path / "out.mp4", models=Models(BrokenDetector(), IdentityRestorer()))
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_two_outputs_with_one_name_are_refused(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)
    with pytest.raises(TargetError, match="two outputs have the same name"):
        restore_video(source, tmp_path / "out.mp4", Options(compare=tmp_path / "out.mp4"))


def test_damaged_packets_are_counted_and_the_sound_stays(tmp_path: Path) -> None:
    source, target = CLIPS["damaged"].make(tmp_path), tmp_path / "out.mp4"
    report = restore_video(source, target, models=Models(FixedDetector(()), IdentityRestorer()))
    assert report.num_frames >= 40
    assert any("damaged" in warning for warning in report.warnings)
    assert copied_packets(target) == copied_packets(source)


def test_archive_quality_keeps_every_sample(tmp_path: Path) -> None:
    source, target = CLIPS["h264"].make(tmp_path), tmp_path / "out.mkv"
    options = Options(quality="archive")
    restore_video(source, target, options, models=Models(FixedDetector(()), IdentityRestorer()))
    for one, other in zip(read_frames(source), read_frames(target), strict=True):
        assert all(np.array_equal(plane, kept) for plane, kept in zip(one.planes, other.planes, strict=True))


def test_one_of_several_videos_is_restored_and_the_other_stays_as_it_was(tmp_path: Path) -> None:
    clip = CLIPS["two_pictures"]
    source, target = clip.make(tmp_path), tmp_path / "out.mp4"
    options = Options(stream=1, lossless=True, min_face_px=1)
    report = restore_video(source, target, options, models=Models(one_face(clip), NegativeRestorer()))
    assert report.num_faces_restored == clip.num_frames
    with av.open(str(source)) as before, av.open(str(target)) as after:
        packets = [
            [bytes(packet) for packet in container.demux(container.streams[0]) if packet.size]
            for container in (before, after)
        ]
    assert packets[0] == packets[1]
    with VideoReader(source, stream=1) as one, VideoReader(target, stream=1) as other:
        assert not np.array_equal(next(one.frames()).planes[0], next(other.frames()).planes[0])
