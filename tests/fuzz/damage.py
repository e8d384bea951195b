"""A seeded damager of videos: `make_case(seed, number)` is the same damaged file every time.

The files are real ones of every container that people bring, made here; the damage is what disks, networks and broken
programs do, and what somebody does on purpose.
"""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.clips import CLIPS, Clip, _encode

MS = Fraction(1, 1000)
TS_CLOCK = Fraction(1, 90000)
TS_PACKET_BYTES = 188
FASTSTART = {"movflags": "faststart"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
SHORT_GOP = {"g": "10"}

BASES: Mapping[str, Clip] = {
    clip.name: clip
    for clip in (
        CLIPS["many_tracks"],
        CLIPS["b_frames"],
        CLIPS["cover"],
        CLIPS["variable_rate"],
        Clip("faststart", num_frames=30, options=SHORT_GOP, num_audio_tracks=1, container_options=FASTSTART),
        Clip("fragments", num_frames=30, options=SHORT_GOP, num_audio_tracks=1, container_options=FRAGMENTED),
        Clip("hevc_mp4", "libx265", pix_fmt="yuv420p10le", num_audio_tracks=1, audio_codec="ac3"),
        Clip("vp9_mp4", "libvpx-vp9", num_audio_tracks=1, audio_codec="libopus"),
        CLIPS["many_tracks_mkv"],
        Clip("ffv1_mkv", "ffv1", ".mkv", time_base=MS, num_audio_tracks=1, audio_codec="flac"),
        Clip("hevc_mkv", "libx265", ".mkv", time_base=MS, num_audio_tracks=1, has_chapters=True),
        Clip("mpeg2_mkv", "mpeg2video", ".mkv", time_base=MS, num_audio_tracks=1, audio_codec="ac3"),
        Clip("mpeg4_avi_mp3", "mpeg4", ".avi", time_base=Fraction(1, 25), num_audio_tracks=1, audio_codec="libmp3lame"),
        Clip(
            "mjpeg_avi", "mjpeg", ".avi", "yuvj420p", time_base=Fraction(1, 25), num_audio_tracks=2, audio_codec="mp2"
        ),
        CLIPS["mpeg2_ts"],
        Clip("h264_ts", suffix=".ts", num_frames=30, time_base=TS_CLOCK, num_audio_tracks=2, options=SHORT_GOP),
        Clip("hevc_ts", "libx265", ".ts", time_base=TS_CLOCK, num_audio_tracks=1, audio_codec="ac3"),
    )
}
"""What is damaged, by name."""


@dataclass(frozen=True, slots=True)
class Case:
    """One damaged file."""

    seed: int
    number: int
    base: str
    kind: str
    suffix: str
    content: bytes

    @property
    def name(self) -> str:
        return f"seed {self.seed}, case {self.number}: {self.kind} in {self.base}"


@dataclass(frozen=True, slots=True)
class Spot:
    """Some bytes of a file: [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Base:
    """An undamaged file and where things are in it."""

    content: bytes
    suffix: str
    packets: tuple[Spot, ...]
    """Coded pictures and sound; in a transport stream its packets of 188 bytes."""
    header: tuple[Spot, ...]
    """Everything that describes them."""
    sizes: tuple[Spot, ...]
    """The fields that say how long a part of the container is."""


def make_case(seed: int, number: int) -> Case:
    """Damage one of `BASES` in one of the ways of `KINDS`, chosen by the number so that all pairs come in turn."""
    rng = np.random.default_rng([seed, number])
    names = list(BASES)
    kinds = list(KINDS)
    name = names[number % len(names)]
    kind = kinds[(number // len(names) + number % len(names)) % len(kinds)]
    base = _base(name)
    return Case(seed, number, name, kind, base.suffix, KINDS[kind](base, rng))


# ---- The kinds


def bit_flips(base: Base, rng: np.random.Generator) -> bytes:
    """A few bits anywhere: a tired disk."""
    content = bytearray(base.content)
    for _ in range(int(2 ** rng.uniform(0, 9))):
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def truncation(base: Base, rng: np.random.Generator) -> bytes:
    """The end is missing, or the beginning, or a piece of the middle; or a piece is zeros: a copy that broke off."""
    content = base.content
    first, last = sorted(int(i) for i in rng.integers(len(content), size=2))
    match int(rng.integers(5)):
        case 0 | 1:
            return content[: max(first, 1)]
        case 2:
            return content[min(first, len(content) // 10) :]
        case 3:
            return content[:first] + content[last:]
        case _:
            return content[:first] + bytes(last - first) + content[last:]


def packet_drops(base: Base, rng: np.random.Generator) -> bytes:
    """Some packets are gone, with or without leaving a hole: a bad line, or a bad editor."""
    content = base.content
    leaves_hole = bool(rng.integers(2))
    for packet in _chosen_packets(base, rng, fraction=rng.uniform(0, 0.4)):
        hole = bytes(packet.end - packet.start) if leaves_hole else b""
        content = content[: packet.start] + hole + content[packet.end :]
    return content


def swapped_packets(base: Base, rng: np.random.Generator) -> bytes:
    """Pairs of packets have changed places: their order in the file no longer is that of their times."""
    content = base.content
    chosen = _chosen_packets(base, rng, fraction=rng.uniform(0, 0.5))
    # From the end to the beginning, each pair beside each other, so that the places of the rest do not move.
    for later, earlier in zip(chosen[::2], chosen[1::2], strict=False):
        content = (
            content[: earlier.start]
            + content[later.start : later.end]
            + content[earlier.end : later.start]
            + content[earlier.start : earlier.end]
            + content[later.end :]
        )
    return content


def header_fields(base: Base, rng: np.random.Generator) -> bytes:
    """Numbers of the container's description are others."""
    content = bytearray(base.content)
    for _ in range(int(rng.integers(1, 6))):
        spot = base.header[int(rng.integers(len(base.header)))]
        width = int(rng.choice([1, 2, 4, 8]))
        at = int(rng.integers(spot.start, max(spot.start + 1, spot.end - width)))
        value = _odd_number(width, rng)
        content[at : at + width] = value[: len(content) - at]
    return bytes(content)


def atom_sizes(base: Base, rng: np.random.Generator) -> bytes:
    """Atoms, elements, chunks and sections say that they are longer or shorter than they are."""
    content = bytearray(base.content)
    for _ in range(int(rng.integers(1, 4))):
        spot = base.sizes[int(rng.integers(len(base.sizes)))]
        width = spot.end - spot.start
        if rng.integers(2):
            content[spot.start : spot.end] = _odd_number(width, rng)
        else:  # a little more or less
            order = "little" if base.suffix == ".avi" else "big"
            value = int.from_bytes(content[spot.start : spot.end], order) + int(rng.integers(-64, 65))
            content[spot.start : spot.end] = (value % (1 << 8 * width)).to_bytes(width, order)
    return bytes(content)


KINDS: Mapping[str, Callable[[Base, np.random.Generator], bytes]] = {
    "bit flips": bit_flips,
    "truncation": truncation,
    "packet drops": packet_drops,
    "swapped packets": swapped_packets,
    "header fields": header_fields,
    "atom sizes": atom_sizes,
}


def _odd_number(width: int, rng: np.random.Generator) -> bytes:
    """Bytes that programs stumble over: none, all, the largest and smallest signed number, one, and any."""
    choices = [bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), b"\x80" + bytes(width - 1)]
    choices += [bytes(width - 1) + b"\x01", b"\x01" + bytes(width - 1), rng.bytes(width), rng.bytes(width)]
    return choices[int(rng.integers(len(choices)))]


