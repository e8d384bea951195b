"""From pictures to one file of aligned faces, read at random: needs numpy and OpenCV only (a detector if it must find).

A packed file is a plain zip in which nothing is compressed twice: a JPEG for each face, which any archive program takes
out, and `index.json` with their names and figures. Readers map it into memory and decode the crops that they need.
"""

import csv
import json
import logging
import mmap
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidrestore.errors import OptionsError, SourceError, TargetError
from vidrestore.face import TEMPLATES, eye_distance_px, template_px
from vidrestore.models.spec import FaceDetector
from vidrestore.stages.align import MAX_CROP_SIDE_IN_FRAMES
from vidrestore.stages.crop_geometry import SAMPLING_MARGIN_PX, region_of_crop, shifted_source, similarity, warp
from vidrestore.target import replaced_when_complete, writing
from vidrestore.training.degrade_steps import Image

logger = logging.getLogger("vidrestore")

LANDMARKS_TABLE = "landmarks.tsv"
"""In a folder of faces, if it has one."""
LANDMARK_COLUMNS = tuple(f"{name}_{axis}" for name in ("leye", "reye", "nose", "lmouth", "rmouth") for axis in "xy")
"""Of the table, beside `file`; in the order of `face.LANDMARKS`, px in the picture as it is shown upright."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""What is looked at in a folder without a table."""
JPEG_QUALITY = 85
"""The highest at which 10,641 faces of 160 px fit 55 MB: 52.9 MB, 41.4 dB (luma 44.4) against the crops before; 86
takes 55.1 MB. With full colour (4:4:4) the limit is 79: 41.4 dB, luma 43.1. Progressive files are 2% larger here."""
FINE_JPEG_QUALITY = 95
"""For files that need not be small: 48 dB at 256 px and 20 kB a face, a tenth of its pixels. Decoding: 0.5 ms."""
FULL_CHROMA_QUALITY = 90
"""From here on colour keeps its full resolution (4:4:4): 4:2:0 costs 1.5 dB at quality 95, for 19% of the bytes."""
MIN_CROP_PX = 16
"""Less holds no face."""
INDEX_NAME = "index.json"
FORMAT_VERSION = 1
"""In the index; goes up when old files cannot be read any longer."""
LOCAL_HEADER_BYTES = 30
"""Of a zip entry, before its name and its extra field, whose lengths are the header's last four bytes."""


# ---------------------------------------------------------------------------------------------------- one face


def align_face(picture: Image, landmarks_px: NDArray[Any], template: NDArray[np.float64], crop_px: int) -> Image | None:
    """(H, W, 3) uint8 RGB -> (crop_px, crop_px, 3): the face moved to the template, (5, 2) px.

    None where the landmarks lie outside the picture or do not span a face.

    Sampled as in `stages/align.py`, so that a network learns on what it will be given. Only beyond the picture's border
    it sees the picture mirrored and not its edge repeated: tight pictures end inside the crop, and a network that is to
    reproduce streaks learns to make streaks.
    """
    crop_from_picture = similarity(np.asarray(landmarks_px, np.float64), template)
    height_px, width_px = picture.shape[:2]
    side_px = crop_px / max(float(np.hypot(crop_from_picture[0, 0], crop_from_picture[1, 0])), 1e-6)
    if side_px > MAX_CROP_SIDE_IN_FRAMES * max(width_px, height_px):
        return None
    region = region_of_crop(crop_from_picture, crop_px, width_px, height_px, margin_px=SAMPLING_MARGIN_PX)
    if region is None:
        return None
    x0, y0, x1, y1 = region
    part = picture[y0:y1, x0:x1].astype(np.float32)
    return _warped(part, shifted_source(crop_from_picture, x0, y0), crop_px)


def _warped(image: NDArray[np.float32], out_from_image: NDArray[np.float64], crop_px: int) -> Image:
    crop = warp(image, out_from_image, crop_px, crop_px, border=cv2.BORDER_REFLECT_101)
    return np.clip(np.rint(crop), 0, 255).astype(np.uint8)


