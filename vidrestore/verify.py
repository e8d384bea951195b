"""`--verify`: a finished output is read back and compared with its source before it gets its place.

Nothing of the writer is used to judge the writer: both files are opened anew, and what the output must hold is worked
out from the source once more. What the writer has announced as lost, in its warnings, is no difference.
"""

import contextlib
import hashlib
import itertools
import math
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import av
import av.container
import cv2
import numpy as np
from av.packet import Packet
from av.stream import Disposition, Stream
from numpy.typing import NDArray

from vidrestore.errors import OptionsError, RestoreError, SourceError
from vidrestore.frame import Frame, HdrLight, VideoInfo
from vidrestore.layout import Plane
from vidrestore.video.encode import INTERLACING_CODECS, MATROSKA_CONTAINERS, QUICKTIME_CONTAINERS, container_format
from vidrestore.video.read import VideoReader
from vidrestore.video.source import (
    FALLBACK_RATE_HZ,
    MAX_DAMAGED_IN_A_ROW,
    chosen_video_stream,
    moving_pictures,
    open_source,
    packets_of,
)
from vidrestore.video.tracks import EMPTY_TEXT, MAX_INTERLEAVING_S, MAX_MOVIE_TICKS_PER_S, TIMECODE

Corners = NDArray[np.floating[Any]]
"""(4, 2) corners of a crop square in frame pixels, in order around it."""

GROWN_PX = 1.0
"""A crop square is taken for this much wider on each side: the faces file rounds its corners, and pixels lie on whole
numbers. Chroma needs no more: the pasted change ends two pixels inside the square (`stages/paste.py`)."""
PROBE_STEP_PX = 3
"""Without `lossless`, every third sample of every third row is looked at, in all frames: 3 ms at 720p. An odd step
meets both fields of interlaced pictures."""
MIN_PSNR_DB = 20.0
"""Below it a picture is another one. Six web clips have 44 dB or more at our defaults, 40 with `share`, 25 at x264's
coarsest, a crf of 51, which leaves 12 to 24 of tiny synthetic ones."""
OTHER_RATIO = 4.0
"""A picture whose squared error is this many times smaller (6 dB) against the frame before or after is out of place;
so is the range of a film that is so much closer to its source when that is taken from limited to full or back."""
MAX_SHAPE_ERROR = 0.005
"""Codecs have a few bits for the ratio: 389:388 comes back as 255:254."""
CODING_NOISE = 4.0
"""Squared levels that any encoder may err by, whichever frame it shows."""
RANGE_GAIN, RANGE_BLACK = 255 / 219, 16.0
"""Full range from limited: (level - black) * gain (ITU-T H.273)."""
MS = Fraction(1, 1000)
"""A second's part in which Matroska counts."""
NO_TIME = -(1 << 63)
"""In place of a time that a packet does not have."""
REWRITTEN_VIDEO = frozenset({"h264", "hevc", "vvc", "av1", "vp9", "mjpeg", "mpeg4"})
"""Their packets are spelled differently from container to container: start codes or lengths, headers inside or not."""
EXACT_CONTAINERS = QUICKTIME_CONTAINERS | {"nut"}
"""They hold the source's own ticks and its start."""
UNSPECIFIED = 2
"""H.273's number for a matrix, primaries or transfer that nobody has told."""
UNTOLD = frozenset({0, UNSPECIFIED})
"""Matrix 0 is RGB's, and codecs that hold RGB as such have no need to say it."""
JPEG = "mjpeg"
"""Its decoder says BT.601 (JFIF 1.02), whatever the picture was made from."""
AVI = "avi"
AVI_SLACK_FRAMES = 2
"""AVI has no times of its own, only a count of frames: the first picture is always at 0, and what a decoder holds back
is counted late."""
FRACTION_BITS = 4
"""Of a pixel, for OpenCV's polygons."""
TAGGING_CODECS = frozenset({"h264", "hevc", "av1"})
"""Their own stream says all colour tags. Of others, a tag that is missing in the output has no place to be."""


