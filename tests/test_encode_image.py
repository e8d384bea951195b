"""The samples of a video become those of images, to the nearest level."""

from pathlib import Path

import av
import numpy as np
import pytest

from tests.clips import CLIPS
from tests.copies import read
from tests.scans import names, read_cv2, restore
from vidrestore.errors import TargetError


def test_a_video_becomes_images_counted_from_1(tmp_path: Path) -> None:
    source = CLIPS["rgb_12_bit"].make(tmp_path)
    (tmp_path / "out").mkdir()
    restore(source, tmp_path / "out")
    assert names(tmp_path / "out") == [f"{number:06}.png" for number in range(1, 13)]
    for number, frame in enumerate(read(source), start=1):
        kept = read_cv2(tmp_path / "out" / f"{number:06}.png")
        assert kept.dtype == np.uint16
        # 12 bits as 16, white to white: the very same levels.
        assert np.array_equal(np.rint(kept[:4, :, 1] * (4095 / 65535)), frame.planes[0][:4])
    restore(source, tmp_path / "dpx" / "a_%03d.dpx")
    with av.open(str(tmp_path / "dpx" / "a_012.dpx")) as image:
        assert next(image.decode(video=0)).format.name == "gbrp12le"


def test_yuv_becomes_rgb_to_the_nearest_level(tmp_path: Path) -> None:
    """4:4:4 in BT.601, limited range, against the equations of ITU-T H.273."""
    source = CLIPS["yuv444"].make(tmp_path)
    report = restore(source, f"{tmp_path}/out/", strength=0.0)
    assert report.warnings == []
    for number, frame in enumerate(read(source), start=1):
        luma, blue, red = (plane.astype(float) for plane in frame.planes)
        luma, blue, red = (luma - 16) * 255 / 219, (blue - 128) * 255 / 224, (red - 128) * 255 / 224
        wanted = np.stack(
            [luma + 1.402 * red, luma - 0.714136 * red - 0.344136 * blue, luma + 1.772 * blue], axis=-1
        ).clip(0, 255)
        assert np.abs(read_cv2(tmp_path / "out" / f"{number:06}.png") - wanted).max() < 0.502
    with pytest.raises(TargetError, match="cannot hold yuv444p without loss"):
        restore(source, f"{tmp_path}/exact/", lossless=True)


def test_deeper_yuv_becomes_16_bits_and_lost_sound_is_told(tmp_path: Path) -> None:
    restore(CLIPS["hevc_10_bit"].make(tmp_path), f"{tmp_path}/deep/")
    assert read_cv2(tmp_path / "deep" / "000001.png").dtype == np.uint16
    report = restore(CLIPS["variable_rate"].make(tmp_path), f"{tmp_path}/out/")
    assert [line.split(": ")[1] for line in report.warnings] == [
        "the source's other tracks (audio) are not in the images",
        "images have no clock, and the source's frames do not follow evenly",
    ]
