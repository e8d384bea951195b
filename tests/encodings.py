"""What a picture of a made-up source gets from `resolve_encoding`."""

from fractions import Fraction

from vidrestore.frame import ColorTags, VideoInfo
from vidrestore.video.encode import Encoding, resolve_encoding
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.planes import planar_layout


def info(pix_fmt: str = "yuv420p", *, width_px: int = 64, height_px: int = 48, codec: str = "h264") -> VideoInfo:
    layout = planar_layout(pix_fmt)
    assert layout is not None
    return VideoInfo(
        width_px=width_px,
        height_px=height_px,
        layout=layout,
        time_base=Fraction(1, 12800),
        average_rate=Fraction(25),
        num_frames_from_header=None,
        duration_s=None,
        codec=codec,
        rotation_deg=0,
        sample_aspect=Fraction(1),
        color=ColorTags(0, 2, 2, 2),
    )


def resolve(like: VideoInfo, suffix: str = ".mp4", **settings: object) -> Encoding:
    return resolve_encoding(EncodeSettings(**settings), like, suffix)  # type: ignore[arg-type]
