"""Which files are a sequence: what is wrong with a folder is one line, and nothing is taken for what it is not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.scans import Samples, flip, make_images, names, picture, restore, write_cv2
from vidrestore.cli import main
from vidrestore.errors import SourceError
from vidrestore.video.read import VideoReader
from vidrestore.video.read_sequence import SequenceReader
from vidrestore.video.sample import sample_frames
from vidrestore.video.sequence import is_sequence


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write_other(name: str, samples: Samples, bits: int) -> Callable[[Path], None]:
    return lambda folder: write_cv2(folder / name, samples, bits)


def cut(name: str, num_bytes: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:num_bytes] if num_bytes >= 0 else content[:num_bytes])

    return change


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def rename_all(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for index, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / (text.format(index="abcdefghijklm"[index]) + path.suffix))

    return change


SMALL = picture(0, 16, 3)[:50, :50]
WRONG = {
    "a gap": (
        "png, 16 bits",
        remove("frame_000105.png"),
        "frame_000105.png of frame_000101.png to frame_000112.png is",
    ),
    "another kind": ("png, 16 bits", write_other("frame_000113.tif", SMALL, 16), "several kinds (png and tiff)"),
    "another name": ("png, 16 bits", write_other("other_000113.png", SMALL, 16), "of several names"),
    "other digits": ("png, 16 bits", write_other("frame_0113.png", SMALL, 16), "is numbered unlike"),
    "another size": ("png, 16 bits", write_other("frame_000113.png", SMALL, 16), "frame_000113.png: is 50x50 px"),
    "another depth": (
        "png, 16 bits",
        write_other("frame_000106.png", picture(0, 8, 3), 8),
        "frame_000106.png: is 131x97",
    ),
    "a gap of three": (
        "png, 16 bits",
        lambda folder: [(folder / f"frame_000{number}.png").unlink() for number in (105, 106, 109)],
        "frame_000105.png and 2 more of frame_000101.png to frame_000112.png are missing; add them, or",
    ),
    "alpha in one": (
        "png, 8 bits",
        write_other("frame_000106.png", picture(0, 8, 4), 8),
        "frame_000106.png: is 131x97 px with 8 bits, RGB with alpha, and frame_000101.png is 131x97 px with 8 bits, "
        "RGB; restore",
    ),
    "one gray": (
        "tiff, 16 bits",
        write_other("frame_000106.tiff", picture(0, 16, 1), 16),
        "with 16 bits, gray, and frame_000101.tiff is 131x97 px with 16 bits, RGB; restore",
    ),
    "no numbers": ("png, 16 bits", rename_all("take {index}"), "has no number"),
    "nothing": ("png, 16 bits", empty, "without PNG, TIFF or DPX images"),
    "an empty png": ("png, 16 bits", cut("frame_000107.png", 0), "frame_000107.png: is empty"),
    "half a png": ("png, 16 bits", cut("frame_000107.png", 9000), "frame_000107.png: is no whole PNG"),
    "a damaged png": ("png, 16 bits", flip("frame_000107.png"), "frame_000107.png: is no whole PNG"),
    "half a tiff": ("tiff, 8 bits", cut("frame_000107.tif", 9000), "frame_000107.tif: is no whole TIFF"),
    "a damaged tiff": ("tiff, 8 bits", flip("frame_000107.tif"), "frame_000107.tif: is no whole TIFF"),
    "most of a dpx": ("dpx, 8 bits", cut("frame_000107.dpx", -9), "frame_000107.dpx: is no whole DPX"),
    "a dpx without a head": ("dpx, 10 bits", cut("frame_000107.dpx", 100), "frame_000107.dpx: is no whole DPX"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_folder_is_one_line_that_names_the_file(tmp_path: Path, wrong: str) -> None:
    kind, change, message = WRONG[wrong]
    source = make_images(tmp_path / "scans", kind)
    change(source)
    with pytest.raises(SourceError) as caught:
        restore(source, f"{tmp_path}/out/")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["scans"] or names(tmp_path) == ["out.work", "scans"]
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_pattern_whatever_its_name(tmp_path: Path) -> None:
    """And FFmpeg does not take it for one."""
    make_images(tmp_path / "scans", "png, 8 bits", 3, first=0, name="a%03d")
    lone = tmp_path / "scans" / "a%03d.png"
    write_cv2(lone, np.full((20, 30, 3), 7), 8)
    assert not is_sequence(lone)
    with VideoReader(lone) as reader:
        (frame,) = reader.frames()
    assert (frame.width_px, frame.planes[0][0, 0]) == (30, 7)
    lone.rename(tmp_path / "scans" / "100%.txt")
    assert is_sequence(lone)
    with SequenceReader(lone) as sequence:
        assert sequence.num_frames_expected == 3
    shutil.copytree(tmp_path / "scans", tmp_path / "100%d")
    assert len(sample_frames(tmp_path / "100%d")) == 3


def test_info_tells_what_a_folder_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_images(tmp_path / "scans", "dpx, 10 bits", 2)
    main(["info", str(source)])
    said = capsys.readouterr().out
    assert "2 DPX images, frame_%06d.dpx from number 101, 131x97, 10 bits, rgb, 18.000 frames/s" in said
    assert said.count("  at ") == 2
