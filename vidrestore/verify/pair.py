"""The two files that are compared, what the run was asked for, and how a difference is told."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av
import av.container
from av.stream import Stream

from vidrestore.errors import OptionsError, RestoreError, SourceError
from vidrestore.video.source import chosen_video_stream, moving_pictures, open_source

NOT_PLACED = "the output was not put in its place"


class VerifyError(RestoreError):
    """The output differs from what it must be."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and the output of a run; the options are those of `verify_output`."""

    source: Path
    """Of a sequence of images, one that stands for them."""
    output: Path
    target: Path
    container: str
    """The output's, as FFmpeg calls it."""
    start_s: float | None
    end_s: float | None
    stream: int | None
    warnings: tuple[str, ...]

    def differs(self, what: str) -> NoReturn:
        raise VerifyError(f"{self.target}: {what}; {NOT_PLACED}")

    @contextlib.contextmanager
    def reading_back(self) -> Iterator[None]:
        """Whatever is wrong with the output, while it is read, is a difference."""
        try:
            yield
        except (SourceError, OptionsError, av.FFmpegError) as exc:
            raise VerifyError(f"{self.target}: cannot be read back ({exc}); {NOT_PLACED}") from exc

    def announced(self, what: str) -> bool:
        """Whether one of the writer's warnings says so, in whole words, after the name of the file that it is about."""
        words = re.compile(rf"\b{re.escape(what)}\b")
        return any(words.search(self._without_name(warning)) for warning in self.warnings)

    def _without_name(self, warning: str) -> str:
        names = sorted((f"{self.source}: ", f"{self.target}: "), key=len, reverse=True)  # one may begin as the other
        return warning.removeprefix(next(filter(warning.startswith, names), ""))

    def is_announced(self, stream: Stream) -> bool:
        """Whether the writer has said that this track of the source is lost."""
        return self.announced(f"{stream.type} track {stream.index}")

    def output_picture_number(self) -> int:
        """The restored stream in the output: tracks keep their order, but some may be left out with a warning."""
        with open_source(self.source) as source:
            chosen = chosen_video_stream(source, self.source, self.stream).index
            kept = [
                each.index for each in moving_pictures(source) if each.index == chosen or not self.is_announced(each)
            ]
        with open_source(self.output) as output:
            found = [each.index for each in moving_pictures(output)]
        if len(found) != len(kept):
            self.differs(f"holds {len(found)} video streams, not {len(kept)}")
        return found[kept.index(chosen)]


def from_beginning(source: av.container.InputContainer, time_s: float | None) -> Fraction | None:
    """A --start or --end on the file's own clock, in s; None stays None."""
    return None if time_s is None else Fraction(source.start_time or 0, av.time_base) + Fraction(time_s)
