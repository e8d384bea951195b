"""Sound and subtitles are copied packet for packet, in time with the picture, also into a cut and around damage."""

from fractions import Fraction
from pathlib import Path

import av
import av.container
import pytest

from tests.clips import CLIPS, picture_rgb
from tests.copies import container_facts, copy, other_packets, read, same_samples, times_s
from vidrestore.verify.output import verify_output
from vidrestore.video.encode_options import EncodeSettings


def test_sound_and_picture_move_together_into_matroska(tmp_path: Path) -> None:
    source = CLIPS["h264"].make(tmp_path)  # its sound begins 1024 samples before 0, which Matroska cannot say
    target = tmp_path / "copy.mkv"
    frames = copy(source, target)
    (_, _, before), (_, _, after) = other_packets(source)[0], other_packets(target)[0]
    drift_s = [
        (new[0] - old[0]) - (new_time_s - old_time_s)
        for old, new in zip(before, after, strict=True)
        for old_time_s, new_time_s in zip(times_s(frames), times_s(read(target)), strict=True)
    ]
    assert max(map(abs, drift_s)) <= 0.001  # Matroska counts in ms
    assert [old[3] for old in before] == [new[3] for new in after]


def test_a_cut_starts_at_zero_with_sound_and_subtitles_in_sync(tmp_path: Path) -> None:
    source = CLIPS["long"].make(tmp_path)
    target = tmp_path / "cut.mp4"
    frames = copy(source, target, start_s=2.0, end_s=4.0)
    assert [float(time_s) for time_s in times_s(read(target))] == [index / 25 for index in range(50)]
    assert same_samples(read(target), frames)
    before = {kind: packets for kind, _, packets in other_packets(source)}
    after = {kind: packets for kind, _, packets in other_packets(target)}
    sound_before, sound_after = (next(t for k, t in each.items() if k.startswith("audio")) for each in (before, after))
    # Whole packets that begin in [2 s, 4 s), moved by 2 s.
    expected = [(pts - 2, content) for pts, _, _, content in sound_before if 2 <= pts < 4]
    assert [content for _, content in expected] == [packet[3] for packet in sound_after]
    assert [pts for pts, _ in expected] == [packet[0] for packet in sound_after]
    subtitles = next(packets for kind, packets in after.items() if kind.startswith("subtitle"))
    texts = [(packet[0], packet[3][2:]) for packet in subtitles if packet[3] != b"\0\0"]
    assert texts == [(Fraction(index, 5), f"line {index + 10}".encode()) for index in range(10)]
    chapters = [(float(start), float(end), data["title"]) for start, end, data in container_facts(target)[1]]
    assert chapters == [(0.0, 1.0, "one"), (1.0, 2.0, "two")]


def two_cameras(path: Path) -> Path:
    """Two videos of 16 frames; the second has keyframes at 0 and at 0.32 s."""
    with av.open(str(path), "w") as output:
        packets: list[av.Packet[av.VideoStream]] = []
        for _ in range(2):
            options = {"g": "8", "bf": "2", "x264-params": "scenecut=0:keyint_min=8"}
            stream = output.add_stream("libx264", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(16):
                frame = av.VideoFrame.from_ndarray(picture_rgb(index, 64, 48), format="rgb24")
                packets += stream.encode(frame.reformat(format="yuv420p"))
            packets += stream.encode(None)
        output.mux(packets)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("start_s", "end_s", "num_shown", "warns"),
    [
        (0.0, 0.31, 8, None),
        (0.2, 0.6, 7, "video track 1 begins 0.120 s late, at its first keyframe"),
        (0.2, 0.3, 0, "video track 1 has no keyframe in the cut, and is empty"),
    ],
)
def test_a_second_video_in_a_cut_begins_where_it_can_be_shown(
    suffix: str, start_s: float, end_s: float, num_shown: int, warns: str | None, tmp_path: Path
) -> None:
    source, target = two_cameras(tmp_path / "cameras.mp4"), tmp_path / f"cut{suffix}"
    copy(source, target, warns=warns, start_s=start_s, end_s=end_s)
    with av.open(str(target)) as output:
        shown = list(output.decode(output.streams.video[1])) if len(output.streams.video) > 1 else []
    assert len(shown) == num_shown
    if num_shown:
        late_s = 0 if warns is None else 0.12
        assert shown[0].time == pytest.approx(late_s, abs=0.002)
        verify_output(source, target, [], lossless=True, start_s=start_s, end_s=end_s)


def test_a_subtitle_that_is_on_screen_when_the_cut_begins_stays_on_screen(tmp_path: Path) -> None:
    source = CLIPS["long"].make(tmp_path)
    target = tmp_path / "cut.mp4"
    copy(source, target, start_s=2.08, end_s=3.0)
    texts = [packet for packet in other_packets(target)[1][2] if packet[3] != b"\0\0"]
    assert texts[0] == (0, 0, Fraction(70, 1000), b"\0\7line 10")  # 2.00 to 2.15 s in the source


@pytest.mark.parametrize("start_s", [1.0, 4.52])
def test_a_long_subtitle_outlives_a_cut_far_behind_its_beginning(start_s: float, tmp_path: Path) -> None:
    source, target = tmp_path / "subtitle.mkv", tmp_path / "cut.mkv"
    with av.open(str(CLIPS["long"].make(tmp_path))) as pictures, av.open(str(source), "w") as output:
        video = output.add_stream_from_template(pictures.streams.video[0])
        subtitles = output.add_mux_stream("subrip")
        subtitles.time_base = Fraction(1, 1000)
        output.start_encoding()
        text = av.Packet(b"still here")
        text.stream, text.time_base = subtitles, Fraction(1, 1000)
        text.pts = text.dts = 500
        text.duration = 5400
        output.mux(text)
        for packet in pictures.demux(pictures.streams.video[0]):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    copy(source, target, start_s=start_s)
    ((_, _, texts),) = other_packets(target)
    end_s = Fraction("5.9") - Fraction(str(start_s))
    assert texts == [(0, 0, end_s, b"still here")]


@pytest.mark.parametrize("name", ["damaged", "cut_off"])
def test_sound_stays_in_sync_around_damage(name: str, tmp_path: Path) -> None:
    source = CLIPS[name].make(tmp_path)
    target = tmp_path / "copy.mp4"
    frames = copy(source, target, EncodeSettings())
    assert times_s(read(target)) == times_s(frames)
    assert other_packets(target) == other_packets(source)
