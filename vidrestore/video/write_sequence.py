"""Frames in, an image sequence out: a folder of PNG, TIFF or DPX files that appears when it is complete."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from vidrestore.errors import RestoreError, TargetError
from vidrestore.frame import Frame, VideoInfo
from vidrestore.target import flush_to_disk, writing
from vidrestore.video.encode_image import ImageEncoder, image_format
from vidrestore.video.image_notes import has_notes, image_tags, notes_lost, with_notes
from vidrestore.video.image_tiff import TIFF_ACROSS, resolution_options
from vidrestore.video.picture import Encoded
from vidrestore.video.sequence import find_sequence, is_sequence
from vidrestore.video.sequence_target import check_only_ours, is_file_managers
from vidrestore.video.source import open_source


class SequenceWriter:
    """Writes images: `with SequenceWriter(...) as writer:`, then `mux` the packets of its `encoder`s, in order.

    `target` is a pattern; the numbers are the source's for a sequence, else counted from 1. The images are written into
    a hidden folder in `work`, and that is renamed when `with` ends without an error and `check`, which is given their
    pattern there, does not raise either; after an error nothing is left.
    Images of the same names in an existing folder are replaced, anything else there is refused, but for the notes of
    file managers, which stay.

    A PNG or DPX sequence keeps what its files say beside the samples (time code, key code, colour, text), a TIFF
    sequence its resolution. `warnings` lists what could not be kept. Raises TargetError as `VideoWriter` does.
    """

    def __init__(
        self,
        target: Path,
        *,
        like: VideoInfo,
        source: Path,
        exactly: bool,
        work: Path,
        check: Callable[[Path], None] | None = None,
    ) -> None:
        self.target, self._check = target, check
        self._like, self._source = like, source
        self._sequence = find_sequence(source) if is_sequence(source) else None
        try:
            self._fitted = image_format(like, target.suffix, exactly=exactly)
        except TargetError as exc:
            raise TargetError(f"{target}: {exc}") from exc
        self._same_kind = self._sequence is not None and self._sequence.codec == self._fitted.codec
        self._options: dict[str, str] = {}
        self._warnings = list(self._lost())
        self._num_written = 0
        self._last_pts: int | None = None
        self._steps: set[int] = set()
        self._hidden = work / f".vidrestore-{uuid.uuid4().hex[:12]}"

    @property
    def warnings(self) -> list[str]:
        """What could not be kept, one line each; complete after `close`."""
        varying = max(self._steps, default=0) - min(self._steps, default=0) > 1
        uneven = [f"{self._place}: images have no clock, and the source's frames do not follow evenly"] * varying
        return self._warnings + uneven

    def rehearse(self, first_s: object) -> None:
        """There is nothing to copy beside the picture."""

    def begin(self, first: Frame) -> None:
        """Images have no clock to begin."""

    def encoder(self) -> ImageEncoder:
        """For some of the frames, in order; its packets go to `mux`."""
        return ImageEncoder(self._fitted, self._like, self.target, self._options)

    def mux(self, packets: Iterable[Encoded]) -> None:
        """Write each packet as a file."""
        with writing(self.target):
            self._hidden.mkdir(exist_ok=True)
        for packet in packets:
            assert packet.pts is not None, "the encoder has kept the frame's time"
            self._num_written += 1
            number = self._num_written if self._sequence is None else self._sequence.first_number + packet.pts
            content = bytes(packet)
            if self._same_kind:
                assert self._sequence is not None
                content = with_notes(self._fitted.codec, content, self._sequence.file(packet.pts))
            if self._last_pts is not None:
                self._steps.add(packet.pts - self._last_pts)
            self._last_pts = packet.pts
            with writing(self.target):
                file = self._hidden / (self.target.name % number)
                file.write_bytes(content)
                flush_to_disk(file)

    def close(self) -> None:
        """Put the folder in its place. Called by leaving the `with` block without an error."""
        folder = self._place
        if not self._num_written:
            raise RestoreError(f"{folder}: no frame was written; nothing is left there")
        if self._check is not None:
            self._check(self._hidden / self.target.name)
        replaced = self._hidden.with_name(f"{self._hidden.name}-replaced")
        with writing(folder):
            if folder.exists():
                self._take_over(sorted(folder.iterdir()))
            flush_to_disk(self._hidden)
            if folder.exists():
                if os.listdir(folder):
                    os.rename(folder, replaced)
                else:
                    folder.rmdir()
            try:
                os.rename(self._hidden, folder)
            except OSError:
                if replaced.exists():
                    os.rename(replaced, folder)
                raise
            flush_to_disk(folder.parent)
        shutil.rmtree(replaced, ignore_errors=True)

    def _take_over(self, old: list[Path]) -> None:
        """What file managers have noted in the old folder stays. Raises TargetError for what else is lost with it."""
        new = set(os.listdir(self._hidden))
        others = [file for file in old if file.name not in new]
        check_only_ours(self._place, [file.name for file in others if not is_file_managers(file)])
        for file in others:
            with contextlib.suppress(OSError):  # no reason to fail
                shutil.copy2(file, self._hidden)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc_type is None:
                self.close()
        finally:
            shutil.rmtree(self._hidden, ignore_errors=True)

    @property
    def _place(self) -> Path:
        return self.target.parent

    def _lost(self) -> Iterator[str]:
        """What images cannot say, in words."""
        like, place = self._like, self._place
        if self._sequence is None:
            with open_source(self._source) as container:
                kinds = sorted({stream.type for stream in container.streams if stream.index != like.stream_number})
            if kinds:
                yield f"{place}: the source's other tracks ({', '.join(map(str, kinds))}) are not in the images"
        if like.display_matrix is not None and not (self._same_kind and self._fitted.codec == "png"):
            yield f"{place}: the images are stored as the source's pictures are, and nothing says how to turn them"
        if like.light is not None:
            yield f"{place}: the HDR metadata (mastering display, light levels) are not in the images"
        if like.fields:
            yield f"{place}: the pictures are interlaced, and images cannot say so"
        if like.layout.family != "yuv" and not like.layout.full_range and not self._same_kind:
            yield f"{place}: the samples are of limited range, and images cannot say so"
        if self._sequence is not None:
            if self._same_kind and self._fitted.codec == "tiff":
                tags = image_tags(self._sequence.file(0))
                self._options |= resolution_options(tags)
                if TIFF_ACROSS in tags and not self._options:
                    yield f"{place}: the resolution of the TIFF files is no whole number of dots to an inch; it is lost"
            if (not self._same_kind or self._fitted.codec == "tiff") and has_notes(self._sequence):
                yield notes_lost(self._sequence, place)
