"""Files that appear only when they are complete."""

import contextlib
import os
from collections.abc import Iterator
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


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn the system's refusals inside the block into a TargetError that names the file."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise TargetError(f"{target}: cannot be written ({reason}); free space or choose another place") from exc


@contextmanager
def replaced_when_complete(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder, with its suffix; rename it over the target if the block succeeds.

    After an error, nothing is left. Raises TargetError when the renaming fails.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield temporary
        with writing(target):
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):  # such as a name too long to have been made
            temporary.unlink(missing_ok=True)
