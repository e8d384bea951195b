"""What a run has announced as lost, and nothing else, is no difference."""

from pathlib import Path

import pytest

from vidrestore.verify.pair import Pair


@pytest.mark.parametrize(
    ("warning", "is_lost"),
    [
        ("out.mp4: .mp4 cannot hold the source's audio track 1", True),
        ("out.mp4: .mp4 cannot hold the source's audio track 1 (cover picture)", True),
        ("in.mkv: audio track 1 holds no packet that can be read", True),
        ("out.mp4: .mp4 cannot hold the source's audio track 12", False),
        ("in.mkv: audio track 12 holds no packet that can be read", False),
        ("out.mp4: .mp4 cannot hold the source's data track 1", False),
    ],
)
def test_only_the_track_of_that_very_number_is_excused(warning: str, is_lost: bool) -> None:
    assert pair_of("in.mkv", "out.mp4", warning).announced("audio track 1") == is_lost


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("audio track 1.mkv", "out.mp4"),
        ("in.mkv", "audio track 1.mp4"),
        ("in", "in: audio track 1.mp4"),  # one name begins as the other
        ("in: audio track 1.mkv", "in"),
    ],
)
def test_the_name_of_a_file_excuses_nothing(source: str, target: str) -> None:
    for name in (source, target):
        pair = pair_of(source, target, f"{name}: audio track 3 holds no packet that can be read")
        assert pair.announced("audio track 3")
        assert not pair.announced("audio track 1")


def pair_of(source: str, target: str, warning: str) -> Pair:
    return Pair(Path(source), Path("hidden.mp4"), Path(target), "mp4", None, None, None, (warning,))
