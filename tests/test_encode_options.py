"""Rate factor, preset and quality by name reach the encoder, and one that it lacks is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.clips import CLIPS
from tests.copies import copy
from tests.encodings import info, resolve
from vidrestore.errors import OptionsError
from vidrestore.video.encode_options import EncodeSettings


def test_crf_and_preset_reach_the_encoder() -> None:
    encoding = resolve(info(), crf=23, preset="slow")
    assert (encoding.options["crf"], encoding.options["preset"]) == ("23", "slow")
    assert resolve(info()).options["crf"] == "15"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crf": 60}, "crf is 60; libx264 takes 0 to 51"),
        ({"preset": "warp"}, "preset is 'warp'; libx264 has ultrafast, superfast"),
        ({"codec": "ffv1", "crf": 3}, "ffv1 has no such setting: leave --crf out"),
        ({"codec": "mpeg4", "preset": "slow"}, "mpeg4 has none: leave --preset out"),
        (
            {"codec": "theora"},
            "codec is 'theora'; it must be auto, source, or one of av1, av1_nvenc, dnxhd, ffv1, h264",
        ),
    ],
)
def test_a_setting_that_the_encoder_lacks_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        resolve(info(), **settings)


def test_interlaced_coding_is_used_where_each_field_has_whole_chroma_rows() -> None:
    top_first = replace(info(), field_order=2)
    assert resolve(top_first).options["x264-params"].endswith("tff=1")
    assert resolve(replace(top_first, field_order=3)).options["x264-params"].endswith("bff=1")
    assert "flags" not in resolve(replace(top_first, height_px=486)).options  # x264 refuses it
    assert "flags" not in resolve(info()).options


@pytest.mark.parametrize(
    ("quality", "pix_fmt", "suffix", "encoder", "crf"),
    [
        ("master", "yuv420p", ".mov", "prores_ks", None),
        ("master", "yuv420p", ".mp4", "libx264", "10"),
        ("master", "yuv420p10le", ".mp4", "libx265", "10"),
        ("share", "yuv420p", ".mp4", "libx264", "21"),
        ("share", "yuv420p", ".webm", "libvpx-vp9", "24"),
        (None, "yuv420p", ".mov", "libx264", "15"),
    ],
)
def test_a_quality_by_name_chooses_encoder_and_rate_factor(
    quality: str | None, pix_fmt: str, suffix: str, encoder: str, crf: str | None
) -> None:
    encoding = resolve(info(pix_fmt), suffix, quality=quality)
    assert (encoding.encoder.name, encoding.options.get("crf")) == (encoder, crf)


def test_a_master_is_finer_than_the_default_and_a_shared_copy_smaller(tmp_path: Path) -> None:
    source, sizes = CLIPS["h264"].make(tmp_path), []
    for quality in ("share", None, "master"):
        target = tmp_path / f"{quality}.mp4"
        copy(source, target, EncodeSettings(quality=quality))  # type: ignore[arg-type]
        sizes.append(target.stat().st_size)
    assert sizes == sorted(set(sizes))