class VerifyError(RestoreError):
    """The output differs from what it must be."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found equal."""

    num_frames: int
    num_tracks: int
    """Beside the picture; those without a packet are not counted."""
    num_packets: int
    """Of these tracks, as the output has them."""
    samples_equal: bool
    """Every sample outside the crop squares was compared, and is equal."""
    worst_psnr_db: float | None
    """Without `lossless`: of the frame and plane that differ most outside the crop squares; None where nothing does."""


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_output(
    source: Path,
    output: Path,
    faces: Iterable[Iterable[Corners]],
    *,
    lossless: bool,
    target: Path | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    stream: int | None = None,
    decoder: Literal["auto", "pyav", "decord"] = "auto",
    warnings: Sequence[str] = (),
    min_psnr_db: float = MIN_PSNR_DB,
) -> Verified:
    """Raise VerifyError, naming the first difference, unless `output` is the restoration of `source` that it should be.

    `faces` has, for each output frame in order, the corners of the crop squares in it; `warnings` are the writer's.
    `target` is the name that the output will get, for the message; the other options are the run's.

    Compared are: the number of frames, the time of each (within half a tick of the output's clock: exactly, where it
    has the source's ticks), size, pixel shape, turn, colour tags, fields, siting of chroma, static HDR metadata; the
    other tracks packet by packet with their times (sound that containers divide anew, as a run of bytes), languages,
    dispositions, covers, and the number of chapters. Containers other than MP4 and its kin may move the start of all
    tracks together, Matroska only to reach 0.

    With `lossless` every decoded sample outside the crop squares must be equal. Without it, samples are not compared;
    but in every frame a ninth of them, outside the squares, must have a PSNR of at least `min_psnr_db` (give 0 where
    the user has asked for a crf as coarse as 40), look more like their own frame than like its neighbours, and in the
    mean over the film be of the right range. In both cases the output must decode without a damaged packet.

    Both files are read twice, once for the pictures and once for the packets. A few frames are in memory, and 20 bytes
    for each packet of the other tracks. Raises SourceError where the source cannot be read any more.
    """
    comparison = _Comparison(source, output, target or output, start_s, end_s, stream, tuple(warnings))
    with VideoReader(source, start_s=start_s, end_s=end_s, decoder=decoder, stream=stream) as before:
        with comparison.reading_back():
            after = VideoReader(output, stream=comparison.output_picture_number())
        with after:
            comparison.compare_infos(before.info, after.info, lossless=lossless)
            num_frames, worst_psnr_db = comparison.compare_frames(
                before, after, faces, lossless=lossless, min_psnr_db=min_psnr_db
            )
    num_tracks, num_packets = comparison.compare_tracks()
    comparison.compare_chapters()
    return Verified(num_frames, num_tracks, num_packets, lossless, worst_psnr_db)


