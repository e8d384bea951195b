"""Files that appear only when they are complete."""

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vidrestore.errors import TargetError


def check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    """Raise TargetError, before any work, when the target cannot or must not be written."""
    with writing(target):  # a name may be too long even to be asked about
        exists = target.exists()
    if exists and source.exists() and target.samefile(source):
        raise TargetError(f"{target}: is the source itself; choose another output with -o")
    if target.is_dir():
        raise TargetError(f"{target}: is a folder; name a file")
    if exists and not overwrite:
        raise TargetError(f"{target}: exists already; use --overwrite or choose another output with -o")
    folder = target.parent
    if not folder.is_dir():
        raise TargetError(f"{target}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise TargetError(f"{target}: no permission to write in {folder}; choose another output with -o")


def real_place(path: Path) -> Path:
    """Where a file of this name comes to lie, however its folder is spelled. A link of that name would be replaced."""
    return Path(os.path.realpath(path.parent)) / path.name


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn the system's refusals inside the block into a TargetError that names the file."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise TargetError(f"{target}: cannot be written ({reason}); free space or choose another place") from exc


@contextmanager
def replaced_when_complete(
    target: Path, *, folder: Path | None = None, check: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Yield a new, empty file with the target's suffix; rename it over the target if the block succeeds.

    The file lies in `folder`, on the target's disk, or beside the target. It is flushed to the disk, then given to
    `check`, and renamed unless that raises. After an error or Ctrl-C, nothing is left. Raises TargetError when the
    folder cannot be written to, before the block is entered, and when the renaming fails.
    """
    temporary = (folder or target.parent) / f".vidrestore-{uuid.uuid4().hex[:12]}{target.suffix}"
    try:
        with writing(target):
            temporary.open("xb").close()
        yield temporary
        with writing(target):
            flush_to_disk(temporary)
        if check is not None:
            check(temporary)
        with writing(target):
            os.replace(temporary, target)
            flush_to_disk(target.parent)
    finally:
        with contextlib.suppress(OSError):  # such as a folder that does not exist
            temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, would survive a power cut."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders, and writes their lists by itself
    try:
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if path.is_dir():
            return  # where one may write and not look
        raise
    try:
        os.fsync(number)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network and memory file systems know no such thing
            raise
    finally:
        os.close(number)
