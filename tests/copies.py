"""Copying a clip through reader and writer, and looking at what came out."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidrestore.errors import TargetError
from vidrestore.frame import Frame
from vidrestore.video.encode_options import EncodeSettings
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter

LOSSLESS = EncodeSettings(lossless=True, preset=None)
CONTAINER_KEYS = {"major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER", "software"}


def copy(
    source: Path, target: Path, encode: EncodeSettings = LOSSLESS, *, warns: str | None = None, **span: float
) -> list[Frame]:
    """Read everything, write it unchanged; the frames that went through. `warns` is in the one warning, if any."""
    frames = []
    with (
        VideoReader(source, **span) as reader,  # type: ignore[arg-type]
        VideoWriter(target, like=reader.info, source=source, encode=encode, **span) as writer,  # type: ignore[arg-type]
    ):
        for frame in reader.frames():
            writer.write(frame)
            frames.append(frame)
    assert len(writer.warnings) == (warns is not None), writer.warnings
    assert all(warns in warning for warning in writer.warnings if warns)
    return frames


def read(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader.frames())


def times_s(frames: list[Frame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def same_samples(first: list[Frame], second: list[Frame]) -> bool:
    return all(
        len(one.planes) == len(other.planes) and all(map(np.array_equal, one.planes, other.planes))
        for one, other in zip(first, second, strict=True)
    )


def other_packets(path: Path) -> list[tuple[str, str | None, list[tuple[Any, ...]]]]:
    """(kind, language, [(pts, dts, duration, bytes)]) of every track beside the picture, times in seconds."""
    tracks = []
    with av.open(str(path)) as container:
        main = container.streams.video[0].index
        indices = [stream.index for stream in container.streams if stream.index != main and stream.type != "data"]
    for index in indices:
        with av.open(str(path)) as container:
            stream = container.streams[index]
            packets = [
                (
                    None if packet.pts is None else packet.pts * packet.time_base,
                    None if packet.dts is None else packet.dts * packet.time_base,
                    (packet.duration or 0) * packet.time_base,
                    bytes(packet),
                )
                for packet in container.demux(stream)
                if packet.size
            ]
            tracks.append((f"{stream.type} {int(stream.disposition)}", stream.metadata.get("language"), packets))
    return tracks


def container_facts(path: Path) -> tuple[dict[str, str], list[tuple[Any, ...]]]:
    with av.open(str(path)) as container:
        metadata = {key: value for key, value in container.metadata.items() if key not in CONTAINER_KEYS}
        chapters = [
            (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"], chapter["metadata"])
            for chapter in container.chapters()
            if chapter["time_base"]
        ]
    return metadata, chapters


def refused(source: Path, target: Path, encode: EncodeSettings = LOSSLESS) -> str:
    """The message of the TargetError that making a writer must raise; nothing may be left."""
    with VideoReader(source) as reader, pytest.raises(TargetError) as caught:
        VideoWriter(target, like=reader.info, source=source, encode=encode)
    assert not target.exists()
    if target.parent.is_dir():
        assert hidden_files(target.parent) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hidden_files(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]
