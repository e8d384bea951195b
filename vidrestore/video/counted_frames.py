"""Whether a source keeps to the clock of a container that only counts frames."""

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import av.container

from vidrestore.errors import TargetError
from vidrestore.video.containers import SUGGESTED_SUFFIXES
from vidrestore.video.source import FALLBACK_RATE_HZ, chosen_video_stream, open_source, packets_of

MAX_OFF_GRID_FRAMES = 0.25
"""How far a frame's time may be from a whole number of frames."""
BEFORE_ALL_S = Fraction(-(2**40))
"""Where a span begins that has no beginning."""


def check_clock(
    source: Path,
    opened: av.container.InputContainer,
    picture: av.VideoStream,
    target: Path,
    *,
    start_s: Fraction | None,
    end_s: Fraction | None,
) -> None:
    """Raise TargetError where a container that only counts frames would show them, or let hear the sound, at other
    times: a variable rate, a start other than 0, sound that begins elsewhere than the picture.

    `opened` is the source, `picture` its stream that is restored; the span from `start_s` to `end_s` is by its clock.
    """
    begin_s = start_s or BEFORE_ALL_S
    times_s = [
        time_s for time_s in _times_s(source, picture) if begin_s <= time_s and (end_s is None or time_s < end_s)
    ]
    if not times_s:
        return  # no time stamps: what AVI itself has
    # As the picture's encoder has it; see `rate_of`.
    rate = min(picture.average_rate or FALLBACK_RATE_HZ, 1 / (picture.time_base or Fraction(1)))
    first_s, trouble = min(times_s), ""
    places = [(time_s - first_s) * rate for time_s in times_s]
    uneven = [place for place in places if abs(place - round(place)) > MAX_OFF_GRID_FRAMES]
    starts_s = {
        stream.index: max((stream.start_time or 0) * (stream.time_base or 0), begin_s)
        for stream in opened.streams.audio
        if stream.start_time is not None
    }
    apart = [index for index, sound_s in starts_s.items() if abs(sound_s - first_s) > 1 / rate]
    if uneven or len({round(place) for place in places}) < len(places):
        trouble = f"frames of a variable rate (at {float(first_s + min(uneven, default=0) / rate):.3f} s)"
    elif apart:
        late_s = float(starts_s[apart[0]] - first_s)
        trouble = f"that audio track {apart[0]} starts {abs(late_s):.3f} s {'after' if late_s > 0 else 'before'} it"
    elif start_s is None and abs(first_s) * rate > MAX_OFF_GRID_FRAMES:
        trouble = f"a picture that starts at {float(first_s):.3f} s"
    if trouble:
        ways_out = " or ".join(each for each in SUGGESTED_SUFFIXES if each != target.suffix.lower())
        raise TargetError(
            f"{target}: {target.suffix} counts frames and cannot say {trouble}; end the output in {ways_out}"
        )


def _times_s(source: Path, picture: av.VideoStream) -> list[Fraction]:
    """Of the pictures, in the order of the file and as far as it can be read."""
    base = picture.time_base or Fraction(1)
    times_s = []
    with open_source(source) as opened, contextlib.suppress(av.FFmpegError):
        stream = chosen_video_stream(opened, source, picture.index)
        for packet in packets_of(opened, source, [stream]):
            if packet.pts is not None:
                times_s.append(packet.pts * base)
    return times_s
