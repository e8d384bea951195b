"""A finished output is compared with its source: what is right passes, and what is wrong is named."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from tests.clips import CLIPS
from tests.test_pipeline import NegativeRestorer, one_face
from vidrestore.errors import RestoreError, TargetError
from vidrestore.frame import Frame
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import restore_video
from vidrestore.verify import Verified, VerifyError, covered_samples, crop_mask, sha256_of, verify_output
from vidrestore.video.encode import EncodeSettings
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter

LOSSLESS, DEFAULT = EncodeSettings(lossless=True), EncodeSettings()
Change = Callable[[list[Frame]], list[Frame]]
SQUARE = np.array([[20.0, 10.0], [40.0, 10.0], [40.0, 30.0], [20.0, 30.0]])
"""Of a crop in a picture of 64 x 48."""


def written(
    source: Path,
    output: Path,
    encode: EncodeSettings = LOSSLESS,
    change: Change = lambda frames: frames,
    *,
    stream: int | None = None,
    **span: float,
) -> list[str]:
    """The source through the writer, its frames changed on the way; the writer's warnings."""
    with VideoReader(source, stream=stream, **span) as reader:  # type: ignore[arg-type]
        frames = change(list(reader.frames()))
        with VideoWriter(output, like=reader.info, source=source, encode=encode, **span) as writer:  # type: ignore[arg-type]
            for frame in frames:
                writer.write(frame)
    return writer.warnings


def verified(
    name: str,
    folder: Path,
    suffix: str,
    encode: EncodeSettings = LOSSLESS,
    change: Change = lambda frames: frames,
    *,
    faces: Sequence[Sequence[NDArray[np.float64]]] = (),
    stream: int | None = None,
    **span: float,
) -> Verified:
    source, output = CLIPS[name].make(folder), folder / f"out{suffix}"
    warnings = written(source, output, encode, change, stream=stream, **span)
    return verify_output(
        source,
        output,
        faces,
        lossless=encode.lossless,
        warnings=warnings,
        stream=stream,
        **span,  # type: ignore[arg-type]
    )


def difference(*arguments: Any, **options: Any) -> str:
    """The one line of the VerifyError that must come."""
    with pytest.raises(VerifyError) as caught:
        verified(*arguments, **options)
    return told(caught.value)


def told(error: VerifyError) -> str:
    message = str(error)
    assert "\n" not in message
    assert message.endswith("; the output was not put in its place")
    return message


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


def without(number: int) -> Change:
    return lambda frames: frames[:number] + frames[number + 1 :]


def swapped(number: int) -> Change:
    """Two neighbours have each other's picture."""

    def change(frames: list[Frame]) -> list[Frame]:
        one, other = frames[number : number + 2]
        pair = [replace(one, planes=other.planes), replace(other, planes=one.planes)]
        return [*frames[:number], *pair, *frames[number + 2 :]]

    return change


def moved(number: int, ticks: int) -> Change:
    def change(frames: list[Frame]) -> list[Frame]:
        late = replace(frames[number], pts=frames[number].pts + ticks)
        return [*frames[:number], late, *frames[number + 1 :]]

    return change


@pytest.mark.parametrize("encode", [LOSSLESS, DEFAULT], ids=["lossless", "lossy"])
def test_a_missing_a_swapped_and_a_late_frame_are_found(encode: EncodeSettings, tmp_path: Path) -> None:
    assert "holds 11 frames" in difference("h264", tmp_path, ".mp4", encode, without(11))
    assert "frame 4 at 0.160 s of the source is shown at 0.2" in difference(
        "h264", tmp_path, ".mp4", encode, without(4)
    )
    assert "frame 5" in difference("h264", tmp_path, ".mp4", encode, swapped(5))
    late = difference("h264", tmp_path, ".mp4", encode, moved(3, 1))  # a tick of 78 us
    assert "frame 3 at 0.120 s of the source is shown at 0.120078 s, not 0.120000 s" in late


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


def remuxed(path: Path, *, keeps: Callable[[Any], bool] = lambda packet: True, describe: Any = None) -> Path:
    """The file with some of its packets, and streams described otherwise."""
    target = path.with_name(f"remuxed{path.suffix}")
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        copies = {}
        for stream in source.streams:
            copies[stream.index] = output.add_stream_from_template(stream, opaque=True)
            copies[stream.index].disposition = stream.disposition
            copies[stream.index].metadata.update(stream.metadata)
            if describe:
                describe(copies[stream.index])
        output.start_encoding()
        for packet in source.demux():
            if packet.size and keeps(packet):
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return target