def detail(crop: Image) -> float:
    """Mean absolute Laplacian of the crop's middle at half size, relative to its brightness.

    Relative, because the same pores and lashes give smaller differences on dark skin and in dim light.
    """
    side_px = crop.shape[0]
    middle = cv2.cvtColor(crop[side_px // 4 : -side_px // 4, side_px // 4 : -side_px // 4], cv2.COLOR_RGB2GRAY)
    half = cv2.resize(middle, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(np.abs(cv2.Laplacian(half, cv2.CV_32F)).mean() / (half.mean() + 1))


# ---------------------------------------------------------------------------------------------------- folders


def faces_in(folder: Path) -> Iterator[tuple[str, Image, NDArray[np.float64]]]:
    """(name relative to the folder, picture (H, W, 3) RGB, (5, 2) px) of every face in a folder.

    By its `landmarks.tsv`; without one the detector finds the largest face of each picture, and pictures without a face
    are named in one line of the log. Raises SourceError.
    """
    table = folder / LANDMARKS_TABLE
    if not table.is_file():
        yield from _detected(folder)
        return
    for name, landmarks_px in read_landmarks(table):
        yield name, read_picture(folder / name), landmarks_px


def read_landmarks(table: Path) -> list[tuple[str, NDArray[np.float64]]]:
    """(file, (5, 2) px) of every row of a tab-separated table, its columns found by name. Raises SourceError."""
    return [(name, numbers.reshape(5, 2)) for name, numbers in read_columns(table, LANDMARK_COLUMNS)]


def read_columns(table: Path, columns: Sequence[str]) -> list[tuple[str, NDArray[np.float64]]]:
    """(file, its numbers in the columns asked for) of every row of a tab-separated table. Raises SourceError."""
    with table.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines, delimiter="\t")
        missing = [name for name in ("file", *columns) if name not in (reader.fieldnames or ())]
        if missing:
            raise SourceError(
                f"{table}: has no column {', '.join(missing)}; name them in its first line, tab-separated"
            )
        rows = []
        for row in reader:
            try:
                numbers = np.array([float(row[name]) for name in columns])
            except (TypeError, ValueError):
                numbers = np.array([np.nan])
            if not np.isfinite(numbers).all():
                raise SourceError(f"{table}: line {reader.line_num} holds no {len(columns)} numbers; mend it")
            rows.append((row["file"], numbers))
    return rows


def picture_names(folder: Path) -> list[str]:
    """All pictures in a folder and its subfolders, sorted, relative to it, with forward slashes."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )


def read_picture(path: Path) -> Image:
    """(H, W, 3) uint8 RGB, turned upright as its EXIF data say. Raises SourceError."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if picture is None:
        raise SourceError(f"{path}: cannot be read as a picture; mend it or take it out of the faces")
    rgb: Image = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return rgb


def found_landmarks_px(picture: Image, detector: FaceDetector) -> NDArray[np.float64] | None:
    """(5, 2) px of the largest face in a picture (H, W, 3) RGB; None where there is none."""
    from vidrestore.images import frame_from_rgb  # late, as below
    from vidrestore.stages.detect import detect_faces

    (found,) = detect_faces([frame_from_rgb(picture)], detector, batch_frames=1)
    if not found.faces:
        return None
    largest = max(found.faces, key=lambda face: float(np.prod(face.box_xyxy_px[2:] - face.box_xyxy_px[:2])))
    return largest.landmarks_px.astype(np.float64)


def _detected(folder: Path) -> Iterator[tuple[str, Image, NDArray[np.float64]]]:
    """The largest face of each picture that has one."""
    names = picture_names(folder)
    if not names:
        raise SourceError(f"{folder}: holds no pictures ({', '.join(PICTURE_SUFFIXES)}); name a folder of faces")
    try:  # here, because training on a packed file needs none of this
        from vidrestore.models.backends.pytorch import load_detector
        from vidrestore.models.catalog import EMBEDDED_DETECTOR

        detector = load_detector(EMBEDDED_DETECTOR)
    except ImportError as exc:
        raise SourceError(
            f"{folder}: has no {LANDMARKS_TABLE}, and finding faces needs {exc.name}; install it, or pack the faces "
            "on a machine that has it"
        ) from exc
    logger.info("%s: has no %s; looking for faces in %d pictures", folder, LANDMARKS_TABLE, len(names))
    faceless = []
    for name in names:
        picture = read_picture(folder / name)
        landmarks_px = found_landmarks_px(picture, detector)
        if landmarks_px is None:
            faceless.append(name)
        else:
            yield name, picture, landmarks_px
    if faceless:
        logger.warning(
            "%s: no face found in %d of %d pictures: %s", folder, len(faceless), len(names), ", ".join(faceless)
        )


# ---------------------------------------------------------------------------------------------------- packing


def pack(
    source: Path, output: Path, template: str = "tight", crop_px: int = 160, quality: int = JPEG_QUALITY
) -> "PackedFaces":
    """Align every face of the folder `source` to a template of `face.TEMPLATES` and write them all into `output`.

    The file appears when it is complete; an older one of its name is replaced. `quality` is JPEG's, 1 to 100.
    Raises SourceError, TargetError, OptionsError.
    """
    if template not in TEMPLATES:
        raise OptionsError(f"template {template!r} is unknown; there are {', '.join(TEMPLATES)}")
    if crop_px < MIN_CROP_PX:
        raise OptionsError(f"size is {crop_px} px; it must be {MIN_CROP_PX} or more")
    if not 1 <= quality <= 100:
        raise OptionsError(f"quality is {quality}; it must be between 1 and 100")
    if not source.is_dir():
        raise SourceError(f"{source}: is no folder; name a folder of faces")
    if not output.parent.is_dir():
        raise TargetError(f"{output}: the folder {output.parent} does not exist; make it first")
    points = template_px(template, crop_px)
    logger.info("aligning the faces of %s into %s", source, output)
    names: list[str] = []
    eyes_px: list[float] = []
    sharpness: list[float] = []
    with (
        replaced_when_complete(output) as partial,
        writing(output),
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, picture, landmarks_px in faces_in(source):
            crop = align_face(picture, landmarks_px, points, crop_px)
            if crop is None:
                raise SourceError(f"{source / name}: its landmarks span no face in the picture; mend them")
            # A fixed date, so that the same faces give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{len(names):06d}.jpg"), _jpeg(crop, quality))
            names.append(name)
            eyes_px.append(round(eye_distance_px(landmarks_px), 2))
            sharpness.append(round(detail(crop), 6))
        if not names:
            raise SourceError(f"{source}: holds no face; name a folder of faces")
        index = {
            "version": FORMAT_VERSION,
            "template": template,
            "crop_px": crop_px,
            "names": names,
            "eye_distance_px": eyes_px,
            "sharpness": sharpness,
        }
        entry = zipfile.ZipInfo(INDEX_NAME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, json.dumps(index))
    size_mb = output.stat().st_size / 1e6
    logger.info("%s: %d faces of %d px, template %s, %.1f MB", output, len(names), crop_px, template, size_mb)
    return PackedFaces(output)


def _jpeg(crop: Image, quality: int) -> bytes:
    full_chroma = quality >= FULL_CHROMA_QUALITY
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full_chroma else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling),
        *(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    ]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a crop of {crop.shape}")
    return bytes(data)


# ---------------------------------------------------------------------------------------------------- reading


class PackedFaces:
    """A packed file, mapped into memory. Processes that read it share its pages, and may be given it by pickle."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError when the file is missing, damaged or something else."""
        self.path = path
        try:
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                index = json.loads(archive.read(INDEX_NAME))
                entries = [entry for entry in archive.infolist() if entry.filename != INDEX_NAME]
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.template: str = index["template"]
            """Key of `face.TEMPLATES`."""
            self.crop_px: int = index["crop_px"]
            self.names: tuple[str, ...] = tuple(index["names"])
            """Of the pictures, relative to the folder that was packed."""
            self.eye_distance_px = np.array(index["eye_distance_px"], np.float64)
            """(N,) in the picture, not in the crop: how much a face had to be enlarged."""
            self.sharpness = np.array(index["sharpness"], np.float64)
            """(N,) `detail` of each crop before it was compressed."""
            version = index["version"]
        except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as exc:
            reason = "there is no such file" if isinstance(exc, FileNotFoundError) else "is no file of packed faces"
            raise SourceError(f"{path}: {reason}; make one with `vidrestore train pack`") from exc
        counts = {len(entries), len(self.names), len(self.eye_distance_px), len(self.sharpness)}
        is_stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if version != FORMAT_VERSION or len(counts) != 1 or not is_stored:
            raise SourceError(f"{path}: was packed by another version or changed since; pack the faces again")
        self._places = [(self._start(entry.header_offset), entry.file_size) for entry in entries]

    def _start(self, header: int) -> int:
        """Of an entry's data, from where its header lies."""
        name_bytes, extra_bytes = (
            int.from_bytes(self._bytes[header + at : header + at + 2], "little") for at in (26, 28)
        )
        return header + LOCAL_HEADER_BYTES + name_bytes + extra_bytes

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> tuple[type["PackedFaces"], tuple[Path]]:
        return PackedFaces, (self.path,)

    def crop(self, number: int, crop_px: int) -> Image:
        """(crop_px, crop_px, 3) uint8 RGB of a face, its landmarks on the template whatever the size.

        Sizes other than the file's are resampled as inference does. Raises SourceError for a damaged crop.
        """
        start, size_bytes = self._places[number]
        decoded = cv2.imdecode(np.frombuffer(self._bytes, np.uint8, size_bytes, start), cv2.IMREAD_COLOR)
        if decoded is None or decoded.shape != (self.crop_px, self.crop_px, 3):
            raise SourceError(f"{self.path}: face {number} ({self.names[number]}) is damaged; pack the faces again")
        crop: Image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        if crop_px == self.crop_px:
            return crop
        scale = crop_px / self.crop_px  # about the centre of the first pixel, as template_px scales
        return _warped(crop.astype(np.float32), np.array([[scale, 0, 0], [0, scale, 0]]), crop_px)
