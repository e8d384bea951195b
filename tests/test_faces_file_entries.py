"""People edit the faces file, and a video is rendered from it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.listed_frames import LAYOUTS, Content, edited
from vidrestore.errors import SourceError
from vidrestore.faces_file.read import read_faces_file


def strengths(path: Path, track_id: int = 2) -> list[float]:
    frames = read_faces_file(path).frames()
    return [face.strength for frame in frames for face in frame.faces if face.track_id == track_id]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_edit_counts_however_the_file_is_laid_out(tmp_path: Path, layout: Callable[[Content], str]) -> None:
    edits = [
        {"track_id": 2, "strength": 0.5},
        {"track_id": 2, "from_s": 0.04, "to_s": 0.12, "strength": 0.25},  # the end is no longer part of it
        {"track_id": 1, "strength": 1},
    ]
    path = edited(tmp_path, lambda it: it.update(edits=edits), layout)
    assert strengths(path) == [0.5, 0.25, 0.25, 0.5]
    assert strengths(path, track_id=1) == [0, 0, 0, 0]  # left alone is left alone
    listed = read_faces_file(path)
    assert (listed.num_frames, listed.track_ids, listed.span_s) == (4, {1, 2}, (None, 9.5))


def test_an_edit_multiplies_what_the_frames_say(tmp_path: Path) -> None:
    def edit(content: Content) -> None:
        content["edits"] = [{"track_id": 2, "strength": 0.5}]
        content["frames"][1]["faces"][1]["strength"] = 0.3
        content["frames"][2]["faces"][1]["restored"] = False
        content["frames"][3]["faces"] = []

    assert strengths(edited(tmp_path, edit)) == [0.5, 0.15, 0]


def test_people_find_a_place_for_their_edits(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda _: None)
    path.write_text(path.read_text().replace('"edits": []', '"edits": [{"track_id": 2, "strength": 0}]'))
    assert strengths(path) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda it: it.update(edits={}), "edits is {}; it must be a list"),
        (lambda it: it.update(edits=[3]), "edit 0 is 3; it must be an object"),
        (lambda it: it.update(edit=[]), 'the file has "edit", which is none of .*edits'),
        (lambda it: it.update(edits=[{"track_id": 2}]), "'strength' is missing"),
        (lambda it: it.update(edits=[{"strength": 1}]), "'track_id' is missing"),
        (lambda it: it.update(edits=[{"track_id": 7, "strength": 1}]), "edit 0 is of track 7; its tracks are 1, 2"),
        (lambda it: it.update(edits=[{"track_id": "2", "strength": 1}]), 'track_id of edit 0 is "2"; .* whole number'),
        (lambda it: it.update(edits=[{"track_id": True, "strength": 1}]), "track_id of edit 0 is true"),
        (lambda it: it.update(edits=[{"track_id": 2, "strength": 1.5}]), "strength of edit 0 is 1.5; .* from 0 to 1"),
        (lambda it: it.update(edits=[{"track_id": 2, "strength": float("nan")}]), "strength of edit 0 is NaN"),
        (lambda it: it.update(edits=[{"track_id": 2, "strength": 1, "to_s": "1:20"}]), 'to_s of edit 0 is "1:20"'),
        (
            lambda it: it.update(edits=[{"track_id": 2, "strength": 1, "from": 3}]),
            'edit 0 has "from", which is none of',
        ),
        (
            lambda it: it.update(edits=[{"track_id": 2, "strength": 1, "from_s": 2, "to_s": 1}]),
            "edit 0 goes from 2 s to 1 s",
        ),
        (lambda it: it["frames"][2]["faces"][1].update(strength=-1), "frame 2: face 2: strength is -1"),
        (lambda it: it["frames"][2]["faces"][1].update(strenght=0.5), 'a face of frame 2 has "strenght"'),
        (lambda it: it["frames"][2]["faces"][1].update(reason=["a\nb"]), "for a reason; it must be text"),
        (lambda it: it["frames"][2]["faces"][1].update(moment=1), "frame 2: face 2 has 1 for its moment"),
        (lambda it: it["frames"][2].update(moments=2), "frame 2: face 1 has null for its moment"),
        (lambda it: it["frames"][2].update(faces=None), "faces of frame 2 is null; it must be a list"),
        (lambda it: it["frames"].append(None), "frame 4 is null"),
        (lambda it: it.update(span_s=[1]), "span_s"),
        (lambda it: it.update(height_px=-1), "height_px is -1"),
    ],
)
@pytest.mark.parametrize("layout", ["ours", "pretty-printed"])
def test_an_edit_that_makes_no_sense_is_one_line(
    tmp_path: Path, layout: str, edit: Callable[[Content], object], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read_faces_file(edited(tmp_path, edit, LAYOUTS[layout]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