def test_the_tests_own_copy_passes_in_matroska(tmp_path: Path) -> None:
    source = CLIPS["many_tracks_mkv"].make(tmp_path)
    output = tmp_path / "out.mkv"
    written(source, output)
    with pytest.raises(VerifyError, match="holds 0 chapters, not 2"):  # all else is as it was
        verify_output(source, remuxed(output), [], lossless=True)


@pytest.mark.parametrize("kind", ["audio", "subtitle"])
def test_one_missing_packet_is_found(kind: str, tmp_path: Path) -> None:
    source, output = CLIPS["many_tracks_mkv"].make(tmp_path), tmp_path / "out.mkv"
    written(source, output)
    seen: list[Any] = []

    def keeps(packet: Any) -> bool:
        seen.extend([packet.pts] * (packet.stream.type == kind))
        return packet.stream.type != kind or len(seen) != 2

    with pytest.raises(VerifyError, match=f"of {kind} track") as caught:
        verify_output(source, remuxed(output, keeps=keeps), [], lossless=True)
    assert "is missing or changed" in told(caught.value)


def test_a_changed_byte_and_a_late_packet_of_sound_are_found(tmp_path: Path) -> None:
    source, output = CLIPS["h264"].make(tmp_path), tmp_path / "out.mp4"
    written(source, output)
    with av.open(str(output)) as container:
        content = [bytes(packet) for packet in container.demux(audio=0) if packet.size][7]
    stored = bytearray(output.read_bytes())
    stored[stored.index(content) + 3] ^= 1
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(stored)
    with pytest.raises(VerifyError, match="packet 7 of audio track 1"):
        verify_output(source, changed, [], lossless=True)

    def moves(packet: Any) -> bool:
        if packet.stream.type == "audio" and packet.pts > 0:
            packet.pts, packet.dts = packet.pts + 100, packet.dts + 100
        return True

    with pytest.raises(VerifyError, match=r"audio track 1 is due at 0\.\d+ s, not 0"):
        verify_output(source, remuxed(output, keeps=moves), [], lossless=True)


def test_a_lost_language_and_disposition_are_found(tmp_path: Path) -> None:
    source, output = CLIPS["many_tracks_mkv"].make(tmp_path), tmp_path / "out.mkv"
    written(source, output)

    def in_french(stream: Any) -> None:
        stream.metadata.update({"language": "fre"} if stream.type == "audio" else {})

    with pytest.raises(VerifyError, match="language of audio track 1 is fre, not eng"):
        verify_output(source, remuxed(output, describe=in_french), [], lossless=True)

    def plain(stream: Any) -> None:
        stream.disposition = Disposition(0)

    with pytest.raises(VerifyError, match="the disposition of audio track"):
        verify_output(source, remuxed(output, describe=plain), [], lossless=True)


def test_a_picture_that_moved_against_its_sound_is_found(tmp_path: Path) -> None:
    def later(frames: list[Frame]) -> list[Frame]:
        return [replace(frame, pts=frame.pts + 512) for frame in frames]

    for suffix in (".mp4", ".mkv", ".ts"):
        message = difference("h264", tmp_path, suffix, LOSSLESS, later)
        assert "is shown at" in message or "is due at" in message


def test_facts_about_the_picture_are_compared(tmp_path: Path) -> None:
    source, other, output = (tmp_path / name for name in ("source.mp4", "other.mp4", "out.mp4"))
    for name, what in (("rotated", "display matrix"), ("full_range", "full range"), ("anamorphic", "pixel shape")):
        CLIPS[name].make(tmp_path).rename(source)
        CLIPS["silent"].make(tmp_path).rename(other)
        written(other, output, DEFAULT)
        with pytest.raises(VerifyError, match=what):
            verify_output(source, output, [], lossless=False)


def test_an_error_of_verification_is_none_of_the_users(tmp_path: Path) -> None:
    """So that the exit code is 1."""
    assert issubclass(VerifyError, RestoreError)
    assert not issubclass(VerifyError, TargetError)


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = bytes(range(256)) * 5000
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()
