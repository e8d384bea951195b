"""What the detector's scenes are made of is there, or named."""

from pathlib import Path

import pytest

from vidrestore.errors import InputError
from vidrestore.training.detector_pictures import load_backgrounds, load_face_pictures


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"landmarks\.tsv"):
        load_face_pictures(tmp_path)
    with pytest.raises(InputError, match="backgrounds"):
        load_backgrounds(tmp_path)
