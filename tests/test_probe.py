"""`vidrestore info` names every track of a file and what it is made of."""

import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.clips import CLIPS
from vidrestore.errors import SourceError
from vidrestore.video.probe import StreamInfo, probe
from vidrestore.video.read import VideoReader
from vidrestore.video.sample import sample_frames
from vidrestore.video.source import OPEN_OPTIONS


def picture(path: Path) -> StreamInfo:
    return next(stream for stream in probe(path).streams if stream.kind == "video" and not stream.is_attached_picture)


def test_every_track_is_listed(tmp_path: Path) -> None:
    info = probe(CLIPS["many_tracks_mkv"].make(tmp_path))
    assert [(stream.kind, stream.codec, stream.language) for stream in info.streams] == [
        ("video", "h264", None),
        ("audio", "opus", "eng"),
        ("audio", "opus", "ger"),
        ("subtitle", "subrip", "fre"),
    ]
    assert info.streams[1].sample_rate_hz == 48000
    assert (info.streams[1].num_channels, info.streams[1].channel_layout) == (2, "stereo")
    assert info.streams[2].dispositions == ("comment",)
    assert info.num_chapters == 2
    assert "matroska" in info.format_name


def test_the_picture_is_described(tmp_path: Path) -> None:
    found = picture(CLIPS["hevc_10_bit"].make(tmp_path))
    assert (found.codec, found.pixel_format, found.width_px, found.height_px) == ("hevc", "yuv420p10le", 64, 48)
    colors = (found.color_range, found.color_matrix, found.color_primaries, found.color_transfer)
    assert colors == ("limited", "bt2020nc", "bt2020", "smpte2084")
    assert (found.average_rate_hz, found.num_frames_from_header) == (25, 12)
    assert picture(CLIPS["silent"].make(tmp_path)).color_matrix == "unspecified"
    assert picture(CLIPS["anamorphic"].make(tmp_path)).sample_aspect == Fraction(16, 11)


def test_rotation_is_clockwise(tmp_path: Path) -> None:
    found = picture(CLIPS["rotated"].make(tmp_path))
    assert (found.rotation_deg, found.is_mirrored) == (90, False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("h264", "constant"), ("b_frames", "constant"), ("variable_rate", "variable"), ("odd_size", "constant")]
    + [("one_frame", "unknown")],
)
def test_the_frame_rate_is_judged_from_time_stamps(name: str, kind: str, tmp_path: Path) -> None:
    assert picture(CLIPS[name].make(tmp_path)).frame_rate == kind


def test_a_cover_is_marked(tmp_path: Path) -> None:
    covers = [stream for stream in probe(CLIPS["cover"].make(tmp_path)).streams if stream.is_attached_picture]
    assert [cover.codec for cover in covers] == ["png"]


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        probe(tmp_path / "none.mp4")


class Listener:
    """A server on this machine that notes who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listener.asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        listener.url = f"http://127.0.0.1:{http.server_address[1]}/other.ts"
        yield listener
        http.shutdown()


M3U8 = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
FFCONCAT = "ffconcat version 1.0\nfile {}\n"
MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" minBufferTime="PT1S">
<Period><AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1000"><BaseURL>{}</BaseURL>
</Representation></AdaptationSet></Period></MPD>
"""
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=control:{}\n"
VOBSUB = "# VobSub index file, v7\nsize: 720x576\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n"
PLAYLISTS = {".m3u8": M3U8, ".ffconcat": FFCONCAT, ".mpd": MPD, ".sdp": SDP, ".idx": VOBSUB}


@pytest.mark.parametrize("name", ["list{}", "list.mp4"])
@pytest.mark.parametrize("suffix", PLAYLISTS)
def test_a_file_that_names_others_is_refused_and_none_of_them_is_opened(
    suffix: str, name: str, tmp_path: Path, listener: Listener
) -> None:
    local = CLIPS["mpeg2_ts"].make(tmp_path)
    (tmp_path / "list.sub").write_bytes(local.read_bytes())  # where a VobSub index would look
    path = tmp_path / name.format(suffix)
    before_ns = 10**18  # long ago; reading a file would move it (with relatime, which moves what is older than a day)
    for other in (local.name, str(local), listener.url):
        path.write_text(PLAYLISTS[suffix].format(other))
        for file in tmp_path.iterdir():
            os.utime(file, ns=(before_ns, before_ns))
        for read in (probe, VideoReader, sample_frames):
            with pytest.raises(SourceError) as caught:
                read(path)
            assert str(caught.value) == f"{path}: names other files and holds no video itself; give the video file"
        assert [file.name for file in tmp_path.iterdir() if file != path and file.stat().st_atime_ns != before_ns] == []
    assert listener.asked == []


def test_no_reader_of_playlists_is_on_ffmpegs_list() -> None:
    allowed = set(OPEN_OPTIONS["format_whitelist"].split(","))
    assert allowed.isdisjoint({"hls", "concat", "dash", "sdp", "rtsp", "rtp", "sap", "vobsub"})
    assert {"matroska", "mp4", "avi", "mpegts", "mxf"} <= allowed
    assert OPEN_OPTIONS["protocol_whitelist"] == "file"
