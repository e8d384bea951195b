"""How model files come here: resumed where they were cut, checked before they appear under their own name."""

import errno
import logging
import time
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from tqdm import tqdm

from vidrestore.errors import WeightsError
from vidrestore.models.catalog import CATALOG, spec_of
from vidrestore.models.spec import ModelSpec
from vidrestore.models.state_dict import read_state_dict
from vidrestore.models.weights import (
    InstalledModel,
    check,
    expected_sha256,
    find,
    installed_path,
    pin,
    pin_path,
    pull_command,
    weights_folder,
)

logger = logging.getLogger("vidrestore")

NUM_ATTEMPTS = 4
RETRY_WAIT_S = 2.0
"""Before the second attempt; doubled before each further one."""
TIMEOUT_S = 30.0
"""A server that sends nothing for so long is asked again."""
BUSY_STATUSES = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""Answers below 500 that mean "later"."""
CHUNK_BYTES = 2**16
"""At most so much of what came is lost when the connection is cut."""


def obtain(name_or_path: str | Path, *, progress: bool = False) -> InstalledModel:
    """`find`, but a catalogue model that is not installed is downloaded: it has been named. Raises WeightsError."""
    spec = CATALOG.get(str(name_or_path))
    if spec is not None and spec.url is not None and installed_path(spec) is None:
        return pull(spec, progress=progress)
    return find(name_or_path)


def pull(model: str | ModelSpec, *, progress: bool = False, retry_wait_s: float = RETRY_WAIT_S) -> InstalledModel:
    """Download a model of the catalogue into the weights folder, unless it is there and sound. Logs the licence.

    A download that was cut goes on from its `.part` file; the file appears under its own name only when it is complete
    and its hash is right. Raises WeightsError naming the address and the way out.
    """
    spec = spec_of(model) if isinstance(model, str) else model
    if spec.url is None:
        return find(spec.name)
    present = installed_path(spec)
    if present is not None:
        try:
            installed = check(spec, present)
        except WeightsError:
            logger.warning("%s: damaged or another file; downloading it again", present)
        else:
            if expected_sha256(spec, present) is None:
                pin(present)
            return installed

    path = weights_folder() / spec.file_name
    expected = expected_sha256(spec, path)
    size = f"{spec.size_bytes / 1e6:.0f} MB" if spec.size_bytes else "size unknown"
    logger.info("downloading %s (%s) from %s; licence: %s", spec.name, size, spec.url, spec.license)
    _download(spec, path, expected, progress=progress, retry_wait_s=retry_wait_s)
    if expected is None:  # nobody has vouched for these bytes, so at least let them be weights (and no error page)
        try:
            read_state_dict(path)
        except WeightsError as exc:
            path.unlink()
            raise WeightsError(f"{spec.url}: what came is no weights file ({exc}); try again later") from exc
        logger.info("%s: no hash is known in public; pinned sha256 %s", path.name, pin(path))
    return check(spec, path)


def _download(spec: ModelSpec, path: Path, sha256: str | None, *, progress: bool, retry_wait_s: float) -> None:
    """Bring the file to `path`, trying `NUM_ATTEMPTS` times. Raises WeightsError."""
    import pooch  # late: 0.1 s with requests, and most runs download nothing
    import requests

    assert spec.url is not None, "embedded models are not downloaded"
    pooch.get_logger().setLevel("WARNING")  # `pull` has said what it does
    part = path.with_name(f"{path.name}.part")

    def to_temporary(url: str, temporary: str, _: object) -> None:
        _stream(url, part, progress=progress)
        part.replace(temporary)  # pooch hashes it, then renames or deletes it

    for attempt in range(NUM_ATTEMPTS):
        try:
            pooch.retrieve(spec.url, sha256, fname=path.name, path=path.parent, downloader=to_temporary)
            return
        except requests.RequestException as exc:  # an OSError too, so it must come first
            status = exc.response.status_code if exc.response is not None else None
            if status is not None and status < 500 and status not in BUSY_STATUSES:
                hint = "look for a newer vidrestore, or give your own copy with --model FILE"
                raise WeightsError(f"{spec.url}: the server answers {status}; {hint}") from exc
            if attempt == NUM_ATTEMPTS - 1:
                why = f"the server answers {status}" if status else "the connection failed or was cut"
                hint = f"`{pull_command(spec)}` goes on where it stopped"
                raise WeightsError(f"{spec.url}: {why}, {NUM_ATTEMPTS} times; {hint}") from exc
            time.sleep(retry_wait_s * 2**attempt)
        except ValueError as exc:  # pooch's word for a wrong hash
            whose = "the catalogue says" if spec.sha256 else f"came first ({pin_path(path)})"
            hint = "it is deleted; try again later, and trust no other copy from there"
            raise WeightsError(f"{spec.url}: what came has not the sha256 that {whose}; {hint}") from exc
        except OSError as exc:
            way = "free some space" if exc.errno == errno.ENOSPC else "make the folder writable"
            raise WeightsError(
                f"{path}: cannot be written ({exc.strerror}); {way}, or set VIDRESTORE_WEIGHTS to another folder"
            ) from exc


def _stream(url: str, part: Path, *, progress: bool) -> None:
    """Append to `part` what it lacks of the file at `url`. Raises requests.RequestException and OSError."""
    import requests  # late, as above

    have_bytes = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # byte ranges and lengths of the file itself
    if have_bytes:
        # Should the file have changed since, the server says 412 instead of sending a tail that does not fit.
        since = formatdate(part.stat().st_mtime, usegmt=True)
        headers |= {"Range": f"bytes={have_bytes}-", "If-Unmodified-Since": since}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        if have_bytes and response.status_code in (
            HTTPStatus.PRECONDITION_FAILED,
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,  # the part is as long as the file, or longer
        ):
            part.unlink()
            return _stream(url, part, progress=progress)
        response.raise_for_status()
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            have_bytes = 0  # this server knows no ranges and begins anew
        length = response.headers.get("Content-Length")
        total_bytes = have_bytes + int(length) if length else None
        with (
            part.open("ab" if have_bytes else "wb") as file,
            tqdm(
                total=total_bytes, initial=have_bytes, unit="B", unit_scale=True, desc=part.stem, disable=not progress
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
    if total_bytes is not None and part.stat().st_size != total_bytes:
        raise requests.ConnectionError(f"{part.stat().st_size} of {total_bytes} bytes came")