class _Comparison:
    """One run of `verify_output`."""

    def __init__(
        self,
        source: Path,
        output: Path,
        target: Path,
        start_s: float | None,
        end_s: float | None,
        stream: int | None,
        warnings: Sequence[str],
    ) -> None:
        self._source, self._output, self._target = source, output, target
        self._start_s, self._end_s, self._stream = start_s, end_s, stream
        self._warnings = warnings
        self._container = container_format(output.suffix)
        self._begin_s: Fraction | None = None
        """With a start: the time of the first frame in the source, which is 0 in the output."""
        self._first_s = Fraction(0)
        """The first picture's time as it should be in the output."""
        self._shift_s = Fraction(0)
        """How much later the output has it."""
        self._frame_s = 1 / FALLBACK_RATE_HZ
        """How long a frame lasts, about."""
        self._has_common_clock = True

    def differs(self, what: str) -> NoReturn:
        raise VerifyError(f"{self._target}: {what}; the output was not put in its place")

    @contextlib.contextmanager
    def reading_back(self) -> Iterator[None]:
        try:
            yield
        except (SourceError, OptionsError, av.FFmpegError) as exc:
            raise VerifyError(
                f"{self._target}: cannot be read back ({exc}); the output was not put in its place"
            ) from exc

    def announced(self, what: str) -> bool:
        return any(what in warning for warning in self._warnings)

    def output_picture_number(self) -> int:
        """The restored stream in the output: tracks keep their order, but some may be left out with a warning."""
        with open_source(self._source) as source:
            chosen = chosen_video_stream(source, self._source, self._stream).index
            kept = [
                each.index for each in moving_pictures(source) if each.index == chosen or not self._is_announced(each)
            ]
        with open_source(self._output) as output:
            found = [each.index for each in moving_pictures(output)]
        if len(found) != len(kept):
            self.differs(f"holds {len(found)} video streams, not {len(kept)}")
        return found[kept.index(chosen)]

    def _is_announced(self, stream: Stream) -> bool:
        return self.announced(f"{stream.type} track {stream.index}")

    def compare_infos(self, before: VideoInfo, after: VideoInfo, *, lossless: bool) -> None:
        """The facts about the picture as a whole."""

        def same(what: str, one: object, other: object) -> None:
            if one != other:
                self.differs(f"{what} is {other}, not {one}")

        same("picture size", (before.width_px, before.height_px), (after.width_px, after.height_px))
        if lossless and before.layout.family != "gray":  # which H.264 gives back as colour without any
            same("pixel format", before.layout.name, after.layout.name)
        if not self.announced("loses the mark of"):
            same("full range", before.layout.full_range, after.layout.full_range)
        for name in () if self.announced("loses the colour tags") else ("matrix", "primaries", "transfer"):
            tag, kept = getattr(before.color, name), getattr(after.color, name)
            is_told = kept != UNSPECIFIED or after.codec in TAGGING_CODECS
            if is_told and after.codec != JPEG and not (name == "matrix" and tag in UNTOLD):
                same(f"colour tag for {name}", tag, kept)
        shapes = before.sample_aspect, after.sample_aspect
        if abs(shapes[1] / shapes[0] - 1) > MAX_SHAPE_ERROR and not self.announced("loses the pixel shape"):
            same("pixel shape", *shapes)
        if not self.announced("loses the rotation or mirroring"):
            same("display matrix", before.display_matrix, after.display_matrix)
        if not self.announced("loses the mark that pictures are") and (after.fields or _marks_fields(after)):
            same("order of fields", before.fields or "progressive", after.fields or "progressive")
        same_chroma = _subsampling(before) == _subsampling(after) and before.layout.log2_chroma_w > 0
        if same_chroma and before.chroma_location and not self.announced("cannot say that chroma samples"):
            one, other = before.layout.siting, after.layout.siting
            if before.layout.log2_chroma_h == 0:  # above and below mean nothing
                same("siting of chroma on the left", one.endswith("left"), other.endswith("left"))
            else:
                same("siting of chroma", one, other)
        if not self.announced("loses the HDR metadata") and not _same_light(before.light, after.light):
            self.differs(f"HDR metadata are {after.light}, not {before.light}")

    def compare_frames(
        self,
        before: VideoReader,
        after: VideoReader,
        faces: Iterable[Iterable[Corners]],
        *,
        lossless: bool,
        min_psnr_db: float,
    ) -> tuple[int, float | None]:
        """(number of frames, worst PSNR without `lossless`)."""
        num_frames = 0
        likeness = _Likeness(self.differs, min_psnr_db)
        shown_s: Fraction | None = None
        own_damage = 0
        self._frame_s = 1 / (before.info.average_rate or FALLBACK_RATE_HZ)
        squares = itertools.chain(faces, itertools.repeat(()))
        for one, other in itertools.zip_longest(before.frames(), self._read_back(after)):
            if one is None or other is None:
                number = num_frames if other is None else f"more than {num_frames}"
                self.differs(f"holds {number} frames, the source {'more' if other is None else 'has no more'}")
            if num_frames == 0:
                if self._start_s:
                    self._begin_s = one.pts * one.time_base
                self._first_s = one.pts * one.time_base - (self._begin_s or 0)
            if num_frames == 0 or (num_frames == 1 and self._container == AVI):
                self._shift_s = other.pts * other.time_base - one.pts * one.time_base + (self._begin_s or 0)
            at = f"frame {num_frames} at {float(one.pts * one.time_base):.3f} s"
            wanted_s = one.pts * one.time_base - (self._begin_s or 0) + self._shift_s
            if shown_s is not None:
                # Where two times become one in a coarser clock, the reader has moved the second one.
                wanted_s = max(wanted_s, shown_s + other.time_base)
            shown_s = other.pts * other.time_base
            slack_s = AVI_SLACK_FRAMES * self._frame_s if self._container == AVI else self._tolerance_s(other.time_base)
            if abs(shown_s - wanted_s) > slack_s:
                self.differs(f"{at} of the source is shown at {float(shown_s):.6f} s, not {float(wanted_s):.6f} s")
            # Of a film with both kinds of pictures, most codecs mark all alike.
            allowed = {one.fields, before.info.fields} | (set() if _marks_fields(after.info) else {""})
            if other.fields not in allowed:
                marks = [fields or "progressive" for fields in (other.fields, one.fields)]
                self.differs(f"{at} is marked {marks[0]}, not {marks[1]}")
            inside = crop_mask(next(squares), one.width_px, one.height_px)
            # A decoder that patches up damage need not do so in the same way twice.
            damage, own_damage = own_damage, before.num_damaged_frames
            if not lossless:
                likeness.look(at, one, other, inside)
            elif damage == own_damage:
                self._compare_samples(at, one, other, inside)
            num_frames += 1
        likeness.finish()
        damaged = after.num_damaged_packets + after.num_damaged_frames
        if damaged:
            self.differs(f"{damaged} damaged packets or frames were found when it was read back")
        return num_frames, likeness.worst_psnr_db

    def _read_back(self, after: VideoReader) -> Iterator[Frame]:
        with self.reading_back():
            yield from after.frames()

    def _compare_samples(self, at: str, one: Frame, other: Frame, inside: NDArray[np.uint8] | None) -> None:
        for component, wanted, kept in comparable_planes(one, other):
            if np.array_equal(wanted, kept):
                continue
            differing = wanted != kept
            if inside is not None:
                differing &= ~covered_samples(inside, wanted.shape)
            places = np.argwhere(differing)
            if len(places):
                y, x = places[0]
                self.differs(
                    f"{at}: {len(places)} samples of {component} outside the crop squares differ, the first at "
                    f"({x}, {y}): {kept[y, x]}, not {wanted[y, x]}"
                )

    def _tolerance_s(self, tick_s: Fraction) -> Fraction:
        """Half a tick of rounding; a file that has moved as a whole was rounded twice."""
        return tick_s if self._shift_s else tick_s / 2

    def compare_tracks(self) -> tuple[int, int]:
        """(number of tracks beside the picture, number of packets in the output)."""
        wanted = self._wanted_tracks()
        with self.reading_back():
            kept = self._kept_tracks()
        ticks_per_s = math.lcm(*(track.time_base.denominator for track in wanted))
        self._has_common_clock = ticks_per_s <= MAX_MOVIE_TICKS_PER_S
        self._check_shift(wanted)
        pairs: list[tuple[_Track, _Track]] = []
        for kind in ("audio", "subtitle", "video"):
            ones = [track for track in wanted if track.kind == kind and len(track.pts) and not track.is_cover]
            others = [track for track in kept if track.kind == kind and len(track.pts) and not track.is_cover]
            if len(ones) != len(others):
                self.differs(f"holds {len(others)} {kind} tracks beside the picture, the source {len(ones)}")
            pairs += zip(ones, others, strict=True)
        for one, other in pairs:
            self._compare_track(one, other)
        kept_data = [track.digest for track in kept if track.kind == "data"]
        covers = [track.digest for track in kept if track.is_cover]
        for track in wanted:
            if track.is_cover and self._container not in {"webm"} and track.digest not in covers:
                self.differs(f"the cover picture, track {track.index}, is missing or changed")
            if track.kind == "data" and len(track.pts) and track.digest not in kept_data:
                self.differs(f"data track {track.index} is missing or changed")
        return len(pairs), sum(len(other.pts) for _, other in pairs)

    def _check_shift(self, wanted: "Sequence[_Track]") -> None:
        """Whether the start of all tracks may have moved as it has."""
        starts_s = [track.start_s for track in wanted if track.start_s is not None and not track.is_cover]
        to_zero_s = max(-min([self._first_s, *starts_s]), Fraction(0))
        if self._container in EXACT_CONTAINERS:
            allowed_s = [Fraction(0)]
        elif self._container in MATROSKA_CONTAINERS:
            allowed_s = [Fraction(0), to_zero_s]
        else:
            return
        slack_s = Fraction(0) if self._container in EXACT_CONTAINERS else MS
        if all(abs(self._shift_s - each) > slack_s for each in allowed_s):
            shown_s = self._first_s + self._shift_s
            self.differs(f"the first frame is shown at {float(shown_s):.6f} s, not {float(self._first_s):.6f} s")

    def _compare_track(self, one: "_Track", other: "_Track") -> None:
        name = f"{one.kind} track {one.index}"
        is_rewritten = one.kind == "video" and one.codec in REWRITTEN_VIDEO and one.container != other.container
        if is_rewritten:
            if len(one.pts) != len(other.pts):
                self.differs(f"{name} has {len(other.pts)} packets, the source {len(one.pts)}")
        elif one.digest != other.digest:
            pairs = enumerate(itertools.zip_longest(one.checks, other.checks))
            first = next((index for index, (a, b) in pairs if a != b), 0)
            number = min(first, len(one.pts) - 1)
            at = f"packet {first} of {name}, at {one.time_s(number):.3f} s of the output,"
            self.differs(f"{at} is missing or changed ({len(other.pts)} packets, the source has {len(one.pts)})")
        slack_s = self._slack_s(one, other)
        rows = zip(range(len(one.pts)), range(len(other.pts)), strict=False) if is_rewritten else _aligned(one, other)
        for mine, its in rows:
            if NO_TIME in (one.pts[mine], other.pts[its]):
                continue
            wanted_s, shown_s = one.pts[mine] * one.time_base + self._shift_s, other.pts[its] * other.time_base
            if abs(shown_s - wanted_s) > slack_s:
                self.differs(f"packet {mine} of {name} is due at {float(shown_s):.6f} s, not {float(wanted_s):.6f} s")
        if self._container in QUICKTIME_CONTAINERS | MATROSKA_CONTAINERS:
            self._compare_descriptions(name, one, other)

    def _compare_descriptions(self, name: str, one: "_Track", other: "_Track") -> None:
        if self._container == "mov":
            return  # FFmpeg writes a short list of languages there, and no dispositions
        if _is_language(one.language) and one.language != other.language:
            self.differs(f"the language of {name} is {other.language}, not {one.language}")
        both = {one.container, other.container}
        if both <= QUICKTIME_CONTAINERS or both <= MATROSKA_CONTAINERS:
            # Muxers may make a track the default where none is.
            own = other.disposition & ~(Disposition.default & ~one.disposition)
            if own != one.disposition:
                self.differs(f"the disposition of {name} is {own!s}, not {one.disposition!s}")

    def _slack_s(self, one: "_Track", other: "_Track") -> Fraction:
        """Half a tick; and 1 ms in MP4, which keeps a track's late start in ms unless all clocks have a common one."""
        slack_s = self._tolerance_s(other.time_base)
        if self._container == AVI:
            return AVI_SLACK_FRAMES * self._frame_s
        has_own_clock = one.time_base == other.time_base and self._has_common_clock
        return slack_s if self._container not in QUICKTIME_CONTAINERS or has_own_clock else slack_s + MS

    def _wanted_tracks(self) -> "list[_Track]":
        """The source's, as they must be in the output."""
        with open_source(self._source) as container:
            main = chosen_video_stream(container, self._source, self._stream).index
            origin_s = Fraction(container.start_time or 0, av.time_base)
            end_s = None if self._end_s is None else origin_s + Fraction(self._end_s)
            has_chapters = bool(container.chapters())
            tracks = {
                stream.index: _Track.of(stream, container)
                for stream in container.streams
                if stream.index != main
                and not self._is_announced(stream)
                and not (stream.type == "data" and (TIMECODE in stream.metadata or has_chapters))
            }
            for _ in range(MAX_DAMAGED_IN_A_ROW):
                with contextlib.suppress(av.FFmpegError):
                    self._enter_source_packets(container, tracks, end_s)
                    break
        return list(tracks.values())

    def _enter_source_packets(
        self, container: av.container.InputContainer, tracks: "dict[int, _Track]", end_s: Fraction | None
    ) -> None:
        """Cut to the span, moved by its beginning; times that do not rise are mended."""
        streams = [stream for stream in container.streams if stream.index in tracks]
        for packet in packets_of(container, self._source, streams) if streams else ():
            if packet.size == 0 or self._is_empty_text(packet):
                continue
            track = tracks[packet.stream.index]
            dts = packet.dts if packet.dts is not None else packet.pts
            if track.is_cover or dts is None:
                track.enter(bytes(packet), NO_TIME)
                continue
            pts = packet.pts if packet.pts is not None else dts
            if end_s is not None and pts * track.time_base >= end_s:
                if dts * track.time_base > end_s + MAX_INTERLEAVING_S:
                    return
                continue
            if self._begin_s is not None:
                begin = round(self._begin_s / track.time_base)
                if track.kind == "subtitle" and pts < begin < pts + (packet.duration or 0):
                    pts = dts = begin  # it is still on screen
                if pts < begin:
                    continue
                pts, dts = pts - begin, dts - begin
            moved = 0 if track.last_dts is None else max(0, track.last_dts + 1 - dts)
            track.last_dts = dts + moved
            track.enter(bytes(packet), pts + moved)

    def _kept_tracks(self) -> "list[_Track]":
        """The output's."""
        main = self.output_picture_number()
        with open_source(self._output) as container:
            tracks = {
                stream.index: _Track.of(stream, container) for stream in container.streams if stream.index != main
            }
            streams = [stream for stream in container.streams if stream.index in tracks]
            for packet in packets_of(container, self._output, streams) if streams else ():
                if packet.size and not self._is_empty_text(packet):
                    pts = packet.pts if packet.pts is not None else packet.dts
                    tracks[packet.stream.index].enter(bytes(packet), NO_TIME if pts is None else pts)
        return list(tracks.values())

    def _is_empty_text(self, packet: "Packet[Stream]") -> bool:
        """What clears the screen in MP4, which every muxer writes for itself."""
        if packet.stream.type != "subtitle" or self._container not in QUICKTIME_CONTAINERS:
            return False
        return packet.size == len(EMPTY_TEXT) and bytes(packet) == EMPTY_TEXT

    def compare_chapters(self) -> None:
        """Their number, where the container has chapters."""
        if self._container not in QUICKTIME_CONTAINERS | MATROSKA_CONTAINERS:
            return
        with open_source(self._source) as source:
            origin_s = Fraction(source.start_time or 0, av.time_base)
            begin_s = origin_s + Fraction(self._start_s) if self._start_s else Fraction(0)
            end_s = None if self._end_s is None else origin_s + Fraction(self._end_s)
            wanted = 0
            for chapter in source.chapters():
                base = chapter["time_base"]
                if base is not None:
                    end = chapter["end"] if end_s is None else min(chapter["end"], math.floor(end_s / base))
                    wanted += end > max(chapter["start"], round(begin_s / base))
        with self.reading_back(), open_source(self._output) as output:
            kept = len(output.chapters())
        if kept != wanted:
            self.differs(f"holds {kept} chapters, not {wanted}")


