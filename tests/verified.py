"""Copies of a clip, changed on the way or not, compared with it by `--verify`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.clips import CLIPS
from vidrestore.frame import Frame
from vidrestore.verify.output import Verified, verify_output
from vidrestore.verify.pair import VerifyError
from vidrestore.video.encode import EncodeSettings
from vidrestore.video.read import VideoReader
from vidrestore.video.write import VideoWriter

LOSSLESS, DEFAULT = EncodeSettings(lossless=True), EncodeSettings()
Change = Callable[[list[Frame]], list[Frame]]


def written(
    source: Path,
    output: Path,
    encode: EncodeSettings = LOSSLESS,
    change: Change = lambda frames: frames,
    *,
    stream: int | None = None,
    **span: float,
) -> list[str]:
    """The source through the writer, its frames changed on the way; the writer's warnings."""
    with VideoReader(source, stream=stream, **span) as reader:  # type: ignore[arg-type]
        frames = change(list(reader.frames()))
        with VideoWriter(output, like=reader.info, source=source, encode=encode, **span) as writer:  # type: ignore[arg-type]
            for frame in frames:
                writer.write(frame)
    return writer.warnings


def verified(
    name: str,
    folder: Path,
    suffix: str,
    encode: EncodeSettings = LOSSLESS,
    change: Change = lambda frames: frames,
    *,
    faces: Sequence[Sequence[NDArray[np.float64]]] = (),
    stream: int | None = None,
    **span: float,
) -> Verified:
    source, output = CLIPS[name].make(folder), folder / f"out{suffix}"
    warnings = written(source, output, encode, change, stream=stream, **span)
    return verify_output(
        source,
        output,
        faces,
        lossless=encode.lossless,
        warnings=warnings,
        stream=stream,
        **span,  # type: ignore[arg-type]
    )


def difference(*arguments: Any, **options: Any) -> str:
    """The one line of the VerifyError that must come."""
    with pytest.raises(VerifyError) as caught:
        verified(*arguments, **options)
    return told(caught.value)


def told(error: VerifyError) -> str:
    message = str(error)
    assert "\n" not in message
    assert message.endswith("; the output was not put in its place")
    return message
