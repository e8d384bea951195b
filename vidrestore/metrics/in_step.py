"""What is compared: the frames of several videos in step, with the faces of the source in them."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from vidrestore.errors import SourceError
from vidrestore.faces_file.entries import ListedFace
from vidrestore.faces_file.read import ListedFaces, read_faces_file
from vidrestore.frame import Frame
from vidrestore.models.spec import FaceDetector
from vidrestore.options import Options
from vidrestore.stages.cuts import CutsAhead
from vidrestore.stages.look import look_for_faces
from vidrestore.stages.track import FaceTracker, track_faces
from vidrestore.video.read import VideoReader

SOURCE, RESTORED, REFERENCE = "source", "restored", "reference"
"""Names of the videos, here, in the page and in its JSON."""

FACES_CLOCK_S = 1e-3
"""A faces file's times are rounded to a thousandth of this, and come from the source's own clock."""
Frames = Mapping[str, Frame]
"""One frame of each video, by name."""


class VideosInStep:
    """The source, its restoration and, where there is one, the clean reference, one frame of each at a time.

    `start_s` and `end_s` are those that the run was given: they cut the source and the reference. Raises SourceError
    when the pictures are not of one size, and on the way when one video ends before another or their clocks part.
    """

    def __init__(self, paths: Mapping[str, Path], *, start_s: float | None, end_s: float | None) -> None:
        self._stack = ExitStack()
        self._readers: dict[str, VideoReader] = {}
        try:
            for name, path in paths.items():
                span = (None, None) if name == RESTORED else (start_s, end_s)
                reader = VideoReader(path, start_s=span[0], end_s=span[1])
                self._readers[name] = self._stack.enter_context(reader)
            self._check_sizes()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "VideosInStep":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def num_frames_expected(self) -> int | None:
        return self._readers[SOURCE].num_frames_expected

    def with_faces(
        self, faces: Path | None, detector: FaceDetector
    ) -> Iterator[tuple[float, Frames, tuple[ListedFace, ...]]]:
        """(time from the first frame in s, the frames, the source's faces), in order.

        The faces are those that the faces file lists; without one they are found in the source and followed, with the
        defaults of `restore`. Raises SourceError when the file is of another video.
        """
        source = self._readers[SOURCE]
        placed = listed_faces(source, read_faces_file(faces), faces) if faces else found_faces(source, detector)
        others = {name: reader.frames() for name, reader in self._readers.items() if name != SOURCE}
        first: dict[str, Fraction] = {}
        num_frames = 0
        for number, (frame, shown) in enumerate(placed):
            num_frames = number + 1
            frames = {SOURCE: frame}
            for name, iterator in others.items():
                other = next(iterator, None)
                if other is None:
                    raise self._uneven(name, number, SOURCE)
                frames[name] = other
            for name, each in frames.items():
                time_s = each.pts * each.time_base
                first.setdefault(name, time_s)
                apart_s = abs((time_s - first[name]) - (frame.pts * frame.time_base - first[SOURCE]))
                # Each clock rounds its first time stamp and this one by up to half a tick.
                if apart_s > each.time_base + frame.time_base:
                    raise SourceError(
                        f"{self._readers[name].path}: frame {number} comes {float(apart_s):.3f} s away from where "
                        f"{source.path} has it; give the {name} video of that very source"
                    )
            yield float(frame.pts * frame.time_base - first[SOURCE]), frames, shown
        for name, iterator in others.items():
            if next(iterator, None) is not None:
                raise self._uneven(SOURCE, num_frames, name)

    def _check_sizes(self) -> None:
        wanted = self._readers[SOURCE]
        for name, reader in self._readers.items():
            if _size(reader) != _size(wanted):
                raise SourceError(
                    f"{reader.path}: its pictures are {_size(reader)}, those of {wanted.path} {_size(wanted)}; "
                    f"give the {name} video of that very source"
                )

    def _uneven(self, short: str, num_frames: int, long: str) -> SourceError:
        return SourceError(
            f"{self._readers[short].path}: ends after {num_frames} frames, where {self._readers[long].path} goes on; "
            "give videos of the same frames, with the --start and --end that the restoration was made with"
        )


def listed_faces(
    reader: VideoReader, listed: ListedFaces, path: Path
) -> Iterator[tuple[Frame, tuple[ListedFace, ...]]]:
    """The source's frames with the faces that a faces file lists. Raises SourceError when it is of another video."""
    remedy = "give the faces file of that very run, with its --start and --end"
    size = f"{listed.width_px}x{listed.height_px}"
    if size != _size(reader):
        raise SourceError(f"{path}: its pictures are {size}, those of {reader.path} {_size(reader)}; {remedy}")
    entries = listed.frames()
    num_frames, first_s, listed_first_s = 0, 0.0, 0.0
    for num_frames, frame in enumerate(reader.frames(), start=1):
        entry = next(entries, None)
        if entry is None:
            raise SourceError(f"{path}: lists {listed.num_frames} frames, {reader.path} has more; {remedy}")
        if num_frames == 1:
            first_s, listed_first_s = frame.time_s, entry.time_s
        if abs((entry.time_s - listed_first_s) - (frame.time_s - first_s)) > FACES_CLOCK_S:
            raise SourceError(f"{path}: its frame {num_frames - 1} is not when {reader.path} has it; {remedy}")
        # A square for each face: of an interlaced frame, that of its first moment.
        yield frame, tuple(face for face in entry.faces if face.moment < 2)
    if num_frames < listed.num_frames:
        raise SourceError(f"{path}: lists {listed.num_frames} frames, {reader.path} has {num_frames}; {remedy}")


def found_faces(reader: VideoReader, detector: FaceDetector) -> Iterator[tuple[Frame, tuple[ListedFace, ...]]]:
    """The source's frames with the faces that are found in them, as `restore` finds and follows them by default."""
    cuts = CutsAhead()
    every, rotation_deg = Options().detect_every, reader.info.rotation_deg
    looks = look_for_faces(reader.frames(), detector, cuts, every=every, rotation_deg=rotation_deg)
    for found in track_faces(looks, FaceTracker(is_cut=cuts.was_cut)):
        yield (
            found.frame,
            tuple(
                ListedFace(face.track_id, face.landmarks_px.astype(np.float64), True, face.strength)
                for face in found.faces
            ),
        )


def _size(reader: VideoReader) -> str:
    return f"{reader.info.width_px}x{reader.info.height_px}"
