"""A detector whose answers are kept in a file, so that a run that goes on need not ask again."""

import contextlib
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from vidrestore.face import Detection
from vidrestore.models.spec import FaceDetector
from vidrestore.sealed import sealed, unsealed
from vidrestore.target import writing


class RememberedDetector:
    """A `FaceDetector`: `with RememberedDetector(detector, path) as remembered:`.

    As long as it is shown the very pictures that the file tells of, in their order, it answers from there; from the
    first other one on it asks `detector`. One sealed line of JSON for each question: checksums of its pictures, and the
    faces of each. Each is handed to the system at once, so a kill loses none; after a power cut the last ones may be
    missing. From the first line on that is damaged it asks `detector`, too.
    """

    def __init__(self, detector: FaceDetector, path: Path) -> None:
        self.spec, self.sha256, self.batch_images = detector.spec, detector.sha256, detector.batch_images
        self._detector = detector
        self._path = path
        self._file: BinaryIO | None = None
        self._is_known = True

    def __enter__(self) -> Self:
        with writing(self._path):
            self._path.touch()
            self._file = self._path.open("rb+")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what does not fit has been told, and is not missed
                self._file.close()

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        """(B, H, W, 3) uint8 RGB, B >= 1 -> for each image its faces, best score first, in that image's pixels."""
        checksums = [zlib.crc32(np.ascontiguousarray(image).data) for image in images]
        known = self._next_known(checksums)
        if known is not None:
            return known
        found = self._detector.detect(images)
        line = sealed({"crc32": checksums, "faces": [[_entry(face) for face in faces] for faces in found]})
        assert self._file is not None, "used outside its with block"
        with writing(self._path):
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        return found

    def _next_known(self, checksums: list[int]) -> list[tuple[Detection, ...]] | None:
        """The answer on file; None from the first question on that is not the one on file."""
        if not self._is_known:
            return None
        assert self._file is not None, "used outside its with block"
        with writing(self._path):
            begin = self._file.tell()
            line = self._file.readline()
            try:
                known = unsealed(line)
                if known["crc32"] == checksums and len(known["faces"]) == len(checksums):
                    return [tuple(_detection(face) for face in faces) for faces in known["faces"]]
            except (ValueError, KeyError, TypeError):
                pass  # the end, or damaged
            self._is_known = False
            self._file.seek(begin)
            self._file.truncate()
        return None


def _entry(face: Detection) -> dict[str, Any]:
    return {
        "box_xyxy_px": face.box_xyxy_px.tolist(),
        "score": face.score,
        "landmarks_px": face.landmarks_px.tolist(),
    }


def _detection(entry: dict[str, Any]) -> Detection:
    return Detection(
        box_xyxy_px=np.array(entry["box_xyxy_px"], np.float32),
        score=float(entry["score"]),
        landmarks_px=np.array(entry["landmarks_px"], np.float32),
    )
