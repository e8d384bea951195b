import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from vidrestore.errors import WeightsError
from vidrestore.models.download import CHUNK_BYTES, NUM_ATTEMPTS, obtain, pull
from vidrestore.models.spec import ModelSpec
from vidrestore.models.weights import pin_path

FILE = save({"x": torch.arange(100_000.0)})
"""What the server offers: 400 KB of weights."""
SHA256 = hashlib.sha256(FILE).hexdigest()
NAME = "model.safetensors"


@dataclass
class Server:
    """A file server on this machine that can be told to misbehave."""

    url: str = ""
    content: bytes = FILE
    honours_ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    """For each request to come: after how many bytes the connection is cut."""
    statuses: list[int] = field(default_factory=list)
    """For each request to come: an error to answer instead."""
    modified_s: float = 1_000_000_000.0
    requests: list[str | None] = field(default_factory=list)
    """The Range header of each request so far."""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        since = handler.headers.get("If-Unmodified-Since")
        if since and parsedate_to_datetime(since).timestamp() < self.modified_s:
            handler.send_error(412)
            return
        start = 0
        if wanted and self.honours_ranges:
            match = re.fullmatch(r"bytes=(\d+)-", wanted)
            assert match is not None, "the client asks for the tail"
            start = int(match.group(1))
            if start >= len(self.content):
                handler.send_error(416)
                return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.send_header("Last-Modified", formatdate(self.modified_s, usegmt=True))
        handler.end_headers()
        stop = start + self.cuts.pop(0) if self.cuts else len(self.content)
        handler.wfile.write(self.content[start:stop])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}/{NAME}"
        yield server
        http.shutdown()
        thread.join()


def spec_at(server: Server, sha256: str | None = SHA256) -> ModelSpec:
    return ModelSpec("model", "restorer", NAME, server.url, sha256, len(FILE), "free", "tests", 64, "gpen")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_download(server: Server, weights_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="vidrestore"):
        installed = pull(spec_at(server))
    assert installed.path == weights_folder / NAME
    assert installed.path.read_bytes() == FILE
    assert installed.sha256 == SHA256
    assert names(weights_folder) == [NAME]
    assert "licence: free" in caplog.text


def test_what_is_there_is_not_downloaded_again(server: Server, weights_folder: Path) -> None:
    pull(spec_at(server))
    pull(spec_at(server))
    assert server.requests == [None]


def test_a_damaged_file_is_replaced(server: Server, weights_folder: Path) -> None:
    (weights_folder / NAME).write_bytes(b"damaged")
    assert pull(spec_at(server)).path.read_bytes() == FILE
    assert names(weights_folder) == [NAME]


def test_the_folder_is_made(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path / "new" / "folder"))
    assert pull(spec_at(server)).path == tmp_path / "new" / "folder" / NAME


def test_a_cut_connection_is_taken_up_where_it_ended(server: Server, weights_folder: Path) -> None:
    server.cuts = [CHUNK_BYTES + 1000, 2 * CHUNK_BYTES + 1000]
    assert pull(spec_at(server), retry_wait_s=0).path.read_bytes() == FILE
    assert server.requests == [None, f"bytes={CHUNK_BYTES}-", f"bytes={3 * CHUNK_BYTES}-"]
    assert names(weights_folder) == [NAME]


def test_a_later_call_goes_on_too(server: Server, weights_folder: Path) -> None:
    server.cuts = [CHUNK_BYTES] * NUM_ATTEMPTS
    with pytest.raises(WeightsError, match=rf"{server.url}: .* cut, 4 times; `vidrestore models pull model` goes on"):
        pull(spec_at(server), retry_wait_s=0)
    assert names(weights_folder) == [f"{NAME}.part"]
    assert pull(spec_at(server)).path.read_bytes() == FILE
    assert server.requests[-1] == f"bytes={CHUNK_BYTES * NUM_ATTEMPTS}-"
    assert names(weights_folder) == [NAME]


def test_a_server_that_knows_no_ranges_starts_anew(server: Server, weights_folder: Path) -> None:
    server.honours_ranges = False
    server.cuts = [3 * CHUNK_BYTES]
    assert pull(spec_at(server), retry_wait_s=0).path.read_bytes() == FILE


