"""Images are read back before they get their names, and a single wrong sample is found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clips import CLIPS
from tests.scans import KINDS, make_images, read_cv2, restore, write_cv2
from vidrestore import outputs
from vidrestore.verify.images import verify_images
from vidrestore.verify.pair import VerifyError


@pytest.mark.parametrize("kind", KINDS)
def test_images_from_images_are_verified(kind: str, tmp_path: Path) -> None:
    suffix = KINDS[kind][0]
    report = restore(make_images(tmp_path / "scans", kind, 3), tmp_path / "out" / f"frame_%06d{suffix}", verify=True)
    assert report.verified
    assert len(report.source_sha256) == len(report.target_sha256) == 64


@pytest.mark.parametrize("clip", ["silent", "hevc_10_bit", "gray_10_bit", "rgb_12_bit", "alpha", "interlaced"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".dpx"])
def test_images_from_a_video_are_verified(clip: str, suffix: str, tmp_path: Path) -> None:
    report = restore(CLIPS[clip].make(tmp_path), tmp_path / "out" / f"%04d{suffix}", verify=True, end=0.2)
    assert report.verified


@pytest.mark.parametrize("kind", ["png, 8 bits", "tiff, 16 bits", "dpx, 10 bits", "png, 16 bits gray"])
@pytest.mark.parametrize("quality", ["archive", None])
def test_a_video_from_images_is_verified(kind: str, quality: str | None, tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", kind, 5)
    assert restore(source, tmp_path / "out.mkv", quality=quality, verify=True, rate=12, start=0.1).verified


def one_level_off(file: Path) -> None:
    """In the last row, where no face is."""
    samples = read_cv2(file)
    samples[-1, -1] ^= 1
    write_cv2(file, samples, 8)


def missing(file: Path) -> None:
    file.unlink()


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "number", "message"),
    [
        (one_level_off, 102, r"frame_000102\.png: 3 samples of . outside the crop squares differ|1 samples of"),
        (missing, 103, "holds only 2 images, the source has more frames"),
        (missing, 101, "the first image is called frame_000102.png, not frame_000101.png"),
        (cut_off, 102, "frame_000102.png: is no whole PNG image"),
    ],
)
def test_images_that_differ_are_not_put_in_their_place(
    damage: Callable[[Path], None], number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_images(tmp_path / "scans", "png, 8 bits", 3)

    def damaged(_source: Path, images: Path, *rest: object, **options: object) -> int:
        damage(images.with_name(images.name % number))
        return verify_images(_source, images, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(outputs, "verify_images", damaged)
    with pytest.raises(VerifyError, match=message) as refused:
        restore(source, tmp_path / "out" / "frame_%06d.png", quality="archive")
    assert str(refused.value).endswith("the output was not put in its place")
    assert not (tmp_path / "out").exists()
