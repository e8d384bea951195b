"""Made-up clips as typed rows. `CLIPS["h264"].make(folder)` writes one with PyAV and returns its path.

The pictures are smooth, colourful and move; sizes are tiny; nothing here imports vidrestore.
"""

import atexit
import functools
import os
import shutil
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.filter
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 44100
AAC_FRAME = 1024
"""Samples in one AAC packet."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip and the facts that a test may rely on."""

    name: str
    codec: str = "libx264"
    suffix: str = ".mp4"
    pix_fmt: str = "yuv420p"
    width_px: int = 64
    height_px: int = 48
    num_frames: int = 12
    rate_hz: int = 25
    pts: tuple[int, ...] | None = None
    """In ticks of `time_base`; None spaces the frames evenly from `first_pts`."""
    first_pts: int = 0
    time_base: Fraction = Fraction(1, 12800)
    num_audio_tracks: int = 0
    audio_codec: str = "aac"
    has_subtitles: bool = False
    has_chapters: bool = False
    has_cover: bool = False
    rotation_deg: int = 0
    """Clockwise."""
    is_mirrored: bool = False
    """Left to right, after the turn."""
    num_other_pictures: int = 0
    """Further video streams, in colours of their own."""
    sample_aspect: Fraction = Fraction(1)
    field_order: int = 1
    """AVFieldOrder: 1 is progressive, 2 top field first, 3 bottom field first."""
    color: tuple[int, int, int, int] = (0, 2, 2, 2)
    """FFmpeg's range, matrix, primaries and transfer; these are "unspecified"."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    damage: Literal["", "middle", "cut"] = ""
    """middle: three packets overwritten; cut: the last third of the file is missing."""

    @property
    def frame_pts(self) -> tuple[int, ...]:
        """pts of every frame, in ticks of `time_base`."""
        if self.pts is not None:
            return self.pts
        step = int(1 / (self.rate_hz * self.time_base))
        return tuple(range(self.first_pts, self.first_pts + step * self.num_frames, step))

    @property
    def duration_s(self) -> float:
        """From 0 to the end of the last frame."""
        return float(self.frame_pts[-1] * self.time_base) + 1 / self.rate_hz

    def make(self, folder: Path) -> Path:
        """Write the clip as `folder/<name><suffix>`. Encoded once per test run, then copied."""
        path = folder / f"{self.name}{self.suffix}"
        shutil.copyfile(_made(self.name), path)
        return path


def picture_rgb(index: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """(height_px, width_px, 3) uint8: colour waves that drift with the frame's index."""
    y, x = np.mgrid[:height_px, :width_px] / max(width_px, height_px)
    phase = index / 10
    waves = [np.sin(5 * x + phase), np.cos(4 * y - phase), np.sin(3 * (x + y) + 2 * phase)]
    return np.rint(128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


MASTER_DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
"""A P3 display of 0.005 to 1000 cd/m2, in x265's units of 0.00002 and 0.0001 cd/m2."""
HDR10_PARAMS = f"log-level=error:master-display={MASTER_DISPLAY}:max-cll=1000,400"

CLIPS: Mapping[str, Clip] = {
    clip.name: clip
    for clip in (
        Clip("h264", num_audio_tracks=1, color=(1, 1, 1, 1)),
        Clip("silent"),
        Clip("one_frame", num_frames=1),
        Clip(
            "variable_rate",
            pts=(0, 512, 1024, 2560, 2660, 5120, 7680, 7936, 9000, 12800, 13312, 20480),
            num_audio_tracks=1,
        ),
        Clip("b_frames", num_frames=40, options={"bf": "3", "b_strategy": "0"}, num_audio_tracks=1),
        Clip("late_start", first_pts=10880, num_audio_tracks=1),
        Clip("long", num_frames=150, options={"g": "25"}, num_audio_tracks=1, has_subtitles=True, has_chapters=True),
        Clip("hevc_10_bit", "libx265", pix_fmt="yuv420p10le", color=(1, 9, 9, 16)),
        Clip("hevc_12_bit", "libx265", pix_fmt="yuv422p12le"),
        Clip("yuv444", pix_fmt="yuv444p"),
        Clip("yuv422", pix_fmt="yuv422p"),
        Clip("full_range", pix_fmt="yuvj420p", color=(2, 5, 5, 6)),
        Clip("gray", "ffv1", ".mkv", "gray", time_base=Fraction(1, 1000)),
        Clip("gray_10_bit", "ffv1", ".mkv", "gray10le", time_base=Fraction(1, 1000)),
        Clip("rgb", "ffv1", ".mkv", "bgr0", time_base=Fraction(1, 1000)),
        Clip("rgb_12_bit", "ffv1", ".mkv", "gbrp12le", time_base=Fraction(1, 1000)),
        Clip("alpha", "ffv1", ".mkv", "bgra", time_base=Fraction(1, 1000)),
        Clip("yuv_16_bit", "ffv1", ".mkv", "yuv420p16le", time_base=Fraction(1, 1000)),
        Clip("odd_size", "ffv1", ".mkv", width_px=63, height_px=47, time_base=Fraction(1, 1000)),
        Clip("odd_size_vp9", "libvpx-vp9", ".webm", width_px=63, height_px=47, time_base=Fraction(1, 1000)),
        Clip("tiny", width_px=16, height_px=16),
        Clip("codec_cropped", width_px=62, height_px=46),
        Clip("rotated", rotation_deg=90),
        Clip("half_turn", rotation_deg=180),
        Clip("interlaced", "mpeg2video", ".mov", field_order=3, options={"flags": "+ildct+ilme"}),
        Clip("interlaced_top", field_order=2, options={"flags": "+ildct+ilme"}),
        Clip(
            "interlaced_ffv1", "ffv1", ".mkv", "yuv422p10le", field_order=3, time_base=Fraction(1, 1000), num_frames=6
        ),
        Clip("interlaced_outside", "v210", ".mov", "yuv422p10le", field_order=2, num_frames=6),
        Clip("dv", "dvvideo", ".mov", width_px=720, height_px=576, num_frames=3, field_order=3),
        Clip("anamorphic", sample_aspect=Fraction(16, 11)),
        Clip("mirrored", is_mirrored=True),
        Clip("turned_and_mirrored", rotation_deg=270, is_mirrored=True),
        Clip(
            "hdr10",
            "libx265",
            pix_fmt="yuv420p10le",
            color=(1, 9, 9, 16),
            options={"x265-params": HDR10_PARAMS, "chroma_sample_location": "topleft"},
        ),
        Clip("hlg", "libx265", pix_fmt="yuv420p10le", color=(1, 9, 9, 18)),
        Clip("chroma_center", options={"chroma_sample_location": "center"}),
        Clip("chroma_topleft", options={"chroma_sample_location": "topleft"}),
        Clip("chroma_bottom", "libx265", options={"chroma_sample_location": "bottomleft"}),
        Clip("two_pictures", num_other_pictures=1, num_audio_tracks=1),
        Clip("av1", "libsvtav1", pix_fmt="yuv420p10le", options={"preset": "12"}, color=(1, 1, 1, 1)),
        Clip("prores", "prores_ks", ".mov", "yuv422p10le"),
        Clip("dnxhd", "dnxhd", ".mov", "yuv422p", width_px=256, height_px=128, options={"profile": "dnxhr_hq"}),
        Clip(
            "many_tracks", num_audio_tracks=3, has_subtitles=True, has_chapters=True, metadata={"title": "Überführung"}
        ),
        Clip(
            "many_tracks_mkv",
            suffix=".mkv",
            time_base=Fraction(1, 1000),
            num_audio_tracks=2,
            audio_codec="libopus",
            has_subtitles=True,
            has_chapters=True,
        ),
        Clip("cover", has_cover=True, num_audio_tracks=1),
        Clip("mpeg4_avi", "mpeg4", ".avi", time_base=Fraction(1, 25)),
        Clip("mpeg2_ts", "mpeg2video", ".ts", num_audio_tracks=1, time_base=Fraction(1, 90000)),
        Clip("mjpeg", "mjpeg", ".mov", "yuvj422p"),
        Clip("huffyuv_avi", "huffyuv", ".avi", "yuv422p", time_base=Fraction(1, 25)),
        Clip(
            "mpeg2_ps",
            "mpeg2video",
            ".mpg",
            first_pts=48600,
            time_base=Fraction(1, 90000),
            num_audio_tracks=1,
            audio_codec="ac3",
        ),
        Clip(
            "mpeg2_mxf",
            "mpeg2video",
            ".mxf",
            "yuv422p",
            time_base=Fraction(1, 25),
            num_audio_tracks=1,
            audio_codec="pcm_s16le",
        ),
        Clip(
            "dnxhd_mxf",
            "dnxhd",
            ".mxf",
            "yuv422p",
            width_px=256,
            height_px=128,
            time_base=Fraction(1, 25),
            options={"profile": "dnxhr_hq"},
            num_audio_tracks=1,
            audio_codec="pcm_s16le",
        ),
        Clip("damaged", num_frames=60, options={"g": "10", "bf": "0"}, num_audio_tracks=1, damage="middle"),
        Clip(
            "cut_off",
            num_frames=60,
            options={"g": "10"},
            num_audio_tracks=1,
            container_options={"movflags": "faststart"},
            damage="cut",
        ),
        Clip(
            "cut_off_mkv", suffix=".mkv", num_frames=60, time_base=Fraction(1, 1000), num_audio_tracks=1, damage="cut"
        ),
    )
}
"""By name."""


@functools.cache
def _made(name: str) -> Path:
    clip = CLIPS[name]
    path = _cache_folder() / f"{clip.name}{clip.suffix}"
    _encode(clip, path)
    if clip.damage == "middle":
        _overwrite_packets(path, range(20, 23))
    if clip.damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


@functools.cache
def _cache_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vidrestore-clips-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _encode(clip: Clip, path: Path) -> None:
    options = {**clip.container_options}
    if clip.suffix in (".mp4", ".mov"):
        options["video_track_timescale"] = str(clip.time_base.denominator)
    with av.open(str(path), "w", container_options=options) as output:
        output.metadata.update(clip.metadata)
        video = _add_video(output, clip)
        others = [_add_video(output, clip) for _ in range(clip.num_other_pictures)]
        audio = [_add_audio(output, clip, index) for index in range(clip.num_audio_tracks)]
        subtitles = (
            output.add_mux_stream("mov_text" if clip.suffix == ".mp4" else "subrip") if clip.has_subtitles else None
        )
        if subtitles is not None:
            subtitles.time_base = Fraction(1, 1000)
            subtitles.metadata["language"] = "fre"
        cover = _add_cover(output) if clip.has_cover else None
        if clip.has_chapters:
            halves = [(0, clip.duration_s / 2, "one"), (clip.duration_s / 2, clip.duration_s, "two")]
            output.set_chapters([_chapter(index, *half) for index, half in enumerate(halves)])
        output.start_encoding()
        if cover is not None:
            _mux_cover(output, cover, clip)
        if subtitles is not None:
            for index in range(int(clip.duration_s / 0.2)):
                text = f"line {index}".encode()
                packet = av.Packet(struct.pack(">H", len(text)) + text if clip.suffix == ".mp4" else text)
                packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
                packet.pts = packet.dts = 200 * index
                packet.duration = 150
                output.mux(packet)
        for index, stream in enumerate(audio):
            _mux_audio(output, stream, clip.duration_s, pitch_hz=220 * (index + 1))
        for index, pts in enumerate(clip.frame_pts):
            output.mux(video.encode(_frame(clip, index, pts)))
            for number, other in enumerate(others, 1):
                output.mux(other.encode(_frame(clip, index + 100 * number, pts)))
        for stream in (video, *others):
            output.mux(stream.encode(None))


def _add_video(output: Any, clip: Clip) -> av.VideoStream:
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    quiet = {"x265-params": "log-level=error"} if clip.codec == "libx265" else {}
    options = {"preset": "ultrafast", **quiet} if clip.codec.startswith("libx26") else {}
    video: av.VideoStream = output.add_stream(clip.codec, rate=clip.rate_hz, options={**options, **clip.options})
    video.width, video.height, video.pix_fmt = clip.width_px, clip.height_px, clip.pix_fmt
    video.time_base = clip.time_base
    video.codec_context.time_base = clip.time_base if clip.codec not in FRAME_CLOCKED else Fraction(1, clip.rate_hz)
    video.codec_context.sample_aspect_ratio = clip.sample_aspect
    context = video.codec_context
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = clip.color
    context.field_order = clip.field_order
    if clip.rotation_deg or clip.is_mirrored:
        video.set_display_rotation(-clip.rotation_deg, hflip=clip.is_mirrored)
    return video


FRAME_CLOCKED = ("mpeg4", "mpeg2video", "dvvideo")
"""Encoders that count time in frames."""


def _frame(clip: Clip, index: int, pts: int) -> av.VideoFrame:
    rgb = picture_rgb(index, clip.width_px, clip.height_px)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=clip.pix_fmt)
    if clip.field_order > 1:
        frame = _marked(frame, {2: "tff", 3: "bff"}[clip.field_order])
    frame.pts, frame.time_base = pts, clip.time_base
    if clip.codec in FRAME_CLOCKED:
        frame.pts, frame.time_base = index % 100, Fraction(1, clip.rate_hz)
    return frame


