"""A packet, a language or a chapter that is missing or changed is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from tests.clips import CLIPS
from tests.verified import told, written
from vidrestore.verify.output import verify_output
from vidrestore.verify.pair import VerifyError


def remuxed(path: Path, *, keeps: Callable[[Any], bool] = lambda packet: True, describe: Any = None) -> Path:
    """The file with some of its packets, and streams described otherwise."""
    target = path.with_name(f"remuxed{path.suffix}")
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        copies = {}
        for stream in source.streams:
            copies[stream.index] = output.add_stream_from_template(stream, opaque=True)
            copies[stream.index].disposition = stream.disposition
            copies[stream.index].metadata.update(stream.metadata)
            if describe:
                describe(copies[stream.index])
        output.start_encoding()
        for packet in source.demux():
            if packet.size and keeps(packet):
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return target


def test_the_tests_own_copy_passes_in_matroska(tmp_path: Path) -> None:
    source = CLIPS["many_tracks_mkv"].make(tmp_path)
    output = tmp_path / "out.mkv"
    written(source, output)
    with pytest.raises(VerifyError, match="holds 0 chapters, not 2"):  # all else is as it was
        verify_output(source, remuxed(output), [], lossless=True)


@pytest.mark.parametrize("kind", ["audio", "subtitle"])
def test_one_missing_packet_is_found(kind: str, tmp_path: Path) -> None:
    source, output = CLIPS["many_tracks_mkv"].make(tmp_path), tmp_path / "out.mkv"
    written(source, output)
    seen: list[Any] = []

    def keeps(packet: Any) -> bool:
        seen.extend([packet.pts] * (packet.stream.type == kind))
        return packet.stream.type != kind or len(seen) != 2

    with pytest.raises(VerifyError, match=f"of {kind} track") as caught:
        verify_output(source, remuxed(output, keeps=keeps), [], lossless=True)
    assert "is missing or changed" in told(caught.value)


def test_a_changed_byte_and_a_late_packet_of_sound_are_found(tmp_path: Path) -> None:
    source, output = CLIPS["h264"].make(tmp_path), tmp_path / "out.mp4"
    written(source, output)
    with av.open(str(output)) as container:
        content = [bytes(packet) for packet in container.demux(audio=0) if packet.size][7]
    stored = bytearray(output.read_bytes())
    stored[stored.index(content) + 3] ^= 1
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(stored)
    with pytest.raises(VerifyError, match="packet 7 of audio track 1"):
        verify_output(source, changed, [], lossless=True)

    def moves(packet: Any) -> bool:
        if packet.stream.type == "audio" and packet.pts > 0:
            packet.pts, packet.dts = packet.pts + 100, packet.dts + 100
        return True

    with pytest.raises(VerifyError, match=r"audio track 1 is due at 0\.\d+ s, not 0"):
        verify_output(source, remuxed(output, keeps=moves), [], lossless=True)


def test_a_lost_language_and_disposition_are_found(tmp_path: Path) -> None:
    source, output = CLIPS["many_tracks_mkv"].make(tmp_path), tmp_path / "out.mkv"
    written(source, output)

    def in_french(stream: Any) -> None:
        stream.metadata.update({"language": "fre"} if stream.type == "audio" else {})

    with pytest.raises(VerifyError, match="language of audio track 1 is fre, not eng"):
        verify_output(source, remuxed(output, describe=in_french), [], lossless=True)

    def plain(stream: Any) -> None:
        stream.disposition = Disposition(0)

    with pytest.raises(VerifyError, match="the disposition of audio track"):
        verify_output(source, remuxed(output, describe=plain), [], lossless=True)