@dataclass(slots=True)
class _Track:
    """A track's packets, without their content: a digest of it all, and a check sum and a time for each."""

    index: int
    kind: str
    codec: str
    container: str
    """Of the file that it is in."""
    time_base: Fraction
    language: str | None
    disposition: Disposition
    last_dts: int | None = None
    num_bytes: int = 0
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    """How many bytes come before each packet."""
    pts: "array[int]" = field(default_factory=lambda: array("q"))
    checks: "array[int]" = field(default_factory=lambda: array("I"))
    content: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, stream: Stream, container: av.container.InputContainer) -> "_Track":
        context = stream.codec_context
        return cls(
            index=stream.index,
            kind=str(stream.type),
            codec=context.codec.canonical_name if context else "",
            container=_family(container.format.name),
            time_base=stream.time_base or Fraction(1),
            language=stream.metadata.get("language"),
            disposition=stream.disposition,
        )

    @property
    def is_cover(self) -> bool:
        return bool(self.disposition & Disposition.attached_pic)

    @property
    def digest(self) -> str:
        return str(self.content.hexdigest())

    @property
    def start_s(self) -> Fraction | None:
        return self.pts[0] * self.time_base if len(self.pts) and self.pts[0] != NO_TIME else None

    def time_s(self, number: int) -> float:
        return float(self.pts[number] * self.time_base) if 0 <= number < len(self.pts) else 0.0

    def enter(self, packet: bytes, pts: int) -> None:
        payload = _without_adts(packet) if self.codec == "aac" else packet
        self.offsets.append(self.num_bytes)
        self.pts.append(pts)
        self.checks.append(zlib.crc32(payload))
        self.content.update(payload)
        self.num_bytes += len(payload)


