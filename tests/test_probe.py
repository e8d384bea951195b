"""`vidrestore info` names every track of a file and what it is made of."""

from fractions import Fraction
from pathlib import Path

import pytest

from tests.clips import CLIPS
from vidrestore.errors import SourceError
from vidrestore.video.probe import StreamInfo, probe


def picture(path: Path) -> StreamInfo:
    return next(stream for stream in probe(path).streams if stream.kind == "video" and not stream.is_attached_picture)


def test_every_track_is_listed(tmp_path: Path) -> None:
    info = probe(CLIPS["many_tracks_mkv"].make(tmp_path))
    assert [(stream.kind, stream.codec, stream.language) for stream in info.streams] == [
        ("video", "h264", None),
        ("audio", "opus", "eng"),
        ("audio", "opus", "ger"),
        ("subtitle", "subrip", "fre"),
    ]
    assert info.streams[1].sample_rate_hz == 48000
    assert (info.streams[1].num_channels, info.streams[1].channel_layout) == (2, "stereo")
    assert info.streams[2].dispositions == ("comment",)
    assert info.num_chapters == 2
    assert "matroska" in info.format_name


def test_the_picture_is_described(tmp_path: Path) -> None:
    found = picture(CLIPS["hevc_10_bit"].make(tmp_path))
    assert (found.codec, found.pixel_format, found.width_px, found.height_px) == ("hevc", "yuv420p10le", 64, 48)
    colors = (found.color_range, found.color_matrix, found.color_primaries, found.color_transfer)
    assert colors == ("limited", "bt2020nc", "bt2020", "smpte2084")
    assert (found.average_rate_hz, found.num_frames_from_header) == (25, 12)
    assert picture(CLIPS["silent"].make(tmp_path)).color_matrix == "unspecified"
    assert picture(CLIPS["anamorphic"].make(tmp_path)).sample_aspect == Fraction(16, 11)


def test_rotation_is_clockwise(tmp_path: Path) -> None:
    found = picture(CLIPS["rotated"].make(tmp_path))
    assert (found.rotation_deg, found.is_mirrored) == (90, False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("h264", "constant"), ("b_frames", "constant"), ("variable_rate", "variable"), ("odd_size", "constant")]
    + [("one_frame", "unknown")],
)
def test_the_frame_rate_is_judged_from_time_stamps(name: str, kind: str, tmp_path: Path) -> None:
    assert picture(CLIPS[name].make(tmp_path)).frame_rate == kind


def test_a_cover_is_marked(tmp_path: Path) -> None:
    covers = [stream for stream in probe(CLIPS["cover"].make(tmp_path)).streams if stream.is_attached_picture]
    assert [cover.codec for cover in covers] == ["png"]


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        probe(tmp_path / "none.mp4")
