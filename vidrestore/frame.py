"""A frame and what travels with it. The picture stays in the source's own planes from decoder to encoder."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, Literal, TypeVar

from vidrestore.face import PlacedFace, SkippedFace
from vidrestore.layout import PixelLayout, Plane

F = TypeVar("F")
Fields = Literal["", "top first", "bottom first"]
"""Which half of an interlaced picture's rows is shown first; "" for a progressive picture."""
INTERLACED = frozenset({2, 3, 4, 5})
TOP_FIELD_FIRST = frozenset({2, 5})
"""AVFieldOrder: TT, BB, TB, BT; the second letter of the last two is what is shown first."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the container and codec say about the video stream."""

    width_px: int
    height_px: int
    layout: PixelLayout
    time_base: Fraction
    """Seconds per tick."""
    average_rate: Fraction | None
    """Frames per second, for display only: time comes from pts."""
    num_frames_from_header: int | None
    """What the header promises; may be wrong or absent."""
    duration_s: float | None
    codec: str
    """FFmpeg's name of the source's codec, such as "h264"."""
    rotation_deg: int
    """Clockwise, from the display matrix: 0, 90, 180 or 270. The planes are not rotated."""
    sample_aspect: Fraction
    """Pixel width over height; 1 for square pixels."""
    color: "ColorTags"
    display_matrix: tuple[int, ...] | None = None
    """The nine numbers that rotate or mirror the picture for viewing (FFmpeg's AV_PKT_DATA_DISPLAYMATRIX), if any."""
    field_order: int = 0
    """AVFieldOrder: 0 unknown, 1 progressive, 2 and more interlaced."""
    coded_fields: Fields = ""
    """What the first picture itself says; it may know more than the container's `field_order`."""
    chroma_location: int = 0
    """AVChromaLocation as the stream says it; 0 where it says nothing. `layout.siting` is what we take it for."""
    stream_number: int | None = None
    """Which of the source's streams this is, counted among all; None: the first video stream."""
    light: "HdrLight | None" = None
    """How bright an HDR picture was mastered, where the stream says so."""
    cropping: "Cropping | None" = None
    """What players are told to leave out; all planes have it all the same."""

    @property
    def fields(self) -> Fields:
        """Of an interlaced stream, by the picture's own word before the container's."""
        if self.coded_fields or self.field_order not in INTERLACED:
            return self.coded_fields
        return "top first" if self.field_order in TOP_FIELD_FIRST else "bottom first"


@dataclass(frozen=True, slots=True)
class ColorTags:
    """The stream's colour description as FFmpeg's numbers (ISO/IEC 23091-2), carried through unread."""

    range: int
    """AVColorRange: 0 unspecified, 1 limited, 2 full."""
    matrix: int
    primaries: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Cropping:
    """What a container tells players to leave out at the edges of each picture as it is stored."""

    top_px: int = 0
    bottom_px: int = 0
    left_px: int = 0
    right_px: int = 0

    def __str__(self) -> str:
        sides = ("top", "bottom", "left", "right")
        return ", ".join(f"{side} {getattr(self, f'{side}_px')} px" for side in sides if getattr(self, f"{side}_px"))


@dataclass(frozen=True, slots=True)
class MasteringDisplay:
    """The display that an HDR picture was graded on (SMPTE ST 2086)."""

    red_xy: tuple[Fraction, Fraction]
    """CIE 1931 chromaticity, here and below."""
    green_xy: tuple[Fraction, Fraction]
    blue_xy: tuple[Fraction, Fraction]
    white_xy: tuple[Fraction, Fraction]
    min_cd_m2: Fraction
    max_cd_m2: Fraction


@dataclass(frozen=True, slots=True)
class HdrLight:
    """Static HDR metadata; what the stream does not have is None."""

    display: MasteringDisplay | None = None
    max_content_cd_m2: int | None = None
    """The brightest sample of all (MaxCLL, CTA-861.3)."""
    max_average_cd_m2: int | None = None
    """The brightest frame on average (MaxFALL)."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture in the source's own sample values, and when it is shown."""

    index: int
    """Counts output frames from 0. For people and logs; time comes from pts."""
    pts: int
    """Presentation time in ticks of `time_base`."""
    time_base: Fraction
    """Seconds per tick."""
    planes: tuple[Plane, ...]
    """(h_i, w_i) uint8 or uint16 each, in the order of `layout.components`."""
    layout: PixelLayout
    fields: Fields = ""
    """Whether its rows belong to two moments."""
    captions: object | None = None
    """Closed captions inside the picture, which only `video/marks.py` can look into."""

    def __post_init__(self) -> None:
        self.layout.check_planes(self.planes)

    @property
    def time_s(self) -> float:
        return float(self.pts * self.time_base)

    def seconds_since(self, earlier: "Frame") -> float:
        """0 for a frame that is no later. Ticks are subtracted before they become seconds, so that the same shot takes
        the same steps wherever it begins."""
        return max(float((self.pts - earlier.pts) * self.time_base), 0.0)

    @property
    def width_px(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def height_px(self) -> int:
        return int(self.planes[0].shape[0])

    def __repr__(self) -> str:
        return f"Frame(index={self.index}, pts={self.pts}, {self.width_px}x{self.height_px} {self.layout.name})"


@dataclass(frozen=True, slots=True, eq=False)
class FrameFaces(Generic[F]):
    """The one envelope between stages: a frame and its faces at that stage. No faces is (), never None."""

    frame: Frame
    faces: tuple[F, ...]
    skipped: tuple[SkippedFace, ...] = ()
    """Faces that a stage has set aside; they are reported, not restored."""


@dataclass(frozen=True, slots=True, eq=False)
class RestoredFrame:
    """The end of the journey: the frame to be written, the source's own beside it, and what happened to its faces."""

    frame: Frame
    source: Frame
    faces: tuple[PlacedFace, ...]
    """Those that were restored."""
    skipped: tuple[SkippedFace, ...]