def _aligned(one: _Track, other: _Track) -> Iterator[tuple[int, int]]:
    """Numbers of packets that begin at the same byte of two tracks with the same content."""
    mine = its = 0
    while mine < len(one.offsets) and its < len(other.offsets):
        ahead = one.offsets[mine] - other.offsets[its]
        if ahead == 0:
            yield mine, its
        mine += ahead <= 0
        its += ahead >= 0


def _without_adts(packet: bytes) -> bytes:
    """A packet of AAC without the header that MPEG streams put before it (ISO/IEC 13818-7, 6.2)."""
    if len(packet) < 7 or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return packet
    return packet[7 if packet[1] & 1 else 9 :]


def _family(format_name: str) -> str:
    """FFmpeg's readers have the names of all that they read; the first is that of the writer's family."""
    names = set(format_name.split(","))
    if names & MATROSKA_CONTAINERS:
        return "matroska"
    return "mov" if names & QUICKTIME_CONTAINERS else format_name


def _is_language(text: str | None) -> bool:
    """Three letters (ISO 639-2) that every container can hold."""
    return text is not None and len(text) == 3 and text.isascii() and text.isalpha() and text != "und"


def _marks_fields(info: VideoInfo) -> bool:
    """Whether pictures of this codec can be coded field by field: chroma has whole rows in each."""
    return info.codec in INTERLACING_CODECS and info.height_px % (2 << info.layout.log2_chroma_h) == 0


