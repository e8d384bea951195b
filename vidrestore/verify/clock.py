"""The clock: when the output must show what the source shows."""

from collections.abc import Iterable
from fractions import Fraction

from vidrestore.frame import Frame
from vidrestore.verify.pair import Pair
from vidrestore.video.containers import MATROSKA_CONTAINERS, QUICKTIME_CONTAINERS
from vidrestore.video.source import FALLBACK_RATE_HZ

MS = Fraction(1, 1000)
"""A second's part in which Matroska counts."""
EXACT_CONTAINERS = QUICKTIME_CONTAINERS | {"nut"}
"""They hold the source's own ticks and its start."""
AVI = "avi"
AVI_SLACK_FRAMES = 2
"""AVI has no times of its own, only a count of frames: the first picture is always at 0, and what a decoder holds back
is counted late."""


class Clock:
    """What the first frames tell about the two clocks, for all that follows."""

    def __init__(self, pair: Pair, rate_hz: Fraction | None) -> None:
        """`rate_hz` is the source's, about."""
        self._pair, self._is_avi = pair, pair.container == AVI
        self._frame_s = 1 / (rate_hz or FALLBACK_RATE_HZ)
        self._first_s = Fraction(0)
        """The first picture's time as it should be in the output."""
        self._shown_s: Fraction | None = None
        """When the output shows the last frame that was looked at."""
        self.begin_s: Fraction | None = None
        """With a start: the time of the first frame in the source, which is 0 in the output."""
        self.shift_s = Fraction(0)
        """How much later the output has it."""

    def compare(self, number: int, at: str, one: Frame, other: Frame) -> None:
        """Raise VerifyError unless the output has the source's frame `one` at its time. Frames come in order."""
        source_s, shown_s = one.pts * one.time_base, other.pts * other.time_base
        if number == 0:
            if self._pair.start_s:
                self.begin_s = source_s
            self._first_s = source_s - (self.begin_s or 0)
        unmoved_s = source_s - (self.begin_s or 0)
        if number == 0 or (number == 1 and self._is_avi):
            self.shift_s = shown_s - unmoved_s
        wanted_s = unmoved_s + self.shift_s
        if self._shown_s is not None:
            # Where two times become one in a coarser clock, the reader has moved the second one.
            wanted_s = max(wanted_s, self._shown_s + other.time_base)
        self._shown_s = shown_s
        if abs(shown_s - wanted_s) > self.slack_s(other.time_base):
            self._pair.differs(f"{at} of the source is shown at {float(shown_s):.6f} s, not {float(wanted_s):.6f} s")

    def slack_s(self, tick_s: Fraction) -> Fraction:
        """Half a tick of rounding; a file that has moved as a whole was rounded twice."""
        if self._is_avi:
            return AVI_SLACK_FRAMES * self._frame_s
        return tick_s if self.shift_s else tick_s / 2

    def check_shift(self, starts_s: Iterable[Fraction]) -> None:
        """Whether the start of all tracks, of which the others begin at `starts_s`, may have moved as it has."""
        to_zero_s = max(-min([self._first_s, *starts_s]), Fraction(0))
        if self._pair.container in EXACT_CONTAINERS:
            may_move = self.shift_s == 0 or (self._first_s < 0 and abs(self.shift_s - to_zero_s) <= MS)
        elif self._pair.container in MATROSKA_CONTAINERS:
            may_move = min(abs(self.shift_s), abs(self.shift_s - to_zero_s)) <= MS
        else:
            return
        if not may_move:
            shown_s = self._first_s + self.shift_s
            self._pair.differs(f"the first frame is shown at {float(shown_s):.6f} s, not {float(self._first_s):.6f} s")
