"""Nothing is written where it must not be."""

from pathlib import Path

import pytest

from vidrestore.errors import TargetError
from vidrestore.target import check_target


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("source.mp4", "is the source itself"),
        ("other.mp4", "exists already; use --overwrite"),
        ("folder", "is a folder"),
        ("absent/new.mp4", "does not exist; make it first"),
    ],
)
def test_a_target_that_must_not_be_written_is_refused_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "source.mp4").write_bytes(b"source")
    (tmp_path / "other.mp4").write_bytes(b"other")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TargetError, match=message):
        check_target(tmp_path / name, tmp_path / "source.mp4", overwrite=False)
    assert (tmp_path / "other.mp4").read_bytes() == b"other"


def test_overwrite_never_means_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(b"source")
    (tmp_path / "link.mp4").symlink_to(source)
    with pytest.raises(TargetError, match="is the source itself"):
        check_target(tmp_path / "link.mp4", source, overwrite=True)
