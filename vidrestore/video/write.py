"""Frames in, a video file out: the new picture with everything else of the source, in the source's time."""

import contextlib
import math
import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.container

from vidrestore.errors import RestoreError, TargetError
from vidrestore.frame import Frame, VideoInfo
from vidrestore.target import replaced_when_complete
from vidrestore.video.containers import QUICKTIME_CONTAINERS, container_format, text_options
from vidrestore.video.encode import resolve_encoding
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.picture import Encoded, PictureEncoder, add_picture_stream, translated_errors
from vidrestore.video.source import KEPT_BYTES
from vidrestore.video.tracks import CopiedTracks
from vidrestore.video.trial import lost_facts


class VideoWriter:
    """Writes a video: `with VideoWriter(...) as writer: writer.write(frame)`, frames in the order of time.

    Picture: `like`'s size, time base, pixel shape, rotation and colour tags; each frame's pts as it is.
    Beside it: the source's sound, subtitles and other tracks packet for packet, its metadata and chapters.

    With `start_s` the output's clock starts at the first frame: pictures, sound, subtitles and chapters all move by
    that frame's time. With `start_s` or `end_s` sound and subtitles are cut to whole packets that begin in the span.

    The file is written under a hidden name in `folder`, or beside the target, and renamed when `with` ends without an
    error and `check`, which is given the hidden name, does not raise either; after an error or Ctrl-C nothing is left.
    Matroska counts time in ms and has no negative times: there, pts of finer clocks are rounded, and a source whose
    sound starts before 0 moves as a whole. Into MP4 and MOV, which would hide it, one whose pictures start before 0
    moves likewise.

    Raises TargetError before any work when folder, container, codec or a track does not fit; TargetError in the
    middle when the disk fills up; RestoreError when the encoder fails. `warnings` lists what could not be kept.
    """

    def __init__(
        self,
        target: Path,
        *,
        like: VideoInfo,
        source: Path,
        encode: EncodeSettings | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        folder: Path | None = None,
        check: Callable[[Path], None] | None = None,
    ) -> None:
        self.target = target
        try:
            self._encoding = resolve_encoding(encode or EncodeSettings(), like, target.suffix)
        except TargetError as exc:
            raise TargetError(f"{target}: {exc}") from exc
        self._like = like
        self._source, self._start_s, self._end_s = source, start_s, end_s
        self._moves_clock = bool(start_s)
        self._offset = 0
        self._begun = False
        self._own_encoder: PictureEncoder | None = None
        self._has_encoded = False
        self._last_dts: int | None = None
        with contextlib.ExitStack() as files, self._translated_errors():
            temporary = files.enter_context(replaced_when_complete(target, folder=folder, check=check))
            self._output = av.open(
                str(temporary.absolute()),
                mode="w",
                format=container_format(target.suffix),
                container_options=self._container_options(),
                metadata_errors=KEPT_BYTES,
            )
            files.callback(_close, self._output)
            self._tracks = self._copied_tracks(self._output)
            files.callback(self._tracks.close)
            self._tracks.copy_chapters()
            if container_format(target.suffix) in QUICKTIME_CONTAINERS:
                self._output.container_options["movie_timescale"] = str(self._tracks.movie_ticks_per_s())
            self._output.container_options.update(text_options(target.suffix, self._output.metadata))
            lost = lost_facts(self._encoding, like, target.suffix, texts=self._tracks.texts)
            self._warnings = [f"{target}: {each}" for each in lost]
            self._output.start_encoding()  # writes the header: container, codec and disk are known to work
            self._files = files.pop_all()

    @property
    def warnings(self) -> list[str]:
        """What could not be kept, one line each; complete after `close`."""
        encoding = self._own_encoder.warnings if self._own_encoder else []
        return self._warnings + encoding + self._tracks.warnings

    def rehearse(self, first_s: Fraction) -> None:
        """Copy all other tracks to nowhere, as beside a picture that begins at this time of the source.

        What the container refuses is then known before hours of work. It costs one reading of the source.
        """
        with (
            translated_errors(self.target, self._encoding, self._like, begun=True),
            contextlib.ExitStack() as files,
        ):
            nowhere = av.open(
                os.devnull, mode="w", format=container_format(self.target.suffix), metadata_errors=KEPT_BYTES
            )
            files.callback(_close, nowhere)  # muxers want pictures too
            tracks = self._copied_tracks(nowhere)
            files.callback(tracks.close)
            nowhere.start_encoding()
            tracks.begin(first_s, self._shift_s(first_s))
            tracks.copy_before(None)

    def write(self, frame: Frame) -> None:
        """Encode one frame, and put it in."""
        self.begin(frame)
        if self._own_encoder is None:
            self._own_encoder = self.encoder()
        self.mux(self._own_encoder.encode(frame))

    def begin(self, first: Frame) -> None:
        """Tell the first frame of all, whose time is where a cut output's clock starts. Later calls do nothing."""
        if self._begun:
            return
        self._begun = True
        first_s = first.pts * first.time_base
        shift_s = self._shift_s(first_s)
        self._offset = int(shift_s / self._like.time_base)
        with self._translated_errors():
            self._tracks.begin(first_s, shift_s)

    def encoder(self) -> PictureEncoder:
        """A new one for some frames in a row; what it gives may be muxed when what comes before has been."""
        assert self._begun, "the clock's offset is not known yet"
        is_first, self._has_encoded = not self._has_encoded, True
        return PictureEncoder(self._encoding, self._like, self.target, offset=self._offset, is_first=is_first)

    def mux(self, packets: Iterable[Encoded]) -> None:
        """Put encoded pictures in, and before each the tracks' packets that are due."""
        with self._translated_errors():
            for packet in packets:
                ticks = packet.dts if packet.dts is not None else packet.pts
                assert ticks is not None, "encoders know when their packets are to be decoded"
                self._tracks.copy_before((ticks + self._offset) * self._like.time_base)
                # The first packets of an encoder want to be decoded ahead of their time, by as much as pictures are
                # reordered; where frames are not evenly spaced, that may be before the last ones of the encoder before.
                if packet.dts is not None and self._last_dts is not None:
                    packet.dts = max(packet.dts, self._last_dts + 1)
                self._last_dts = packet.dts
                packet.stream = self._stream
                self._output.mux(packet)

    def close(self) -> None:
        """Finish the file and put it in its place. Called by leaving the `with` block without an error."""
        with self._files:
            if self._own_encoder is not None:
                self.mux(self._own_encoder.finish())
            if not self._begun:
                raise RestoreError(f"{self.target}: no frame was written; nothing is left there")
            with self._translated_errors():
                self._tracks.copy_before(None)
                self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is None:
            self.close()
        else:
            self._files.__exit__(exc_type, exc, traceback)

    def _shift_s(self, first_s: Fraction) -> Fraction:
        """How much all times move back: whole ticks of the picture's clock.

        A cut begins at 0. So does what begins before 0 and goes into MP4 or MOV, where that would be hidden. (Sound
        alone may: AAC's first packets are there to be hidden.)
        """
        if self._moves_clock:
            return first_s
        if first_s >= 0 or container_format(self.target.suffix) not in QUICKTIME_CONTAINERS:
            return Fraction(0)
        time_base = self._like.time_base
        return math.floor(min(first_s, self._tracks.start_s) / time_base) * time_base

    def _container_options(self) -> dict[str, str]:
        options = {"fflags": "+bitexact"}  # else Matroska gets random numbers, and no two runs the same bytes
        if container_format(self.target.suffix) in QUICKTIME_CONTAINERS:
            # The MOV muxer would multiply small time bases; this keeps the very ticks.
            options["video_track_timescale"] = str(self._like.time_base.denominator)
        return options

    def _copied_tracks(self, output: av.container.OutputContainer) -> CopiedTracks:
        """With the picture among them."""

        def add_picture() -> av.VideoStream:
            stream = add_picture_stream(output, self._encoding, self._like, self.target.suffix)
            if output is self._output:
                self._stream = stream
            return stream

        return CopiedTracks(
            self._source,
            output,
            self.target,
            add_picture=add_picture,
            picture_number=self._like.stream_number,
            start_s=self._start_s,
            end_s=self._end_s,
        )

    def _translated_errors(self) -> contextlib.AbstractContextManager[None]:
        return translated_errors(self.target, self._encoding, self._like, begun=self._begun)


def _close(output: av.container.OutputContainer) -> None:
    """Whatever state it is in after an error; one that is closed already stays so."""
    with contextlib.suppress(OSError, ValueError, av.FFmpegError):
        output.close()