def _marked(frame: av.VideoFrame, mode: str) -> av.VideoFrame:
    """The same picture, told to be interlaced: FFmpeg's filter can say it, PyAV cannot."""
    graph = av.filter.Graph()
    size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
    chain = [graph.add("buffer", f"{size}:time_base=1/1:pixel_aspect=1/1"), graph.add("setfield", f"mode={mode}")]
    chain.append(graph.add("buffersink"))
    graph.link_nodes(*chain).configure()
    chain[0].push(frame)
    return chain[-1].pull()  # type: ignore[return-value]


def _add_audio(output: Any, clip: Clip, index: int) -> av.AudioStream:
    rate_hz = 48000 if clip.audio_codec in ("libopus", "pcm_s16le") else SAMPLE_RATE_HZ
    stream: av.AudioStream = output.add_stream(clip.audio_codec, rate=rate_hz)
    stream.metadata["language"] = ("eng", "ger", "jpn")[index]
    stream.disposition = Disposition.default if index == 0 else Disposition.comment
    return stream


def _mux_audio(output: Any, stream: av.AudioStream, duration_s: float, *, pitch_hz: int) -> None:
    rate_hz = stream.codec_context.sample_rate
    num_samples = int(duration_s * rate_hz)
    size = stream.codec_context.frame_size or AAC_FRAME
    wave = (0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(num_samples) / rate_hz)).astype(np.float32)
    for start in range(0, num_samples, size):
        part = np.ascontiguousarray(np.stack([wave[start : start + size]] * 2))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def _chapter(index: int, start_s: float, end_s: float, title: str) -> Any:
    ticks = {"start": round(start_s * 1000), "end": round(end_s * 1000)}
    return {"id": index + 1, **ticks, "time_base": Fraction(1, 1000), "metadata": {"title": title}}


def _add_cover(output: Any) -> Any:
    cover = output.add_mux_stream("png", width=32, height=32)
    cover.disposition = Disposition.attached_pic
    return cover


def _mux_cover(output: Any, cover: Any, clip: Clip) -> None:
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 32, "rgb24", clip.time_base
    frame = av.VideoFrame.from_ndarray(picture_rgb(0, 32, 32), format="rgb24")
    frame.pts = 0
    for packet in [*encoder.encode(frame), *encoder.encode(None)]:
        packet.stream = cover
        packet.pts = packet.dts = 0
        output.mux(packet)


def _overwrite_packets(path: Path, indices: range) -> None:
    """Replace the content of some video packets by a byte that no codec knows."""
    with av.open(str(path)) as source:
        packets = [(packet.pos, packet.size) for packet in source.demux(source.streams.video[0]) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in (packets[index] for index in indices):
        assert position is not None
        content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
