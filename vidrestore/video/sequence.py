"""Image sequences: scanned film as one file for each frame, PNG, TIFF or DPX, named by number.

Each file is read whole and handed to its decoder as one packet. FFmpeg itself opens nothing, so no name is ever taken
for a pattern, and a file that is damaged is known by name.
"""

import contextlib
import hashlib
import io
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import av.logging
from av.packet import Packet

from vidrestore.errors import OptionsError, SourceError
from vidrestore.frame import ColorTags, Frame, VideoInfo
from vidrestore.video.planes import layout_of, planes_of

IMAGE_CODECS: Mapping[str, str] = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".dpx": "dpx"}
"""FFmpeg's decoder and encoder by suffix."""
KINDS = "PNG, TIFF or DPX"
DEFAULT_RATE_HZ = Fraction(24)
"""Images have no clock, and most film runs at 24 frames/s."""
RATES_HZ = (1.0, 1000.0)
"""What is believed of a DPX header."""
NTSC_SLACK_HZ = 0.006
"""Two digits are what people type: 23.98 is 24000/1001, which is 23.976."""
SLACK_S = Fraction(1, 2000)
"""A time read off this clock and typed in again, in ms, must find its frame."""
DECODER_OPTIONS: Mapping[str, Mapping[str, str]] = {"png": {"err_detect": "crccheck+explode"}, "tiff": {}, "dpx": {}}
"""Of a damaged PNG nothing is to be shown. With this the TIFF decoder would refuse tags that it does not know: there,
its log tells damage."""
PLACE = re.compile(r"%(0\d+)?d")
"""Where the number stands in a pattern, as in printf."""