def _subsampling(info: VideoInfo) -> tuple[int, int]:
    return info.layout.log2_chroma_w, info.layout.log2_chroma_h


def _same_light(one: HdrLight | None, other: HdrLight | None) -> bool:
    """Within the steps in which streams store chromaticities (a float, or multiples of 0.00002)."""
    if one is None:
        return True
    if other is None or (one.display is None) != (other.display is None):
        return False
    if (one.max_content_cd_m2, one.max_average_cd_m2) != (other.max_content_cd_m2, other.max_average_cd_m2):
        return False
    if one.display is None or other.display is None:
        return True
    a, b = one.display, other.display
    chromaticities = zip(
        (*a.red_xy, *a.green_xy, *a.blue_xy, *a.white_xy),
        (*b.red_xy, *b.green_xy, *b.blue_xy, *b.white_xy),
        strict=True,
    )
    return all(abs(first - second) < Fraction(1, 10_000) for first, second in chromaticities) and all(
        abs(first - second) <= max(first, second) / 100 + Fraction(1, 5000)
        for first, second in ((a.min_cd_m2, b.min_cd_m2), (a.max_cd_m2, b.max_cd_m2))
    )


def crop_mask(squares: Iterable[Corners], width_px: int, height_px: int) -> NDArray[np.uint8] | None:
    """(height_px, width_px), 1 inside the crop squares, each `GROWN_PX` wider; None where there are none."""
    mask: NDArray[np.uint8] | None = None
    for corners in squares:
        square = np.asarray(corners, dtype=np.float64)
        centre = square.mean(axis=0)
        half_side_px = max(float(np.linalg.norm(square[1] - square[0])) / 2, 0.5)
        grown = centre + (square - centre) * (half_side_px + GROWN_PX) / half_side_px
        if mask is None:
            mask = np.zeros((height_px, width_px), np.uint8)
        cv2.fillConvexPoly(mask, np.rint(grown * (1 << FRACTION_BITS)).astype(np.int32), 1, shift=FRACTION_BITS)
    return mask


