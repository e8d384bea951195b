"""Which faces are evaluated on: none that training saw, and always the same."""

from pathlib import Path

import pytest

from tests.drawn_faces import write_coarse_faces
from tests.fakes import FixedDetector, face_at, fake_spec
from vidrestore.errors import InputError, SourceError
from vidrestore.training import evaluation_faces
from vidrestore.training.data import in_val
from vidrestore.training.evaluation_faces import load_true_faces


def test_val_faces_alone_are_taken_and_never_more_than_asked_for(tmp_path: Path) -> None:
    write_coarse_faces(tmp_path, 300)
    spec = fake_spec(crop_px=32, template="tight")
    val = {f"{number}.png" for number in range(300) if in_val(f"{number}.png", 0.02)}
    assert len(val) >= 3, "the names give enough faces for this test"
    assert set(load_true_faces([tmp_path], spec).names) <= val
    assert len(load_true_faces([tmp_path], spec, count=2).names) == 2
    everything = load_true_faces([tmp_path], spec, count=50, split="all")
    assert len(everything.names) == 50
    assert everything.crops.shape == (50, 32, 32, 3)
    assert load_true_faces([tmp_path], spec, count=50, split="all").names == everything.names


def test_pictures_without_landmarks_are_searched_for_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest face of each; `only` chooses among the files; they are no training faces, so no split applies."""
    write_coarse_faces(tmp_path, 4, with_table=False)
    faces = (face_at(40, 40, 20), face_at(240, 240, 400))
    monkeypatch.setattr(evaluation_faces, "load_detector", lambda name, device: FixedDetector(faces))
    found = load_true_faces([tmp_path], fake_spec(crop_px=32), only="[0-2].png")
    assert sorted(found.names) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize(("options", "word"), [({"only": "*.bmp"}, "--only"), ({"count": 0}, "--count")])
def test_no_face_is_an_error_of_one_line(tmp_path: Path, options: dict[str, object], word: str) -> None:
    write_coarse_faces(tmp_path, 3)
    with pytest.raises(InputError, match=word) as caught:
        load_true_faces([tmp_path], fake_spec(crop_px=32), split="all", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no folder"):
        load_true_faces([tmp_path / "nowhere"], fake_spec(crop_px=32))
