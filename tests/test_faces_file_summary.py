"""People are told what tracks there are to choose from."""

from pathlib import Path

import pytest

from tests.listed_frames import Content, edited
from vidrestore.faces_file.read import read_faces_file
from vidrestore.faces_file.summary import tracks_of


def test_people_are_told_when_each_track_is_there_and_how_large(tmp_path: Path) -> None:
    def edit(content: Content) -> None:
        del content["frames"][0]["faces"][1]
        content["frames"][1]["faces"][1]["landmarks_px"][1] = [300, 401]  # the median does not mind
        content["edits"] = [{"track_id": 2, "from_s": 0.1, "strength": 0.4}]

    left_alone, restored = tracks_of(read_faces_file(edited(tmp_path, edit)))
    assert (left_alone.track_id, left_alone.begin_s, left_alone.end_s) == (1, 0.0, 0.12)
    assert (left_alone.num_frames, left_alone.strength) == (4, 0.0)
    assert (restored.track_id, restored.begin_s, restored.end_s, restored.num_frames) == (2, 0.04, 0.12, 3)
    assert restored.eyes_apart_px == pytest.approx(8**0.5)
    assert restored.strength == pytest.approx((1 + 1 + 0.4) / 3)