def test_a_file_that_changed_since_the_first_part_starts_anew(server: Server, weights_folder: Path) -> None:
    """Otherwise the head of one file and the tail of another would be pinned as the first download."""
    (weights_folder / f"{NAME}.part").write_bytes(b"x" * 50_000)
    server.modified_s = 4_000_000_000.0
    assert pull(spec_at(server, sha256=None)).path.read_bytes() == FILE
    assert server.requests == ["bytes=50000-", None]


def test_a_part_as_long_as_the_file_starts_anew(server: Server, weights_folder: Path) -> None:
    (weights_folder / f"{NAME}.part").write_bytes(b"x" * len(FILE))
    assert pull(spec_at(server)).path.read_bytes() == FILE


def test_another_hash_leaves_nothing(server: Server, weights_folder: Path) -> None:
    server.content = FILE[:-1] + b"!"
    with pytest.raises(WeightsError, match="has not the sha256 that the catalogue says") as error:
        pull(spec_at(server))
    assert "\n" not in str(error.value)
    assert names(weights_folder) == []


def test_a_download_without_a_known_hash_is_pinned(server: Server, weights_folder: Path) -> None:
    spec = spec_at(server, sha256=None)
    path = pull(spec).path
    assert names(weights_folder) == [NAME, f"{NAME}.sha256"]
    assert pin_path(path).read_text() == f"{SHA256}  {NAME}\n"
    path.unlink()
    server.content = save({"x": torch.zeros(3)})
    with pytest.raises(WeightsError, match=r"has not the sha256 that came first \(.*model\.safetensors\.sha256\)"):
        pull(spec)
    assert names(weights_folder) == [f"{NAME}.sha256"]


def test_a_file_put_there_by_hand_is_pinned_when_it_is_named(server: Server, weights_folder: Path) -> None:
    (weights_folder / NAME).write_bytes(FILE)
    pull(spec_at(server, sha256=None))
    assert names(weights_folder) == [NAME, f"{NAME}.sha256"]
    assert server.requests == []


def test_a_page_in_the_place_of_a_file_is_not_pinned(server: Server, weights_folder: Path) -> None:
    server.content = b"<html>This model has moved.</html>"
    with pytest.raises(WeightsError, match="what came is no weights file"):
        pull(spec_at(server, sha256=None))
    assert names(weights_folder) == []


def test_404_is_final(server: Server, weights_folder: Path) -> None:
    server.statuses = [404]
    with pytest.raises(WeightsError, match=rf"{server.url}: the server answers 404; look for a newer vidrestore"):
        pull(spec_at(server))
    assert names(weights_folder) == []
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server: Server, weights_folder: Path) -> None:
    server.statuses = [503, 429, 500]
    assert pull(spec_at(server), retry_wait_s=0).path.read_bytes() == FILE
    server.statuses = [503] * NUM_ATTEMPTS
    (weights_folder / NAME).unlink()
    with pytest.raises(WeightsError, match="the server answers 503, 4 times"):
        pull(spec_at(server), retry_wait_s=0)


def test_no_server_at_all(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    spec = spec_at(Server(url=f"http://127.0.0.1:1/{NAME}"))
    with pytest.raises(WeightsError, match="the connection failed or was cut, 4 times"):
        pull(spec, retry_wait_s=0)
    assert names(weights_folder) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk(server: Server, weights_folder: Path) -> None:
    (weights_folder / f"{NAME}.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="cannot be written .*; free some space, or set VIDRESTORE_WEIGHTS"):
        pull(spec_at(server))
    assert names(weights_folder) == [f"{NAME}.part"]


@pytest.mark.skipif(sys.platform == "win32", reason="a file where a folder should be")
def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path / "file" / "weights"))
    with pytest.raises(WeightsError, match="make the folder writable, or set VIDRESTORE_WEIGHTS"):
        pull(spec_at(server))


def test_only_what_is_named_is_downloaded(
    server: Server, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidrestore.models.download.CATALOG", {"model": spec_at(server)})
    assert obtain("model").sha256 == SHA256
    with pytest.raises(WeightsError, match="neither a file nor a model's name"):
        obtain("mode")
    with pytest.raises(WeightsError, match="unknown model 'mode'"):
        pull("mode")
    assert len(server.requests) == 1
