"""Whether a source keeps to the clock of a container that counts frames."""

import contextlib
import itertools
from fractions import Fraction
from pathlib import Path

import av
import av.container

from vidrestore.errors import TargetError
from vidrestore.video.containers import PACK_TIMING_CONTAINERS, SUGGESTED_SUFFIXES, container_format
from vidrestore.video.source import FALLBACK_RATE_HZ, chosen_video_stream, open_source, packets_of

MAX_OFF_GRID_FRAMES = 0.25
"""How far a frame's time may be from a whole number of frames."""
MAX_STEP_ERROR_S = Fraction(1, 1000)
"""How far a frame's duration may be from that of the rate, in containers that count on from a time: Matroska rounds
times to ms."""
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
    """Raise TargetError where a container that counts frames would show them, or let hear the sound, at other times: a
    variable rate, and where it has no other times a start other than 0, and sound that begins elsewhere than the
    picture.

    `opened` is the source, `picture` its stream that is restored; the span from `start_s` to `end_s` is by its clock.
    """
    begin_s = start_s or BEFORE_ALL_S
    known_s = _times_s(source, picture)
    times_s = [
        time_s for time_s in known_s if time_s is not None and begin_s <= time_s and (end_s is None or time_s < end_s)
    ]
    if not times_s:
        return  # no time stamps: what AVI itself has
    # As the picture's encoder has it; see `rate_of`.
    rate = min(picture.average_rate or FALLBACK_RATE_HZ, 1 / (picture.time_base or Fraction(1)))
    if container_format(target.suffix) in PACK_TIMING_CONTAINERS:
        uneven_s = _first_uneven_s(times_s, rate, is_complete=None not in known_s)
        if uneven_s is not None:
            raise _refusal(target, "has no time for every frame", f"frames of a variable rate (at {uneven_s:.3f} s)")
        return
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
        raise _refusal(target, "counts frames", trouble)


def _refusal(target: Path, why: str, trouble: str) -> TargetError:
    ways_out = " or ".join(each for each in SUGGESTED_SUFFIXES if each != target.suffix.lower())
    return TargetError(f"{target}: {target.suffix} {why} and cannot say {trouble}; end the output in {ways_out}")


def _first_uneven_s(times_s: list[Fraction], rate: Fraction, *, is_complete: bool) -> float | None:
    """When a frame begins that lasts longer or shorter than the rate says. Where the source itself has no time for
    some, others may be some whole frames apart."""
    for time_s, next_s in itertools.pairwise(sorted(times_s)):
        num_frames = 1 if is_complete else max(1, round((next_s - time_s) * rate))
        if abs(next_s - time_s - num_frames / rate) > MAX_STEP_ERROR_S:
            return float(time_s)
    return None


def _times_s(source: Path, picture: av.VideoStream) -> list[Fraction | None]:
    """Of the pictures, in the order of the file and as far as it can be read; None: without."""
    base = picture.time_base or Fraction(1)
    times_s: list[Fraction | None] = []
    with open_source(source) as opened, contextlib.suppress(av.FFmpegError):
        stream = chosen_video_stream(opened, source, picture.index)
        for packet in packets_of(opened, source, [stream]):
            if packet.size:  # the end has none
                times_s.append(None if packet.pts is None else packet.pts * base)
    return times_s
