"""Options: every choice of a run, each spelled once. Flags and TOML keys are made from these fields."""

import datetime
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from vidrestore.errors import OptionsError

Device = str
"""auto, cpu, cuda or cuda:N."""
TRACK_NUMBER = r"\d{1,16}"
"""They are below 2**53, as in faces files; Python turns no text of more than 4300 digits into a number."""


def option(
    default: Any, help_text: str, *, low: float | None = None, high: float | None = None, is_time: bool = False
) -> Any:
    """A field with its one-line help and, for numbers, the closed range of its values; a time may be hh:mm:ss."""
    return field(default=default, metadata={"help": help_text, "low": low, "high": high, "is_time": is_time})


@dataclass(frozen=True, slots=True)
class Options:
    """All values are checked when an Options is made; a wrong one raises OptionsError."""

    model: str = option("auto", "Restoration model: auto, a name from `vidrestore models list`, or a file.")
    detector: str = option("auto", "Face detector: auto, a name, or a file.")
    device: Device = option("auto", "auto, cpu, cuda or cuda:N.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("auto", "Arithmetic of the restoration model.")
    engine: Literal["auto", "pytorch", "onnx"] = option(
        "auto", "What runs the restoration model: auto is onnx for .onnx files, else pytorch."
    )
    batch_size: int = option(8, "Faces restored at once; halved by itself when memory runs out.", low=1, high=512)
    reuse: bool = option(False, "Give a face that has not changed the last result again, not restored anew.")
    temporal: Literal["off", "light", "strong"] = option(
        "light", "How much the frames before steady the picture on a face."
    )
    strength: float = option(1.0, "How much of the restoration is blended in.", low=0.0, high=1.0)
    codec: str = option("auto", "auto (H.264; HEVC for 10 bits), h264, hevc, ffv1, source, or an FFmpeg encoder.")
    crf: int | None = option(None, "Quality of the encoder; lower is better and larger.", low=0, high=63)
    preset: str | None = option(None, "Speed preset of the encoder, such as slow.")
    quality: Literal["archive", "master", "share"] | None = option(
        None, "archive: every sample exact, as lossless; master: for editing (ProRes in .mov); share: small."
    )
    lossless: bool = option(False, "Write every sample exactly: FFV1 in .mkv, x264 qp 0 in .mp4.")
    stream: int | None = option(
        None, "Restore this video stream, by its number in `vidrestore info`; the others are copied.", low=0
    )
    rate: float | None = option(
        None, "Frames per second of a sequence of images; else DPX files say it, or it is 24.", low=1.0, high=1000.0
    )
    start: float | None = option(None, "Begin here: seconds or hh:mm:ss.", low=0.0, is_time=True)
    end: float | None = option(None, "Stop before this: seconds or hh:mm:ss.", low=0.0, is_time=True)
    faces: Path | None = option(None, "Write what was found to this JSON file.")
    from_faces: Path | None = option(None, "Restore the faces that this file lists (see `vidrestore analyze`).")
    tracks: str | None = option(None, "With --from-faces: only these tracks, such as 1,4.")
    compare: Path | None = option(None, "Write original and restored side by side to this file.")
    report: Path | None = option(None, "Write a page of measurements and pictures to this .html file.")
    detect_every: int = option(
        4, "Look for faces in every n-th frame, in more where they come, go or turn; 1: in every frame.", low=1, high=16
    )
    lag: float = option(0.5, "Seconds that tracking may look ahead, while frames wait in memory.", low=0.0, high=10.0)
    min_face_px: float = option(24.0, "Leave faces alone whose box has a longer side below this.", low=0.0)
    max_faces: int | None = option(None, "Restore at most this many faces a frame, the largest first.", low=1)
    decoder: Literal["auto", "pyav", "decord"] = option("auto", "auto is pyav; decord reads 8-bit RGB only.")
    verify: bool | None = option(
        None, "Read the finished file back and compare it with the source; on with --quality archive."
    )
    resume: bool = option(False, "Go on with a run that was stopped; fail if there is none.")
    overwrite: bool = option(False, "Replace an output that exists.")

    def __post_init__(self) -> None:
        for spec in fields(self):
            object.__setattr__(self, spec.name, checked(spec, getattr(self, spec.name)))
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise OptionsError(f"device is {self.device!r}; it must be auto, cpu, cuda or cuda:N")
        if self.lossless and self.crf is not None:
            raise OptionsError(
                f"crf is {self.crf}, but lossless has no quality to choose; leave one out (--no-lossless)"
            )
        if self.quality and (self.crf is not None or (self.lossless and self.quality != "archive")):
            other = "lossless" if self.lossless else "crf"
            raise OptionsError(f"quality is {self.quality}, and {other} asks for another; leave one out")
        if self.tracks is not None and not re.fullmatch(rf" *{TRACK_NUMBER} *(, *{TRACK_NUMBER} *)*", self.tracks):
            raise OptionsError(f"tracks is {self.tracks!r}; it must be track numbers with commas between, such as 1,4")
        if self.tracks is not None and self.from_faces is None:
            raise OptionsError(f"tracks is {self.tracks}, but only a file has track numbers; give it with from_faces")
        if self.stream is not None and self.report is not None:
            raise OptionsError(f"stream is {self.stream}, but report measures the first video stream; leave one out")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise OptionsError(f"end ({self.end:g} s) is not after start ({self.start:g} s); give a later end")

    @property
    def track_ids(self) -> frozenset[int] | None:
        """Those of `tracks`; None means all."""
        return None if self.tracks is None else frozenset(map(int, self.tracks.split(",")))

    def changed(self, values: Mapping[str, Any], *, origin: str) -> "Options":
        """These options with some replaced. Raises OptionsError, naming `origin`, for an unknown key or bad value."""
        known = [spec.name for spec in fields(self)]
        for key in values:
            if key not in known:
                raise OptionsError(f"{origin}: unknown option {key!r}; the options are {', '.join(known)}")
        try:
            return replace(self, **values)
        except OptionsError as exc:
            raise OptionsError(f"{origin}: {exc}") from exc

    @classmethod
    def from_toml(cls, path: Path) -> "Options":
        """Read a configuration file that holds only what differs from the defaults."""
        try:
            if path.exists() and not path.is_file():  # such as /dev/zero, which has no end
                raise OptionsError(f"{path}: is no regular file; save what it brings to a file first, and give that")
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Notepad puts a byte order mark first
        except OSError as exc:
            raise OptionsError(f"{path}: cannot be read ({exc.strerror}); check the path of the config file") from exc
        except OptionsError:
            raise
        except (ValueError, RecursionError) as exc:  # no TOML or UTF-8, a number without end, brackets without end
            raise OptionsError(f"{path}: not valid TOML ({exc}); see configs/ for examples") from exc
        # Dashes may be used as on the command line.
        return cls().changed({key.replace("-", "_"): value for key, value in values.items()}, origin=str(path))


def plain_type(spec: Field[Any]) -> tuple[type, bool, tuple[str, ...]]:
    """(type, may be None, allowed words) of a field."""
    annotation: Any = spec.type
    optional = False
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        optional, annotation = True, members[0]
    if get_origin(annotation) is Literal:
        return str, optional, get_args(annotation)
    return annotation, optional, ()


def checked(spec: Field[Any], value: Any) -> Any:
    """The value in its field's type. Raises OptionsError naming the option, the value and what is allowed."""
    kind, optional, words = plain_type(spec)
    if value is None and optional:
        return None
    wrong = OptionsError(f"{spec.name} is {value!r}; it must be {_expected(spec)}")
    if spec.metadata["is_time"]:
        value = parse_time_s(value)
    if kind is Path and isinstance(value, str):
        value = Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise wrong
    if words and value not in words:
        raise wrong
    if isinstance(value, float) and not math.isfinite(value):
        raise wrong
    low, high = spec.metadata["low"], spec.metadata["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        raise wrong
    return value


def _expected(spec: Field[Any]) -> str:
    kind, _, words = plain_type(spec)
    if words:
        return "one of " + ", ".join(words)
    text = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}[kind]
    if spec.metadata["is_time"]:
        text = "seconds or hh:mm:ss"
    low, high = spec.metadata["low"], spec.metadata["high"]
    if low is not None and high is not None:
        return f"{text} from {low:g} to {high:g}"
    return f"{text}, at least {low:g}" if low is not None else text


def parse_time_s(value: Any) -> Any:
    """Seconds of "12.5", "1:02.5", "01:02:03" or a TOML time; anything else comes back as it is."""
    if isinstance(value, datetime.time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    if isinstance(value, str) and re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", value.strip()):
        seconds = 0.0
        for part in value.strip().split(":"):
            seconds = seconds * 60 + float(part)
        return seconds
    return value
