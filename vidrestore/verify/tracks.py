"""The other tracks, packet by packet, and the chapters."""

import contextlib
import hashlib
import itertools
import math
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
from av.packet import Packet
from av.stream import Disposition, Stream

from vidrestore.verify.clock import MS, Clock
from vidrestore.verify.pair import Pair, from_beginning
from vidrestore.video.containers import MATROSKA_CONTAINERS, QUICKTIME_CONTAINERS
from vidrestore.video.copied_packets import EMPTY_TEXT, MAX_INTERLEAVING_S
from vidrestore.video.source import MAX_DAMAGED_IN_A_ROW, chosen_video_stream, open_source, packets_of
from vidrestore.video.tracks import MAX_MOVIE_TICKS_PER_S, TIMECODE

NO_TIME = -(1 << 63)
"""In place of a time that a packet does not have."""
REWRITTEN_VIDEO = frozenset({"h264", "hevc", "vvc", "av1", "vp9", "mjpeg", "mpeg4"})
"""Their packets are spelled differently from container to container: start codes or lengths, headers inside or not."""
DESCRIBING_CONTAINERS = QUICKTIME_CONTAINERS | MATROSKA_CONTAINERS
"""They have chapters, and say a track's language and disposition."""


def compare_tracks(pair: Pair, clock: Clock) -> tuple[int, int]:
    """(number of tracks beside the picture, number of packets in the output). The clock must be set."""
    wanted = _wanted_tracks(pair, clock)
    with pair.reading_back():
        kept = _kept_tracks(pair)
    clock.check_shift(track.start_s for track in wanted if track.start_s is not None and not track.is_cover)
    has_common_clock = math.lcm(*(track.time_base.denominator for track in wanted)) <= MAX_MOVIE_TICKS_PER_S
    couples: list[tuple[_Track, _Track]] = []
    for kind in ("audio", "subtitle", "video"):
        ones, others = (
            [track for track in tracks if track.kind == kind and len(track.pts) and not track.is_cover]
            for tracks in (wanted, kept)
        )
        if len(ones) != len(others):
            pair.differs(f"holds {len(others)} {kind} tracks beside the picture, the source {len(ones)}")
        couples += zip(ones, others, strict=True)
    for one, other in couples:
        _compare_track(pair, clock, one, other, has_common_clock=has_common_clock)
    kept_data = [track.digest for track in kept if track.kind == "data"]
    covers = [track.digest for track in kept if track.is_cover]
    for track in wanted:
        if track.is_cover and pair.container != "webm" and track.digest not in covers:
            pair.differs(f"the cover picture, track {track.index}, is missing or changed")
        if track.kind == "data" and len(track.pts) and track.digest not in kept_data:
            pair.differs(f"data track {track.index} is missing or changed")
    return len(couples), sum(len(other.pts) for _, other in couples)


def compare_chapters(pair: Pair) -> None:
    """Their number, where the container has chapters."""
    if pair.container not in DESCRIBING_CONTAINERS:
        return
    with open_source(pair.source) as source:
        begin_s = from_beginning(source, pair.start_s or None) or Fraction(0)
        end_s = from_beginning(source, pair.end_s)
        wanted = 0
        for chapter in source.chapters():
            base = chapter["time_base"]
            if base is not None:
                end = chapter["end"] if end_s is None else min(chapter["end"], math.floor(end_s / base))
                wanted += end > max(chapter["start"], round(begin_s / base))
    with pair.reading_back(), open_source(pair.output) as output:
        kept = len(output.chapters())
    if kept != wanted:
        pair.differs(f"holds {kept} chapters, not {wanted}")


def _compare_track(pair: Pair, clock: Clock, one: "_Track", other: "_Track", *, has_common_clock: bool) -> None:
    name = f"{one.kind} track {one.index}"
    is_rewritten = one.kind == "video" and one.codec in REWRITTEN_VIDEO and one.container != other.container
    if is_rewritten:
        if len(one.pts) != len(other.pts):
            pair.differs(f"{name} has {len(other.pts)} packets, the source {len(one.pts)}")
    elif one.digest != other.digest:
        checks = enumerate(itertools.zip_longest(one.checks, other.checks))
        first = next((index for index, (a, b) in checks if a != b), 0)
        number = min(first, len(one.pts) - 1)
        at = f"packet {first} of {name}, at {one.time_s(number):.3f} s of the output,"
        pair.differs(f"{at} is missing or changed ({len(other.pts)} packets, the source has {len(one.pts)})")
    slack_s = clock.slack_s(other.time_base)
    has_own_clock = one.time_base == other.time_base and has_common_clock
    if pair.container in QUICKTIME_CONTAINERS and not has_own_clock:
        slack_s += MS  # in which MP4 keeps a track's late start, unless all clocks have a common one
    rows = zip(range(len(one.pts)), range(len(other.pts)), strict=False) if is_rewritten else _aligned(one, other)
    for mine, its in rows:
        if NO_TIME in (one.pts[mine], other.pts[its]):
            continue
        wanted_s, shown_s = one.pts[mine] * one.time_base + clock.shift_s, other.pts[its] * other.time_base
        if abs(shown_s - wanted_s) > slack_s:
            pair.differs(f"packet {mine} of {name} is due at {float(shown_s):.6f} s, not {float(wanted_s):.6f} s")
    # FFmpeg writes a short list of languages to MOV, and no dispositions.
    if pair.container in DESCRIBING_CONTAINERS and pair.container != "mov":
        _compare_descriptions(pair, name, one, other)


