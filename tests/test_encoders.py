"""Every encoder works as it is asked for, and one in hardware only where there is hardware."""

from fractions import Fraction

import av
import pytest

from tests.clips import picture_rgb
from tests.encodings import info, resolve
from vidrestore.errors import OptionsError, TargetError
from vidrestore.video import encode
from vidrestore.video.encode_options import PRORES_4444
from vidrestore.video.encoders import ENCODERS, Encoder, can_open

PICTURE_FOR = {
    "libx264": "yuv420p",
    "libx264rgb": "gbrp",
    "libx265": "yuv420p12le",
    "ffv1": "yuv420p16le",
    "libvpx-vp9": "yuv444p",
    "libsvtav1": "yuv420p10le",
    "prores_ks": "yuv422p10le",
    "dnxhd": "yuv422p10le",
    "mjpeg": "yuv422p",
    "mpeg4": "yuv420p",
    "mpeg2video": "yuv422p",
    "h264_nvenc": "yuv444p",
    "hevc_nvenc": "yuv420p10le",
    "av1_nvenc": "yuv420p",
}
"""A pixel format that each encoder takes as it is."""


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_every_encoder_can_be_asked_for_by_name_or_codec_and_works(encoder: Encoder) -> None:
    if encoder.is_hardware and not can_open(encoder.name):
        pytest.skip("no NVIDIA card with a video encoder and its driver")
    picture = info(PICTURE_FOR[encoder.name], width_px=256, height_px=128)
    suffix = ".mov" if encoder.name == "dnxhd" else ".mkv"
    by_name = resolve(picture, suffix, codec=encoder.name)
    assert by_name.encoder is encoder
    assert by_name.layout == picture.layout
    assert encoder.is_hardware or resolve(picture, suffix, codec=encoder.codec).encoder is encoder
    context = av.CodecContext.create(encoder.name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 256, 128, by_name.pix_fmt
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = dict(by_name.options)
    frame = av.VideoFrame.from_ndarray(picture_rgb(0, 256, 128), format="rgb24").reformat(format=by_name.pix_fmt)
    frame.pts = 0
    assert sum(packet.size for packet in [*context.encode(frame), *context.encode(None)]) > 0


def test_prores_with_alpha_goes_into_prores_by_default_and_is_never_called_lossless() -> None:
    decoded = info("yuva444p12le", codec="prores")  # its depth in FFmpeg's decoder; the encoder takes 10
    for settings in ({}, {"codec": "source"}):
        encoding = resolve(decoded, ".mov", **settings)
        assert (encoding.encoder.name, encoding.pix_fmt) == ("prores_ks", "yuva444p10le")
        assert encoding.options["profile"] == PRORES_4444
    assert resolve(decoded, ".mkv").encoder.name == "ffv1"
    assert resolve(info("yuv444p12le", codec="prores"), ".mov").encoder.name == "libx265"  # holds all 12 bits
    with pytest.raises(TargetError, match=r"cannot hold 64x48 yuva444p12le without loss; use --codec ffv1 .* \.mkv"):
        resolve(decoded, ".mov", lossless=True)
    with pytest.raises(TargetError, match="cannot hold 64x48 yuva444p16le"):
        resolve(info("yuva444p16le"), ".mov")


def test_an_encoder_in_hardware_that_is_not_here_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "can_open", lambda name: False)
    message = "codec is 'hevc_nvenc', which needs an NVIDIA card .* use --codec hevc"
    with pytest.raises(OptionsError, match=message):
        resolve(info(), codec="hevc_nvenc")
    assert resolve(info(), codec="hevc").encoder.name == "libx265"


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "settings", "encoded_as", "options"),
    [
        ("h264_nvenc", "yuv420p", {}, "yuv420p", {"rc": "vbr", "cq": "15", "b": "0", "preset": "p7"}),
        ("hevc_nvenc", "yuv420p10le", {"crf": 20}, "p010le", {"cq": "20"}),
        ("hevc_nvenc", "yuv444p", {"lossless": True}, "yuv444p", {"tune": "lossless", "rc": "constqp", "qp": "0"}),
        ("av1_nvenc", "yuv420p", {"quality": "share", "preset": "p4"}, "yuv420p", {"cq": "24", "preset": "p4"}),
    ],
)
def test_an_encoder_in_hardware_is_used_when_asked_for_by_its_name(
    codec: str,
    pix_fmt: str,
    settings: dict[str, object],
    encoded_as: str,
    options: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encode, "can_open", lambda name: True)
    encoding = resolve(info(pix_fmt), codec=codec, **settings)
    assert (encoding.encoder.name, encoding.pix_fmt) == (codec, encoded_as)
    assert options.items() <= encoding.options.items()


def test_an_encoder_in_hardware_gets_no_depth_that_it_would_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "can_open", lambda name: True)
    with pytest.raises(TargetError, match="hevc in .mkv cannot hold 64x48 yuv420p12le"):
        resolve(info("yuv420p12le"), ".mkv", codec="hevc_nvenc")  # FFmpeg would take it as 16 bits, and keep 10
