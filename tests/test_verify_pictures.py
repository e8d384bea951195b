"""A picture that is missing, late, of another place or described otherwise is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.clips import CLIPS
from tests.verified import DEFAULT, LOSSLESS, Change, difference, written
from vidrestore.frame import Frame
from vidrestore.verify.output import verify_output
from vidrestore.verify.pair import VerifyError
from vidrestore.video.encode import EncodeSettings


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