def _compare_descriptions(pair: Pair, name: str, one: "_Track", other: "_Track") -> None:
    if _is_language(one.language) and one.language != other.language:
        pair.differs(f"the language of {name} is {other.language}, not {one.language}")
    both = {one.container, other.container}
    if both <= QUICKTIME_CONTAINERS or both <= MATROSKA_CONTAINERS:
        # Muxers may make a track the default where none is.
        own = other.disposition & ~(Disposition.default & ~one.disposition)
        if own != one.disposition:
            pair.differs(f"the disposition of {name} is {own!s}, not {one.disposition!s}")


def _wanted_tracks(pair: Pair, clock: Clock) -> "list[_Track]":
    """The source's, as they must be in the output."""
    with open_source(pair.source) as container:
        main = chosen_video_stream(container, pair.source, pair.stream).index
        end_s = from_beginning(container, pair.end_s)
        has_chapters = bool(container.chapters())
        tracks = {
            stream.index: _Track.of(stream, container)
            for stream in container.streams
            if stream.index != main
            and not pair.is_announced(stream)
            and not (stream.type == "data" and (TIMECODE in stream.metadata or has_chapters))
        }
        for _ in range(MAX_DAMAGED_IN_A_ROW):
            with contextlib.suppress(av.FFmpegError):
                _enter_source_packets(pair, container, tracks, clock.begin_s, end_s)
                break
    return list(tracks.values())


def _enter_source_packets(
    pair: Pair,
    container: av.container.InputContainer,
    tracks: "dict[int, _Track]",
    begin_s: Fraction | None,
    end_s: Fraction | None,
) -> None:
    """Cut to the span, moved by its beginning; times that do not rise are mended."""
    for packet in _packets(container, pair.source, pair, tracks):
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
        if begin_s is not None:
            begin = round(begin_s / track.time_base)
            if track.kind == "subtitle" and pts < begin < pts + (packet.duration or 0):
                pts = dts = begin  # it is still on screen
            if pts < begin or (track.kind == "video" and track.first_keyframe is None and not packet.is_keyframe):
                continue
            if track.kind == "video" and track.first_keyframe is None:
                track.first_keyframe = pts
            if track.first_keyframe is not None and pts < track.first_keyframe:
                continue
            pts, dts = pts - begin, dts - begin
        moved = 0 if track.last_dts is None else max(0, track.last_dts + 1 - dts)
        track.last_dts = dts + moved
        track.enter(bytes(packet), pts + moved)


def _kept_tracks(pair: Pair) -> "list[_Track]":
    """The output's."""
    main = pair.output_picture_number()
    with open_source(pair.output) as container:
        tracks = {stream.index: _Track.of(stream, container) for stream in container.streams if stream.index != main}
        for packet in _packets(container, pair.output, pair, tracks):
            pts = packet.pts if packet.pts is not None else packet.dts
            tracks[packet.stream.index].enter(bytes(packet), NO_TIME if pts is None else pts)
    return list(tracks.values())


def _packets(
    container: av.container.InputContainer, path: Path, pair: Pair, tracks: "dict[int, _Track]"
) -> "Iterator[Packet[Stream]]":
    """Those of the tracks that have a content of their own."""
    streams = [stream for stream in container.streams if stream.index in tracks]
    for packet in packets_of(container, path, streams) if streams else ():
        # What clears the screen in MP4, every muxer writes for itself.
        is_text = packet.stream.type == "subtitle" and pair.container in QUICKTIME_CONTAINERS
        is_empty = is_text and packet.size == len(EMPTY_TEXT) and bytes(packet) == EMPTY_TEXT
        if packet.size and not is_empty:
            yield packet


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
    first_keyframe: int | None = None
    """When it is shown, in a cut; nothing could show a picture ahead of it."""
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
