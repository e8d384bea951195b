"""A film that is a folder of numbered images stays one: same names, same samples, nothing missing."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from tests.clips import CLIPS, picture_rgb
from tests.copies import read
from tests.fakes import FixedDetector, face_at
from tests.killed import MirrorRestorer
from vidrestore import work
from vidrestore.cli import main, target_for
from vidrestore.errors import InputError, OptionsError, RestoreError, SourceError, TargetError
from vidrestore.face import Detection
from vidrestore.frame import RestoredFrame
from vidrestore.loading import Models
from vidrestore.options import Options
from vidrestore.pipeline import analyze_video, restore_video
from vidrestore.report import Report
from vidrestore.video.read import VideoReader
from vidrestore.video.sample import sample_frames
from vidrestore.video.sequence import SequenceReader, exact_rate, is_sequence

REPOSITORY = Path(__file__).parents[1]
WIDTH_PX, HEIGHT_PX = 131, 97
"""Odd, so that rows of DPX files have padding."""
UNTOUCHED = (slice(None), slice(100, None))
"""Rows and columns that no crop of this face reaches."""
SEGMENT_FRAMES = 5
Samples = NDArray[np.integer]


class LeftDetector(FixedDetector):
    """One face on the left of each picture, whatever the size in which it is shown."""

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        width_px = images.shape[2]
        self.faces = (face_at(0.3 * width_px, 0.37 * width_px, 0.3 * width_px),)
        return super().detect(images)


def models() -> Models:
    return Models(LeftDetector(), MirrorRestorer())


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SEGMENT_FRAMES", SEGMENT_FRAMES)


def restore(source: Path, target: Path | str, **options: object) -> Report:
    return restore_video(source, target, Options(device="cpu", **options), models=models())  # type: ignore[arg-type]


def picture(index: int, bits: int, channels: int) -> Samples:
    """(H, W) or (H, W, channels): still waves, with noise where there is no face, so that no rounding goes unseen."""
    noise = np.random.default_rng(index).integers(0, 1 << (bits - 6), (HEIGHT_PX, WIDTH_PX, channels))
    noise[:, : UNTOUCHED[1].start] = 0
    waves = picture_rgb(0, WIDTH_PX, HEIGHT_PX)[..., [2, 1, 0, 2][:channels]].astype(np.int64)
    samples = (waves << (bits - 8)) // 4 * 3 + noise
    return samples[..., 0] if channels == 1 else samples


def write_cv2(path: Path, samples: Samples, bits: int) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    order = slice(None) if samples.ndim == 2 else [2, 1, 0, 3][: samples.shape[2]]
    assert cv2.imwrite(str(path), samples.astype(dtype)[..., order] if samples.ndim == 3 else samples.astype(dtype))


def read_cv2(path: Path) -> Samples:
    samples = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def write_dpx(path: Path, samples: Samples, bits: int, *, order: str = ">", rate_hz: float = 18.0) -> None:
    """SMPTE ST 268 with all its headers; 10 bits "filled to 32", 8 and 16 bits as they are."""
    assert bits in (8, 10, 16)
    header = bytearray(b"\xff" * 2100)
    header[:4] = b"SDPX" if order == ">" else b"XPDS"
    header[36:136] = b"reel 7".ljust(100, b"\0")
    if bits == 10:
        red, green, blue = (samples[..., channel].astype(np.uint32) for channel in range(3))
        data = (red << 22 | green << 12 | blue << 2).astype(f"{order}u4").tobytes()
    else:
        rows = samples.reshape(HEIGHT_PX, -1).astype(np.uint8 if bits == 8 else f"{order}u2")
        data = b"".join(row.tobytes() + b"\0" * (-row.nbytes % 4) for row in rows)
    struct.pack_into(f"{order}I8sII", header, 4, 2100, b"V1.0", 2100 + len(data), 1)
    struct.pack_into(f"{order}III", header, 24, 1664, 384, 52)
    struct.pack_into(f"{order}I", header, 660, 0xFFFFFFFF)
    struct.pack_into(f"{order}HHII", header, 768, 0, 1, WIDTH_PX, HEIGHT_PX)
    struct.pack_into(f"{order}IIfIf", header, 780, 0, 95, 0.0, 685, 2.0)
    descriptor = 50 if samples.ndim == 3 else 6
    struct.pack_into(f"{order}BBBBHHIII", header, 800, descriptor, 1, 1, bits, int(bits == 10), 0, 2100, 0, 0)
    header[1664:1680] = b"KK1234567890KEYC"
    struct.pack_into(f"{order}f", header, 1724, rate_hz)
    struct.pack_into(f"{order}I", header, 1920, 0x01020304)
    header[2048:2100] = b"user data".ljust(52, b".")
    path.write_bytes(header + data)


def read_dpx(path: Path, bits: int) -> Samples:
    content = path.read_bytes()
    order = ">" if content[:4] == b"SDPX" else "<"
    (offset,) = struct.unpack_from(f"{order}I", content, 4)
    assert struct.unpack_from(f"{order}I", content, 16)[0] == len(content)
    if bits == 10:
        words = np.frombuffer(content, f"{order}u4", WIDTH_PX * HEIGHT_PX, offset).reshape(HEIGHT_PX, WIDTH_PX)
        return np.stack([words >> 22, words >> 12 & 1023, words >> 2 & 1023], axis=-1)
    row_bytes = -(-WIDTH_PX * 3 * bits // 8 // 4) * 4
    rows = np.frombuffer(content, np.uint8, row_bytes * HEIGHT_PX, offset).reshape(HEIGHT_PX, row_bytes)
    rows = np.ascontiguousarray(rows[:, : WIDTH_PX * 3 * bits // 8])
    return rows.view("u1" if bits == 8 else f"{order}u2").reshape(HEIGHT_PX, WIDTH_PX, 3)


KINDS: dict[str, tuple[str, int, int]] = {
    "png, 8 bits": (".png", 8, 3),
    "png, 8 bits gray": (".png", 8, 1),
    "png, 8 bits alpha": (".png", 8, 4),
    "png, 16 bits": (".png", 16, 3),
    "png, 16 bits gray": (".png", 16, 1),
    "png, 16 bits alpha": (".png", 16, 4),
    "tiff, 8 bits": (".tif", 8, 3),
    "tiff, 16 bits": (".tiff", 16, 3),
    "tiff, 16 bits gray": (".tif", 16, 1),
    "dpx, 8 bits": (".dpx", 8, 3),
    "dpx, 10 bits": (".dpx", 10, 3),
    "dpx, 16 bits": (".dpx", 16, 3),
}


def make_images(
    folder: Path, kind: str = "png, 16 bits", count: int = 12, *, first: int = 101, name: str = "frame_%06d"
) -> Path:
    suffix, bits, channels = KINDS[kind]
    folder.mkdir(exist_ok=True)
    for index in range(count):
        path = folder / (name % (first + index) + suffix)
        if suffix == ".dpx":
            write_dpx(path, picture(index, bits, channels), bits)
        else:
            write_cv2(path, picture(index, bits, channels), bits)
    return folder


def look(path: Path, kind: str) -> Samples:
    suffix, bits, _ = KINDS[kind]
    return read_dpx(path, bits) if suffix == ".dpx" else read_cv2(path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_images_keep_names_depth_and_every_sample_outside_faces(tmp_path: Path, kind: str) -> None:
    source, target = make_images(tmp_path / "scans", kind), tmp_path / "restored"
    before = contents(source)
    report = restore(source, f"{target}/")
    assert (report.num_frames, report.num_faces_restored) == (12, 12)
    assert not [line for line in report.warnings if "tiff" not in kind]
    assert names(target) == names(source)
    assert contents(source) == before
    for index, name in enumerate(names(target)):
        was, now = look(source / name, kind), look(target / name, kind)
        assert np.array_equal(was, picture(index, *KINDS[kind][1:]))
        assert now.dtype == was.dtype
        assert np.array_equal(now[UNTOUCHED], was[UNTOUCHED])
        assert not np.array_equal(now, was)
        if now.ndim == 3 and now.shape[2] == 4:
            assert np.array_equal(now[..., 3], was[..., 3])
    assert names(tmp_path) == ["restored", "scans"]


def test_a_run_killed_in_the_middle_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", "dpx, 10 bits", 17)
    restore(source, f"{tmp_path}/whole/")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests import test_sequence as t\n"
        "from vidrestore import work\n"
        "work.SEGMENT_FRAMES = t.SEGMENT_FRAMES\n"
        "def kill(done, report):\n"
        "    if report.num_frames == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.restore_video(sys.argv[1], sys.argv[2], t.Options(device='cpu'), models=t.models(), on_frame=kill)\n"
    )
    command = [sys.executable, "-c", script, str(source), f"{tmp_path}/parts/"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert names(tmp_path) == ["parts.work", "scans", "whole"]
    report = restore(source, f"{tmp_path}/parts/")
    assert (report.num_frames, report.num_frames_resumed) == (17, 10)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert names(tmp_path) == ["parts", "scans", "whole"]


def test_an_error_leaves_no_images(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans")

    def stop(_done: RestoredFrame, report: Report) -> None:
        if report.num_frames == 3:
            raise RestoreError("stopped")

    with pytest.raises(RestoreError, match="stopped"):
        restore_video(source, f"{tmp_path}/out/", Options(device="cpu"), models=models(), on_frame=stop)
    assert names(tmp_path) == ["scans"]


def test_images_become_a_video_without_a_sample_changed(tmp_path: Path) -> None:
    source, target = make_images(tmp_path / "scans", "dpx, 10 bits"), tmp_path / "out.mkv"
    restore(source / "frame_%06d.dpx", target, lossless=True)
    frames = read(target)
    assert len(frames) == 12
    for index, frame in enumerate(frames):
        assert frame.layout.name == "gbrp10le"
        assert frame.time_s == pytest.approx(index / 18, abs=0.0006)  # the header says 18 frames/s
        green, _, red = frame.planes
        was = picture(index, 10, 3)
        assert np.array_equal(red[UNTOUCHED], was[..., 0][UNTOUCHED])
        assert np.array_equal(green[UNTOUCHED], was[..., 1][UNTOUCHED])


def test_start_and_end_count_on_the_clock_of_the_rate(tmp_path: Path) -> None:
    source, target = make_images(tmp_path / "scans", count=24), tmp_path / "out"
    report = restore(source, f"{target}/", rate=12, start=0.5, end=1.25)
    assert report.num_frames == 9
    assert names(target) == [f"frame_{number:06}.png" for number in range(107, 116)]
    with pytest.raises(OptionsError, match=r"24 images at 24 frames/s last 1\.000 s"):
        restore(source, f"{tmp_path}/other/", start=2.0)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(23.976, Fraction(24000, 1001)), (29.97, Fraction(30000, 1001)), (24, 24), (16.5, Fraction(33, 2))],
)
def test_rates_are_taken_for_what_they_mean(given: float, meant: Fraction) -> None:
    assert exact_rate(given) == meant


def test_a_video_becomes_images_counted_from_1(tmp_path: Path) -> None:
    source = CLIPS["rgb_12_bit"].make(tmp_path)
    (tmp_path / "out").mkdir()
    restore(source, tmp_path / "out")
    assert names(tmp_path / "out") == [f"{number:06}.png" for number in range(1, 13)]
    for number, frame in enumerate(read(source), start=1):
        kept = read_cv2(tmp_path / "out" / f"{number:06}.png")
        assert kept.dtype == np.uint16
        # 12 bits as 16, white to white: the very same levels.
        assert np.array_equal(np.rint(kept[:4, :, 1] * (4095 / 65535)), frame.planes[0][:4])
    restore(source, tmp_path / "dpx" / "a_%03d.dpx")
    with av.open(str(tmp_path / "dpx" / "a_012.dpx")) as image:
        assert next(image.decode(video=0)).format.name == "gbrp12le"


def test_yuv_becomes_rgb_to_the_nearest_level(tmp_path: Path) -> None:
    """4:4:4 in BT.601, limited range, against the equations of ITU-T H.273."""
    source = CLIPS["yuv444"].make(tmp_path)
    report = restore(source, f"{tmp_path}/out/", strength=0.0)
    assert report.warnings == []
    for number, frame in enumerate(read(source), start=1):
        luma, blue, red = (plane.astype(float) for plane in frame.planes)
        luma, blue, red = (luma - 16) * 255 / 219, (blue - 128) * 255 / 224, (red - 128) * 255 / 224
        wanted = np.stack(
            [luma + 1.402 * red, luma - 0.714136 * red - 0.344136 * blue, luma + 1.772 * blue], axis=-1
        ).clip(0, 255)
        assert np.abs(read_cv2(tmp_path / "out" / f"{number:06}.png") - wanted).max() < 0.502
    with pytest.raises(TargetError, match="cannot hold yuv444p without loss"):
        restore(source, f"{tmp_path}/exact/", lossless=True)


def test_deeper_yuv_becomes_16_bits_and_lost_sound_is_told(tmp_path: Path) -> None:
    restore(CLIPS["hevc_10_bit"].make(tmp_path), f"{tmp_path}/deep/")
    assert read_cv2(tmp_path / "deep" / "000001.png").dtype == np.uint16
    report = restore(CLIPS["variable_rate"].make(tmp_path), f"{tmp_path}/out/")
    assert [line.split(": ")[1] for line in report.warnings] == [
        "the source's other tracks (audio) are not in the images",
        "images have no clock, and the source's frames do not follow evenly",
    ]


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write_other(name: str, samples: Samples, bits: int) -> Callable[[Path], None]:
    return lambda folder: write_cv2(folder / name, samples, bits)


def cut(name: str, num_bytes: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:num_bytes] if num_bytes >= 0 else content[:num_bytes])

    return change


def flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 255
        (folder / name).write_bytes(content)

    return change


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def rename_all(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for index, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / (text.format(index="abcdefghijklm"[index]) + path.suffix))

    return change


SMALL = picture(0, 16, 3)[:50, :50]
WRONG = {
    "a gap": (
        "png, 16 bits",
        remove("frame_000105.png"),
        "frame_000105.png of frame_000101.png to frame_000112.png is",
    ),
    "another kind": ("png, 16 bits", write_other("frame_000113.tif", SMALL, 16), "several kinds (png and tiff)"),
    "another name": ("png, 16 bits", write_other("other_000113.png", SMALL, 16), "of several names"),
    "other digits": ("png, 16 bits", write_other("frame_0113.png", SMALL, 16), "is numbered unlike"),
    "another size": ("png, 16 bits", write_other("frame_000113.png", SMALL, 16), "frame_000113.png: is 50x50 px"),
    "another depth": (
        "png, 16 bits",
        write_other("frame_000106.png", picture(0, 8, 3), 8),
        "frame_000106.png: is 131x97",
    ),
    "no numbers": ("png, 16 bits", rename_all("take {index}"), "has no number"),
    "nothing": ("png, 16 bits", empty, "without PNG, TIFF or DPX images"),
    "an empty png": ("png, 16 bits", cut("frame_000107.png", 0), "frame_000107.png: is empty"),
    "half a png": ("png, 16 bits", cut("frame_000107.png", 9000), "frame_000107.png: is no whole PNG"),
    "a damaged png": ("png, 16 bits", flip("frame_000107.png"), "frame_000107.png: is no whole PNG"),
    "half a tiff": ("tiff, 8 bits", cut("frame_000107.tif", 9000), "frame_000107.tif: is no whole TIFF"),
    "a damaged tiff": ("tiff, 8 bits", flip("frame_000107.tif"), "frame_000107.tif: is no whole TIFF"),
    "most of a dpx": ("dpx, 8 bits", cut("frame_000107.dpx", -9), "frame_000107.dpx: is no whole DPX"),
    "a dpx without a head": ("dpx, 10 bits", cut("frame_000107.dpx", 100), "frame_000107.dpx: is no whole DPX"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_folder_is_one_line_that_names_the_file(tmp_path: Path, wrong: str) -> None:
    kind, change, message = WRONG[wrong]
    source = make_images(tmp_path / "scans", kind)
    change(source)
    with pytest.raises(SourceError) as caught:
        restore(source, f"{tmp_path}/out/")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["scans"] or names(tmp_path) == ["out.work", "scans"]
    assert not (tmp_path / "out").exists()


def test_an_image_damaged_in_the_middle_ends_the_command_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_images(tmp_path / "scans")
    flip("frame_000101.png")(source)
    with pytest.raises(SystemExit) as left:
        main(["restore", str(source), "-o", f"{tmp_path}/out/", "--quiet"])
    assert left.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "frame_000101.png: is no whole PNG image" in line


def test_only_images_of_these_names_are_replaced(tmp_path: Path) -> None:
    source, target = make_images(tmp_path / "scans"), tmp_path / "out"
    restore(source, f"{target}/", strength=0.0)
    first = contents(target)
    with pytest.raises(TargetError, match="is not empty; use --overwrite"):
        restore(source, f"{target}/")
    (target / "notes.txt").write_text("mine")
    with pytest.raises(TargetError, match=r"holds notes\.txt, which this run would not write"):
        restore(source, f"{target}/", overwrite=True)
    (target / "notes.txt").unlink()
    restore(source, f"{target}/", overwrite=True)
    assert names(target) == sorted(first)
    assert contents(target) != first
    # More images than this run makes: they may be somebody's.
    with pytest.raises(TargetError, match=r"holds frame_000107\.png and 5 more"):
        restore(source, f"{target}/", overwrite=True, end=0.25)
    assert names(target) == sorted(first)
    with pytest.raises(TargetError, match="is the source's own folder"):
        restore(source, source, overwrite=True)
    assert names(tmp_path) == ["out", "scans"] or "out.work" in names(tmp_path)


REFUSED: dict[str, dict[str, object]] = {
    "leave crf out": {"crf": 20},
    "leave codec out": {"codec": "ffv1"},
    "leave --stream": {"stream": 0},
    "verify compares": {"verify": True},
}


@pytest.mark.parametrize("message", REFUSED)
def test_options_without_meaning_for_images_are_refused(tmp_path: Path, message: str) -> None:
    source = make_images(tmp_path / "scans", count=2)
    with pytest.raises(OptionsError, match=message):
        restore(source, f"{tmp_path}/out/", **REFUSED[message])
    assert names(tmp_path) == ["scans"]


def test_a_rate_is_for_images_only(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="leave --rate out"):
        restore(CLIPS["silent"].make(tmp_path), tmp_path / "out.mp4", rate=24)


def test_png_files_keep_text_profile_and_resolution(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", "png, 8 bits", 2)
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Reel 7")
    for path in source.iterdir():
        with Image.open(path) as image:
            image.save(path, pnginfo=text, dpi=(300, 300), icc_profile=b"a profile of 20 bytes")
    restore(source, f"{tmp_path}/out/")
    with Image.open(tmp_path / "out" / "frame_000102.png") as image:
        image.load()
        assert image.info["Title"] == "Reel 7"
        assert image.info["icc_profile"] == b"a profile of 20 bytes"
        assert round(image.info["dpi"][0]) == 300


def test_tiff_files_keep_their_resolution_and_tell_what_they_lose(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", "tiff, 8 bits", 2)
    for path in source.iterdir():
        with Image.open(path) as image:
            image.save(path, dpi=(400, 400), description="aunt Mary")
    report = restore(source, f"{tmp_path}/out/")
    assert any("beside the samples" in line for line in report.warnings)
    with Image.open(tmp_path / "out" / "frame_000102.tif") as image:
        assert image.info["dpi"] == (400, 400)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 10])
def test_dpx_files_keep_key_code_time_code_and_what_their_levels_mean(tmp_path: Path, order: str, bits: int) -> None:
    source = make_images(tmp_path / "scans", f"dpx, {bits} bits", 2)
    for index, path in enumerate(sorted(source.iterdir())):
        write_dpx(path, picture(index, bits, 3), bits, order=order, rate_hz=23.976)
    restore(source, f"{tmp_path}/out/")
    content = (tmp_path / "out" / "frame_000102.dpx").read_bytes()
    kept = ">" if content[:4] == b"SDPX" else "<"
    assert content[36:42] == b"reel 7"
    assert content[1664:1680] == b"KK1234567890KEYC"
    assert struct.unpack_from(f"{kept}I", content, 1920) == (0x01020304,)
    assert struct.unpack_from(f"{kept}f", content, 1724)[0] == pytest.approx(23.976)
    assert struct.unpack_from(f"{kept}IfIf", content, 784) == (95, 0.0, 685, 2.0)
    assert content[801:803] == b"\x01\x01"
    assert content[2048:2057] == b"user data"
    with SequenceReader(tmp_path / "out") as reader:
        assert reader.info.average_rate == Fraction(24000, 1001)
        assert [frame.index for frame in reader.frames()] == [0, 1]


def test_transparent_colours_of_a_palette_stay_transparent(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    colours = Image.fromarray(picture(0, 8, 1).astype(np.uint8) // 32, mode="L").convert("P")
    colours.save(tmp_path / "scans" / "1.png", transparency=3)
    restore(tmp_path / "scans", f"{tmp_path}/out/")
    with Image.open(tmp_path / "scans" / "1.png") as was, Image.open(tmp_path / "out" / "1.png") as now:
        assert np.array_equal(np.asarray(was.convert("RGBA"))[..., 3], np.asarray(now)[..., 3])


def test_a_file_is_no_pattern_whatever_its_name(tmp_path: Path) -> None:
    """And FFmpeg does not take it for one."""
    make_images(tmp_path / "scans", "png, 8 bits", 3, first=0, name="a%03d")
    lone = tmp_path / "scans" / "a%03d.png"
    write_cv2(lone, np.full((20, 30, 3), 7), 8)
    assert not is_sequence(lone)
    with VideoReader(lone) as reader:
        (frame,) = reader.frames()
    assert (frame.width_px, frame.planes[0][0, 0]) == (30, 7)
    lone.rename(tmp_path / "scans" / "100%.txt")
    assert is_sequence(lone)
    with SequenceReader(lone) as sequence:
        assert sequence.num_frames_expected == 3
    shutil.copytree(tmp_path / "scans", tmp_path / "100%d")
    assert len(sample_frames(tmp_path / "100%d")) == 3


def test_outputs_are_found_from_what_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_images(tmp_path / "scans", "png, 8 bits", 2)
    monkeypatch.chdir(tmp_path)
    folder = Path("scans")
    assert target_for(folder, None) == tmp_path / "scans_restored" / "frame_%06d.png"
    assert target_for(folder / "frame_%06d.png", "new/") == Path("new/frame_%06d.png")
    assert target_for(folder, "new/x_%04d.dpx") == Path("new/x_%04d.dpx")
    assert target_for(folder, "film.mkv") == Path("film.mkv")
    assert target_for(source / "frame_000101.png", None) == source / "frame_000101_restored.png"
    assert target_for(CLIPS["silent"].make(tmp_path), f"frames{os.sep}") == Path("frames/%06d.png")
    with pytest.raises(InputError, match="name a folder for the images"):
        restore(folder, "%06d.png")


@pytest.mark.parametrize("kind", ["png, 8 bits", "tiff, 8 bits"])
@pytest.mark.parametrize(("orientation", "rotation_deg"), [(1, 0), (2, 0), (3, 180), (4, 180), (6, 90), (8, 270)])
def test_images_are_looked_at_as_a_viewer_turns_them(
    tmp_path: Path, kind: str, orientation: int, rotation_deg: int
) -> None:
    source = make_images(tmp_path / "scans", kind, 1)
    (path,) = source.iterdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.save(path, exif=exif)
    with SequenceReader(source) as reader:
        assert reader.info.rotation_deg == rotation_deg
        (frame,) = reader.frames()
    assert (frame.width_px, frame.height_px) == (WIDTH_PX, HEIGHT_PX)


def test_info_tells_what_a_folder_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_images(tmp_path / "scans", "dpx, 10 bits", 2)
    main(["info", str(source)])
    said = capsys.readouterr().out
    assert "2 DPX images, frame_%06d.dpx from number 101, 131x97, 10 bits, rgb, 18.000 frames/s" in said
    assert said.count("  at ") == 2


def test_images_can_be_analysed_first(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", count=6)
    analyze_video(source, tmp_path / "faces.json", Options(device="cpu"), models=models())
    restore(source, f"{tmp_path}/direct/")
    restore(source, f"{tmp_path}/listed/", from_faces=tmp_path / "faces.json", compare=tmp_path / "both.mkv")
    assert contents(tmp_path / "direct") == contents(tmp_path / "listed")
    assert len(read(tmp_path / "both.mkv")) == 6
