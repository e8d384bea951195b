"""Files that appear only when they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidrestore.errors import TargetError


def check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    """Raise TargetError, before any work, when the target cannot or must not be written."""
    if target.exists() and source.exists() and target.samefile(source):
        raise TargetError(f"{target}: is the source itself; choose another output with -o")
    if target.is_dir():
        raise TargetError(f"{target}: is a folder; name a file")
    if target.exists() and not overwrite:
        raise TargetError(f"{target}: exists already; use --overwrite or choose another output with -o")
    folder = target.parent
    if not folder.is_dir():
        raise TargetError(f"{target}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise TargetError(f"{target}: no permission to write in {folder}; choose another output with -o")


@contextmanager
def replaced_when_complete(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder, with its suffix; rename it over the target if the block succeeds.

    After an error, nothing is left. Raises TargetError when the renaming fails.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield temporary
        try:
            os.replace(temporary, target)
        except OSError as exc:
            raise TargetError(f"{target}: cannot be written ({exc.strerror}); choose another output with -o") from exc
    finally:
        temporary.unlink(missing_ok=True)
