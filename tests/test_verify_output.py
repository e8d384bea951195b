"""A finished output is compared with its source: what is right passes, and what cannot be read is named."""

import hashlib
from pathlib import Path

import av
import pytest

from tests.clips import CLIPS
from tests.verified import DEFAULT, told, verified, written
from vidrestore.errors import RestoreError, TargetError
from vidrestore.verify.output import sha256_of, verify_output
from vidrestore.verify.pair import VerifyError
from vidrestore.video.encode import EncodeSettings

GOOD = (
    *("h264", "variable_rate", "b_frames", "late_start", "long", "hevc_10_bit", "yuv422", "full_range", "gray", "rgb"),
    *("alpha", "odd_size", "one_frame", "rotated", "turned_and_mirrored", "interlaced", "interlaced_top", "anamorphic"),
    *("hdr10", "hlg", "chroma_topleft", "many_tracks", "many_tracks_mkv", "mpeg2_ts", "mpeg2_ps", "mjpeg"),
    *("damaged", "cut_off_mkv"),
)


@pytest.mark.parametrize("name", GOOD)
def test_a_lossless_copy_passes_with_every_frame_and_packet(name: str, tmp_path: Path) -> None:
    clip = CLIPS[name]
    found = verified(name, tmp_path, ".mp4" if clip.has_subtitles and clip.suffix == ".mp4" else ".mkv")
    assert found.samples_equal
    assert found.num_frames == clip.num_frames or clip.damage
    assert found.num_tracks == clip.num_audio_tracks + clip.has_subtitles
    assert (found.num_packets > 0) == (found.num_tracks > 0)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("name", ["h264", "variable_rate", "late_start", "hevc_10_bit", "interlaced_top", "mpeg2_ps"])
def test_a_lossy_copy_passes_in_every_container(name: str, suffix: str, tmp_path: Path) -> None:
    found = verified(name, tmp_path, suffix, DEFAULT)
    assert not found.samples_equal
    assert found.worst_psnr_db is not None
    assert found.worst_psnr_db > 35


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("long", ".mp4"), ("many_tracks", ".mov"), ("many_tracks_mkv", ".mkv"), ("late_start", ".mkv")],
)
def test_a_cut_passes_with_its_shortened_tracks(name: str, suffix: str, tmp_path: Path) -> None:
    start_s = 0.9 if name == "late_start" else 0.25
    assert verified(name, tmp_path, suffix, start_s=start_s, end_s=start_s + 0.2).num_frames == 5


def test_one_of_several_videos_and_a_cover_pass(tmp_path: Path) -> None:
    assert verified("two_pictures", tmp_path, ".mp4", stream=1).num_tracks == 2
    assert verified("two_pictures", tmp_path, ".mkv").num_tracks == 2
    assert verified("cover", tmp_path, ".mkv").num_frames == 12
    assert verified("cover", tmp_path, ".mp4").num_frames == 12


def test_what_the_writer_has_announced_as_lost_is_no_difference(tmp_path: Path) -> None:
    source, output = CLIPS["anamorphic"].make(tmp_path), tmp_path / "out.mkv"
    settings = EncodeSettings("vp9", lossless=True)
    warnings = written(source, output, settings)
    assert len(warnings) == 1
    verify_output(source, output, [], lossless=True, warnings=warnings)
    with pytest.raises(VerifyError, match="pixel shape is 1, not 16/11"):
        verify_output(source, output, [], lossless=True)


def test_one_flipped_bit_in_the_picture_stream_is_found(tmp_path: Path) -> None:
    source, output = CLIPS["h264"].make(tmp_path), tmp_path / "out.mkv"
    written(source, output)
    with av.open(str(output)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        content = bytes(packets[5])
    stored = bytearray(output.read_bytes())
    stored[stored.index(content) + len(content) // 2] ^= 16
    output.write_bytes(stored)
    with pytest.raises(VerifyError, match="frame 5|holds|damaged packets"):  # FFV1 has check sums
        verify_output(source, output, [], lossless=True)


def test_a_file_that_ends_early_is_found(tmp_path: Path) -> None:
    source, output = CLIPS["h264"].make(tmp_path), tmp_path / "out.mp4"
    written(source, output)
    output.write_bytes(output.read_bytes()[:-2000])
    with pytest.raises(VerifyError, match="cannot be read back") as caught:
        verify_output(source, output, [], lossless=True, target=tmp_path / "film.mp4")
    assert "film.mp4: " in told(caught.value)


def test_an_error_of_verification_is_none_of_the_users(tmp_path: Path) -> None:
    """So that the exit code is 1."""
    assert issubclass(VerifyError, RestoreError)
    assert not issubclass(VerifyError, TargetError)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = bytes(range(256)) * 5000
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