def _chosen_packets(base: Base, rng: np.random.Generator, *, fraction: float) -> list[Spot]:
    """Some of the packets, last first."""
    count = min(max(2, round(fraction * len(base.packets))), len(base.packets))
    indices = sorted(rng.choice(len(base.packets), size=count, replace=False), reverse=True)
    return [base.packets[index] for index in indices]


# ---- Finding one's way in a file


@functools.cache
def _base(name: str) -> Base:
    clip = BASES[name]
    path = _folder() / f"{name}{clip.suffix}"
    _encode(clip, path)
    content = path.read_bytes()
    if clip.suffix == ".ts":
        packets, header, sizes = _ts_spots(content)
    else:
        packets = _packets(path, len(content))
        header = _between(packets, len(content))
        find_sizes = {".mp4": _mp4_sizes, ".mkv": _matroska_sizes, ".avi": _avi_sizes}[clip.suffix]
        sizes = find_sizes(content, 0, len(content))
    return Base(content, clip.suffix, tuple(packets), tuple(header), tuple(sizes))


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vidrestore-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _packets(path: Path, num_bytes: int) -> list[Spot]:
    with av.open(str(path)) as container:
        spots = {
            (packet.pos, packet.pos + packet.size)
            for packet in container.demux()
            if packet.size and packet.pos is not None and packet.pos >= 0
        }
    found: list[Spot] = []
    for start, end in sorted(spots):
        if end <= num_bytes and (not found or start >= found[-1].end):
            found.append(Spot(start, end))
    return found