def covered_samples(inside: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask for a plane of that shape: a chroma sample is inside where one of its pixels is."""
    if inside.shape == shape:
        return inside.view(bool)
    step_y, step_x = (-(-full // part) for full, part in zip(inside.shape, shape, strict=True))
    covered = np.zeros(shape, bool)
    for y, x in np.ndindex(step_y, step_x):
        part = inside[y::step_y, x::step_x].view(bool)
        covered[: part.shape[0], : part.shape[1]] |= part
    return covered


def comparable_planes(one: Frame, other: Frame) -> Iterator[tuple[str, Plane, Plane]]:
    """(component, the first frame's samples, the second's in the first's levels) of the planes that both define.

    Gray may have become colour, and levels multiples of themselves: luma is still the same. Chroma of another
    resolution is not. Where the second has fewer bits, its levels are spread out.
    """
    kept = dict(zip(other.layout.components, other.planes, strict=True))
    more_bits = other.layout.depth_bits - one.layout.depth_bits
    for component, plane in zip(one.layout.components, one.planes, strict=True):
        if component not in kept or kept[component].shape != plane.shape:
            continue
        found = kept[component]
        if more_bits > 0:
            found = cast(Plane, (found + (1 << (more_bits - 1)) >> more_bits).astype(plane.dtype))
        elif more_bits < 0:
            found = cast(Plane, found.astype(np.uint16) << -more_bits)
        yield component, plane, found


@dataclass(frozen=True, slots=True, eq=False)
class _Probe:
    """A few samples of a frame that was encoded with loss, and of its source."""

    at: str
    before: list[NDArray[np.float32]]
    """One array for each plane that both define, luma first, in levels of 255; without what lies in crop squares."""
    after: list[NDArray[np.float32]]
    places: NDArray[np.bool_] | None
    """Which samples of luma these are; None: all."""
    luma: NDArray[np.float32]
    """All of the source's."""


class _Likeness:
    """Whether each picture is its source's, and none of its neighbours'. It runs one frame behind."""

    def __init__(self, differs: Callable[[str], NoReturn], min_psnr_db: float) -> None:
        self._differs, self._min_psnr_db = differs, min_psnr_db
        self._last: _Probe | None = None
        self._luma_before_last: NDArray[np.float32] | None = None
        self._range_errors = np.zeros(3)
        """Mean squares of luma, added up: as it is, and against the two wrong ranges."""
        self._num_frames = 0
        self.worst_psnr_db: float | None = None

    def look(self, at: str, one: Frame, other: Frame, inside: NDArray[np.uint8] | None) -> None:
        probe = _probed(at, one, other, inside)
        if self._last is not None:
            self._judge(self._last, [self._luma_before_last, probe.luma])
            self._luma_before_last = self._last.luma
        self._last = probe

    def finish(self) -> None:
        if self._last is not None:
            self._judge(self._last, [self._luma_before_last])
        own, *wrong = self._range_errors / max(self._num_frames, 1)
        if own > OTHER_RATIO * min(wrong) + CODING_NOISE:
            self._differs("limited and full range are mixed up")

    def _judge(self, probe: _Probe, neighbours: Sequence[NDArray[np.float32] | None]) -> None:
        if not len(probe.before[0]):
            return  # faces fill the picture
        errors = [_mean_square(one, other) for one, other in zip(probe.before, probe.after, strict=True) if len(one)]
        worst = max(errors)
        psnr_db = 10 * math.log10(255**2 / max(worst, 1e-6))
        if worst > 0 and (self.worst_psnr_db is None or psnr_db < self.worst_psnr_db):
            self.worst_psnr_db = psnr_db
        if psnr_db < self._min_psnr_db:
            self._differs(f"{probe.at} is another picture (PSNR {psnr_db:.1f} dB outside the crop squares)")
        one, other = probe.before[0], probe.after[0]
        wrong_ranges = ((one - RANGE_BLACK) * np.float32(RANGE_GAIN), one / np.float32(RANGE_GAIN) + RANGE_BLACK)
        self._range_errors += (errors[0], *(_mean_square(wrong, other) for wrong in wrong_ranges))
        self._num_frames += 1
        for luma in neighbours:
            if luma is None:
                continue
            there = luma.ravel() if probe.places is None else luma[probe.places]
            if errors[0] > OTHER_RATIO * _mean_square(there, other) + CODING_NOISE:
                self._differs(f"{probe.at} shows the frame before or after it")


def _probed(at: str, one: Frame, other: Frame, inside: NDArray[np.uint8] | None) -> _Probe:
    before: list[NDArray[np.float32]] = []
    after: list[NDArray[np.float32]] = []
    places: NDArray[np.bool_] | None = None
    grid = np.s_[::PROBE_STEP_PX, ::PROBE_STEP_PX]
    scale = np.float32(255 / ((1 << one.layout.depth_bits) - 1))
    for number, (_, wanted, kept) in enumerate(comparable_planes(one, other)):
        outside = None if inside is None else ~covered_samples(inside, wanted.shape)[grid]
        if number == 0:
            places = outside
        pair = [plane[grid].astype(np.float32) * scale for plane in (wanted, kept)]
        for samples, plane in zip((before, after), pair, strict=True):
            samples.append(plane.ravel() if outside is None else plane[outside])
    return _Probe(at, before, after, places, one.planes[0][grid].astype(np.float32) * scale)


def _mean_square(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    difference = (one - other).ravel()
    return float(difference @ difference) / len(difference)