PNG_SIGNATURE_BYTES = 8
DPX_HEADER_BYTES = 2048
"""Of a header with the parts for film and television (SMPTE ST 268)."""
DPX_FILE_SIZE, DPX_WIDTH, DPX_ELEMENT, DPX_FILM_RATE, DPX_TV_RATE = 16, 772, 800, 1724, 1940
"""Offsets in it."""
UNDEFINED = 0xFFFFFFFF
TIFF_NUMBERS: Mapping[int, str] = {1: "B", 3: "H", 4: "I", 5: "II"}
"""Kinds of numbers in TIFF tags, for `struct`."""
TIFF_RATIONAL = 5
TIFF_NEXT = -1
MAX_TIFF_NUMBERS = 2**20
"""Of one tag; there are no more strips than rows."""
TIFF_PICTURE_TAGS = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 297, 317, 320, 322, 323, 324, 325, 338, 339)
    + (282, 283, 296, 530, 531, 532, TIFF_NEXT)
)
"""They say what the samples are and where, and how large a sample is."""
PNG_PLAIN_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"sBIT", b"bKGD", b"gAMA", b"cHRM", b"sRGB", b"cICP")
    + (b"pHYs", b"tIME")
)
"""Likewise, and what colours mean."""
EXIF_ORIENTATION_TAG = 274
ORIENTATIONS: Mapping[int, tuple[int, int, int, int]] = {
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""How EXIF's numbers turn a picture (EXIF 2.3, Orientation): the upper left 2 x 2 of the display matrix."""
TIFF_PLACES = ((273, 279), (324, 325))
"""Tags with the offsets and sizes of strips, and of tiles."""


@dataclass(frozen=True, slots=True)
class ImageSequence:
    """Files of one kind, numbered without a gap."""

    path: Path
    """As the user named it: their folder, or a pattern."""
    folder: Path
    pattern: str
    """Of the files' names, for `%`."""
    first_number: int
    num_images: int

    @property
    def codec(self) -> str:
        return IMAGE_CODECS[Path(self.pattern).suffix.lower()]

    def file(self, position: int) -> Path:
        """The image at this position, counted from 0."""
        return self.folder / (self.pattern % (self.first_number + position))


def is_pattern(path: Path) -> bool:
    """Whether the name of a file is a pattern for images, such as frame_%06d.png."""
    name = path.name.replace("%%", "")
    return path.suffix.lower() in IMAGE_CODECS and len(PLACE.findall(name)) == 1 == name.count("%")


def is_sequence(path: Path) -> bool:
    """Whether a source is a folder, or a pattern and not the name of a file."""
    return path.is_dir() or (is_pattern(path) and not path.exists())


def find_sequence(path: Path) -> ImageSequence:
    """All images of a folder, or those that a pattern names.

    Raises SourceError when there are none, when they are of several kinds or names, or when numbers are missing.
    """
    folder = path if path.is_dir() else path.parent
    try:
        files = [entry for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_CODECS and entry.name[0] != "."]
    except OSError as exc:
        raise SourceError(f"{path}: {folder} cannot be read ({exc.strerror}); check the path") from exc
    names = sorted(file.name for file in files if file.is_file())
    if path.is_dir():
        if not names:
            raise SourceError(f"{path}: is a folder without {KINDS} images; name a video file, or a folder of images")
        pattern = _pattern_of(path, names)
    else:
        pattern = path.name
    place = PLACE.search(pattern.replace("%%", "\0\0"))
    assert place is not None, "a pattern has a place for the number"
    before, after = (part.replace("%%", "%") for part in (pattern[: place.start()], pattern[place.end() :]))
    found = (re.fullmatch(f"{re.escape(before)}(\\d+){re.escape(after)}", name) for name in names)
    numbers = sorted(int(match[1]) for match in found if match and pattern % int(match[1]) == match[0])
    if not numbers:
        raise SourceError(f"{path}: no image has such a name; check the path and the digits after %")
    missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SourceError(
            f"{path}: {pattern % missing[0]}{more} of {pattern % numbers[0]} to {pattern % numbers[-1]} is missing; "
            "add it, or restore what lies before and after from folders of their own"
        )
    return ImageSequence(path, folder, pattern, numbers[0], len(numbers))


def _pattern_of(path: Path, names: list[str]) -> str:
    """The pattern that all these names follow."""
    kinds = sorted({IMAGE_CODECS[Path(name).suffix.lower()] for name in names})
    if len(kinds) > 1:
        raise SourceError(
            f"{path}: holds images of several kinds ({' and '.join(kinds)}); name one with a pattern, such as "
            f"{path / 'frame_%06d.dpx'}"
        )
    split = [re.split(r"(\d+)", name) for name in names]
    texts, digits = [parts[::2] for parts in split], [parts[1::2] for parts in split]
    odd = next((name for name, text in zip(names, texts, strict=True) if text != texts[0]), None)
    if not digits[0]:
        raise SourceError(f"{path}: {names[0]} has no number; number the images in the order of time")
    changing = [place for place, group in enumerate(zip(*digits, strict=False)) if len(set(group)) > 1]
    if odd is not None or len(changing) > 1:
        other = odd or names[-1]
        raise SourceError(
            f"{path}: holds images of several names ({names[0]}, {other}); name one with a pattern, such as "
            f"{path / 'frame_%06d.dpx'}"
        )
    place = changing[0] if changing else len(digits[0]) - 1
    width = min(len(groups[place]) for groups in digits)
    parts = [part.replace("%", "%%") for part in split[0]]
    parts[2 * place + 1] = f"%0{width}d" if width > 1 else "%d"
    pattern = "".join(parts)
    for name, groups in zip(names, digits, strict=True):
        if pattern % int(groups[place]) != name:
            raise SourceError(f"{path}: {name} is numbered unlike {names[0]}; give all numbers the same digits")
    return pattern


def source_facts(source: Path) -> dict[str, Any]:
    """By which a source is known again: name, size and time of change; of a sequence, those of all its images."""
    if not is_sequence(source):
        state = source.stat()
        return {"source": source.name, "source_bytes": state.st_size, "source_mtime_ns": state.st_mtime_ns}
    sequence = find_sequence(source)
    states = [sequence.file(position).stat() for position in range(sequence.num_images)]
    return {
        "source": sequence.path.name,
        "source_images": f"{sequence.num_images} from {sequence.file(0).name}",
        "source_bytes": sum(state.st_size for state in states),
        "source_mtimes_sha256": hashlib.sha256(repr([s.st_mtime_ns for s in states]).encode()).hexdigest(),
    }


def stand_in(source: Path) -> Path:
    """The file that has all the source's tracks: the source itself; of a sequence, an image, which has no others."""
    return find_sequence(source).file(0) if is_sequence(source) else source


def exact_rate(rate_hz: float) -> Fraction:
    """Frames per second as they are meant: 23.976 is 24000/1001."""
    ntsc = Fraction(round(rate_hz * 1.001) * 1000, 1001)
    if abs(rate_hz - round(rate_hz)) > NTSC_SLACK_HZ and abs(rate_hz - ntsc) <= NTSC_SLACK_HZ:
        return ntsc
    return Fraction(rate_hz).limit_denominator(1000)


def image_tags(file: Path) -> dict[int, tuple[float, ...]]:
    """The TIFF tags that are numbers: a TIFF file's own, or those of a PNG file's EXIF. None that are damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, struct.error), file.open("rb") as opened:
        if file.suffix.lower() != ".png":
            return tiff_tags(opened)
        exif = next((chunk for kind, chunk in png_chunks(opened.read()) if kind == b"eXIf"), None)
        if exif is not None:
            return tiff_tags(io.BytesIO(exif[8:-4]))
    return {}


def has_notes(sequence: ImageSequence) -> bool:
    """Whether its first file says more than what its picture is: texts, a colour profile, a time code."""
    file = sequence.file(0)
    if sequence.codec == "dpx":
        return True
    if sequence.codec == "tiff":
        return any(tag not in TIFF_PICTURE_TAGS for tag in image_tags(file))
    return any(kind not in PNG_PLAIN_CHUNKS for kind, _ in png_chunks(file.read_bytes()))


def _fixed(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """In 65536ths."""
    return tuple(number << 16 for number in numbers)


class SequenceReader:
    """Decodes an image sequence, as `VideoReader` does a video: `with SequenceReader(path) as reader: ...`.

    Frames keep the samples as FFmpeg's decoder gives them. A frame's pts is its position in the whole sequence, one
    tick lasts as long as a frame: `rate_hz`, or what a DPX header says, or `DEFAULT_RATE_HZ`. Nothing is skipped.

    Raises SourceError that names the file when an image is damaged, or is of another size or depth than the first:
    the latter, and files that are cut off as far as their headers tell, before the first is decoded. OptionsError when
    nothing lies in the span.
    """

    def __init__(
        self, path: Path, *, start_s: float | None = None, end_s: float | None = None, rate_hz: float | None = None
    ) -> None:
        self.path = path
        self.sequence = find_sequence(path)
        self.num_damaged_packets = self.num_damaged_frames = 0
        """None: what is damaged is an error."""
        self._check_headers()
        self._rate = exact_rate(rate_hz) if rate_hz else self._rate_in_header() or DEFAULT_RATE_HZ
        count = self.sequence.num_images
        in_span = [
            position
            for position in range(count)
            if (not start_s or position / self._rate + SLACK_S >= start_s)
            and (end_s is None or position / self._rate + SLACK_S < end_s)
        ]
        if not in_span:
            end = "the end" if end_s is None else f"{end_s:g} s"
            raise OptionsError(
                f"{path}: no frame lies from --start {start_s or 0:g} s to {end}; {count} images at "
                f"{float(self._rate):.6g} frames/s last {float(count / self._rate):.3f} s"
            )
        self._positions = in_span
        self.info = self._describe(in_span[0])

    @property
    def num_frames_expected(self) -> int:
        """How many frames `frames()` gives."""
        return len(self._positions)

    @property
    def first_s(self) -> Fraction:
        """Time of the first frame."""
        return self._positions[0] / self._rate

    @property
    def warnings(self) -> list[str]:
        """None: what is wrong with an image is an error."""
        return []

    def frames(self) -> Iterator[Frame]:
        """The frames in order."""
        for index, position in enumerate(self._positions):
            yield self._frame(index, position)

    def sampled(self, num_frames: int) -> list[Frame]:
        """So many, evenly spaced; the index is that in the list."""
        num_frames = min(num_frames, len(self._positions))
        chosen = [(2 * index + 1) * len(self._positions) // (2 * num_frames) for index in range(num_frames)]
        return [self._frame(index, self._positions[place]) for index, place in enumerate(chosen)]

    def close(self) -> None:
        """Nothing is open between frames."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, index: int, position: int) -> Frame:
        picture, info = self._decoded(position), self.info
        layout = self._layout(picture, position)
        wanted = (info.width_px, info.height_px, info.layout)
        if (picture.width, picture.height, layout) != wanted:
            raise SourceError(
                f"{self.sequence.file(position)}: is {picture.width}x{picture.height} {layout.name}, and the images "
                f"before it are {info.width_px}x{info.height_px} {info.layout.name}; restore the two kinds separately"
            )
        return Frame(index=index, pts=position, time_base=info.time_base, planes=planes_of(picture), layout=layout)

    def _layout(self, picture: av.VideoFrame, position: int) -> Any:
        try:
            return layout_of(picture)
        except SourceError as exc:
            raise SourceError(f"{self.sequence.file(position)}: {exc}") from exc

    def _describe(self, position: int) -> VideoInfo:
        picture, matrix = self._decoded(position), self._display_matrix(position)
        return VideoInfo(
            width_px=picture.width,
            height_px=picture.height,
            layout=self._layout(picture, position),
            time_base=1 / self._rate,
            average_rate=self._rate,
            num_frames_from_header=self.sequence.num_images,
            duration_s=float(self.sequence.num_images / self._rate),
            codec=self.sequence.codec,
            rotation_deg=round(math.degrees(math.atan2(matrix[1], matrix[4])) / 90) % 4 * 90 if matrix else 0,
            sample_aspect=self._sample_aspect or Fraction(1),
            color=ColorTags(
                range=int(picture.color_range),
                matrix=int(picture.colorspace),
                primaries=int(picture.color_primaries),
                transfer=int(picture.color_trc),
            ),
            display_matrix=matrix,
            stream_number=0,
        )

    def _display_matrix(self, position: int) -> tuple[int, ...] | None:
        """How the image is to be turned, by its EXIF tag. FFmpeg's word for it is among the side data, where PyAV (18)
        fails on pictures with EXIF."""
        tags = image_tags(self.sequence.file(position))
        (orientation,) = tags.get(EXIF_ORIENTATION_TAG, (1,))[:1]
        turned = ORIENTATIONS.get(int(orientation))
        return None if turned is None else (*_fixed(turned[:2]), 0, *_fixed(turned[2:]), 0, 0, 0, 1 << 30)

    def _decoded(self, position: int) -> av.VideoFrame:
        file, codec = self.sequence.file(position), self.sequence.codec
        try:
            content = file.read_bytes()
        except OSError as exc:
            raise SourceError(f"{file}: cannot be read ({exc.strerror}); check the disk, or get another copy") from exc
        if codec == "png":
            content = _without_profile(content)
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, av.VideoCodecContext), "it is an image's"
        context.options = dict(DECODER_OPTIONS[codec])
        context.thread_type = "NONE"  # so that what it logs is logged in this thread
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture() as lines:  # of this thread only
                pictures = [*context.decode(Packet(content)), *context.decode(None)]
        except (av.FFmpegError, ValueError) as exc:
            raise _damaged(file) from exc
        finally:
            av.logging.set_level(level)
        is_damaged = codec == "tiff" and any(number <= av.logging.ERROR for number, _, _ in lines)
        if len(pictures) != 1 or pictures[0].is_corrupt or is_damaged:
            raise _damaged(file)
        self._sample_aspect = context.sample_aspect_ratio
        (picture,) = pictures
        if picture.format.name == "pal8":
            spread = picture.reformat(format="rgba")
            if planes_of(spread)[3].min() < 255:  # some colours of the palette are transparent
                return spread
        return picture

    def _check_headers(self) -> None:
        first: tuple[Any, ...] | None = None
        for position in range(self.sequence.num_images):
            file = self.sequence.file(position)
            try:
                facts = HEADER_FACTS[self.sequence.codec](file)
            except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error) as exc:
                raise _damaged(file) from exc
            first = first or facts
            if facts != first:
                raise SourceError(
                    f"{file}: is {_in_words(facts)}, and {self.sequence.file(0).name} is {_in_words(first)}; restore "
                    "the two kinds separately"
                )

    def _rate_in_header(self) -> Fraction | None:
        if self.sequence.codec != "dpx":
            return None
        with self.sequence.file(0).open("rb") as file:
            header = file.read(DPX_HEADER_BYTES)
        order = dpx_byte_order(header)
        (data_offset,) = struct.unpack_from(f"{order}I", header, 4)
        for offset in (DPX_FILM_RATE, DPX_TV_RATE):
            if min(len(header), data_offset) >= offset + 4:
                (rate_hz,) = struct.unpack_from(f"{order}f", header, offset)
                if RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
                    return exact_rate(rate_hz)
        return None


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, the whole chunk) each; what comes after a chunk that is cut off is left out."""
    position = PNG_SIGNATURE_BYTES
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 12 + length
        yield content[position + 4 : position + 8], content[position:end]
        position = end


def _without_profile(content: bytes) -> bytes:
    """A PNG file without its colour profile: PyAV (18) frees the name of that twice, and the interpreter crashes."""
    profile = next((chunk for kind, chunk in png_chunks(content) if kind == b"iCCP"), None)
    return content if profile is None else content.replace(profile, b"", 1)


def dpx_byte_order(header: bytes) -> str:
    """Of its numbers, for `struct`. Raises ValueError for what is no DPX file."""
    if header[:4] not in (b"SDPX", b"XPDS"):
        raise ValueError("no DPX file")
    return ">" if header[:4] == b"SDPX" else "<"


def _png_facts(file: Path) -> tuple[Any, ...]:
    with file.open("rb") as opened:
        header = opened.read(29)
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG file")
    return struct.unpack_from(">IIBB", header, 16)


def _dpx_facts(file: Path) -> tuple[Any, ...]:
    with file.open("rb") as opened:
        header = opened.read(DPX_HEADER_BYTES)
    order = dpx_byte_order(header)
    (size,) = struct.unpack_from(f"{order}I", header, DPX_FILE_SIZE)
    if size != UNDEFINED and file.stat().st_size < size:
        raise ValueError("cut off")
    width_px, height_px = struct.unpack_from(f"{order}II", header, DPX_WIDTH)
    return width_px, height_px, header[DPX_ELEMENT + 3], header[DPX_ELEMENT]


def _tiff_facts(file: Path) -> tuple[Any, ...]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        tags = tiff_tags(opened)
    for offsets, sizes in TIFF_PLACES:
        for offset, length in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
            if offset + length > size:
                raise ValueError("cut off")
    if tags.get(TIFF_NEXT, (0,)) != (0,):
        raise SourceError(f"{file}: holds several pictures; save them as files of their own first")
    return *tags[256], *tags[257], *tags.get(258, (1,))[:1], (*tags[262], *tags.get(277, (1,)))


def tiff_tags(file: BinaryIO) -> dict[int, tuple[float, ...]]:
    """The numbers of a TIFF file's first directory, and as `TIFF_NEXT` where the next directory is.

    Raises KeyError, ValueError or struct.error for what is damaged or no TIFF file.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}[file.read(4)]
    file.seek(*struct.unpack(f"{order}I", file.read(4)))
    (count,) = struct.unpack(f"{order}H", file.read(2))
    directory = file.read(12 * count)
    tags: dict[int, tuple[float, ...]] = {TIFF_NEXT: struct.unpack(f"{order}I", file.read(4).ljust(4, b"\0"))}
    for place in range(0, 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", directory, place)
        if kind not in TIFF_NUMBERS or number > MAX_TIFF_NUMBERS:
            tags[tag] = ()
            continue
        layout = f"{order}{number * len(TIFF_NUMBERS[kind])}{TIFF_NUMBERS[kind][0]}"
        content = directory[place + 8 : place + 12]
        if struct.calcsize(layout) > len(content):
            file.seek(*struct.unpack(f"{order}I", content))
            content = file.read(struct.calcsize(layout))
        numbers = struct.unpack_from(layout, content)
        if kind == TIFF_RATIONAL:
            numbers = tuple(top / (bottom or 1) for top, bottom in zip(numbers[::2], numbers[1::2], strict=True))
        tags[tag] = numbers
    return tags


HEADER_FACTS = {"png": _png_facts, "dpx": _dpx_facts, "tiff": _tiff_facts}
"""(width, height, bits, kind of colours) of a file without decoding it. They raise for one that is no such image."""


def _in_words(facts: tuple[Any, ...]) -> str:
    width_px, height_px, bits, _ = facts
    return f"{width_px}x{height_px} px with {bits} bits"


def _damaged(file: Path) -> SourceError:
    try:
        is_empty = file.stat().st_size == 0
    except OSError as exc:
        return SourceError(f"{file}: cannot be read ({exc.strerror}); check the disk, or get another copy")
    codec = IMAGE_CODECS[file.suffix.lower()].upper()
    return SourceError(f"{file}: {'is empty' if is_empty else f'is no whole {codec} image'}; get another copy of it")