def _between(packets: list[Spot], num_bytes: int) -> list[Spot]:
    edges = [0, *(edge for packet in packets for edge in (packet.start, packet.end)), num_bytes]
    return [Spot(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if end > start]


MP4_PARENTS = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"moof", b"traf", b"mvex", b"dinf", b"ilst")
)


def _mp4_sizes(content: bytes, start: int, end: int) -> list[Spot]:
    found = []
    while start + 8 <= end:
        size = int.from_bytes(content[start : start + 4], "big")
        found.append(Spot(start, start + 4))
        if content[start + 4 : start + 8] in MP4_PARENTS:
            found += _mp4_sizes(content, start + 8, min(start + size, end))
        start += max(size, 8)
    return found


MATROSKA_PARENTS = frozenset(
    bytes.fromhex(identity)
    for identity in (
        *("1a45dfa3", "18538067", "114d9b74", "4dbb", "1549a966", "1654ae6b", "ae", "e0", "e1", "1f43b675", "a0"),
        *("1c53bb6b", "bb", "b7", "1254c367", "7373", "63c0", "67c8", "1043a770", "45b9", "b6", "80"),
    )
)


def _matroska_sizes(content: bytes, start: int, end: int) -> list[Spot]:
    found = []
    while start + 2 <= end:
        id_bytes = 9 - content[start].bit_length()
        at = start + id_bytes
        if at >= end:
            break
        size_bytes = 9 - content[at].bit_length()
        size = int.from_bytes(content[at : at + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        body = at + size_bytes
        found.append(Spot(at, body))
        if size == (1 << 7 * size_bytes) - 1:
            size = end - body  # "unknown"
        if content[start:at] in MATROSKA_PARENTS:
            found += _matroska_sizes(content, body, min(body + size, end))
        start = body + size
    return found


def _avi_sizes(content: bytes, start: int, end: int) -> list[Spot]:
    found = []
    while start + 8 <= end:
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        found.append(Spot(start + 4, start + 8))
        if content[start : start + 4] in (b"RIFF", b"LIST"):
            found += _avi_sizes(content, start + 12, min(start + 8 + size, end))
        start += 8 + size + size % 2
    return found


def _ts_spots(content: bytes) -> tuple[list[Spot], list[Spot], list[Spot]]:
    """Packets, headers and size fields of a transport stream: of adaptation fields, sections and PES packets."""
    packets, header, sizes = [], [], []
    for start in range(0, len(content) - TS_PACKET_BYTES + 1, TS_PACKET_BYTES):
        packets.append(Spot(start, start + TS_PACKET_BYTES))
        begins_unit, has_adaptation = bool(content[start + 1] & 0x40), bool(content[start + 3] & 0x20)
        payload = start + 4
        if has_adaptation:
            sizes.append(Spot(payload, payload + 1))
            payload += 1 + content[payload]
        header.append(Spot(start, min(payload + (20 if begins_unit else 0), start + TS_PACKET_BYTES)))
        if begins_unit and payload + 6 < start + TS_PACKET_BYTES:
            is_pes = content[payload : payload + 3] == b"\0\0\1"
            sizes.append(Spot(payload + 4, payload + 6) if is_pes else Spot(payload + 2, payload + 4))
    return packets, header, sizes
