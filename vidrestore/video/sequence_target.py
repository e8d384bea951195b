"""Where images are written: folders and patterns for what the user names, and what may be replaced there."""

import os
from pathlib import Path

from vidrestore.errors import TargetError
from vidrestore.target import writing
from vidrestore.video.sequence import find_sequence, is_pattern, is_sequence

DEFAULT_PATTERN = "%06d.png"
"""For images of a video, counted from 1."""
FILE_MANAGERS_NAMES = frozenset({".directory", ".ds_store", "._.ds_store", "desktop.ini", "ehthumbs.db", "thumbs.db"})
"""In small letters. File managers leave these in folders that somebody looks at; whose they are matters to nobody."""


def is_sequence_target(target: Path) -> bool:
    """Whether images are to be written there: a pattern, as `resolved_target` gives it."""
    return is_pattern(target)


def resolved_target(source: Path, output: Path | str) -> Path:
    """The file or the pattern to write, for what the user has named: a folder (one that is there, or a text that ends
    in a slash) stands for the source's own names in it, or for `DEFAULT_PATTERN`."""
    target = Path(output)
    if not (target.is_dir() or str(output).endswith(("/", os.sep))):
        return target
    return target / (find_sequence(source).pattern if is_sequence(source) else DEFAULT_PATTERN)


def default_target(source: Path) -> Path:
    """Beside the folder of a sequence: FOLDER_restored, with the source's own names."""
    sequence = find_sequence(source)
    folder = sequence.folder.absolute()
    return folder.with_name(f"{folder.name}_restored") / sequence.pattern


def place_of(target: Path) -> Path:
    """What appears when all is complete: the file, or the folder of the images."""
    return target.parent if is_sequence_target(target) else target


def check_sequence_target(target: Path, source: Path, *, overwrite: bool) -> None:
    """Raise TargetError, before any work, when the folder cannot or must not be written."""
    folder = target.parent
    if folder.name in ("", ".."):
        raise TargetError(f"{target}: name a folder for the images, such as restored/{target.name}")
    with writing(target):
        exists = folder.exists()
    if folder.is_symlink() or (exists and not folder.is_dir()):
        raise TargetError(f"{folder}: is no folder of its own; choose another output with -o")
    if not folder.parent.is_dir():
        raise TargetError(f"{folder}: the folder {folder.parent} does not exist; make it first")
    if not os.access(folder.parent, os.W_OK):
        raise TargetError(f"{folder}: no permission to write in {folder.parent}; choose another output with -o")
    if not exists:
        return
    source_folder = source if source.is_dir() else source.parent
    if source_folder.exists() and folder.samefile(source_folder):
        raise TargetError(f"{folder}: is the source's own folder; choose another output with -o")
    with writing(folder):
        names = sorted(file.name for file in folder.iterdir() if not is_file_managers(file))
    if names and not overwrite:
        raise TargetError(f"{folder}: is not empty; use --overwrite or choose another output with -o")
    check_only_ours(folder, [name for name in names if not _follows(name, target.name)])


def is_file_managers(file: Path) -> bool:
    """Whether it is no image nor anything of the user's, but what a file manager notes about a folder."""
    return file.name.lower() in FILE_MANAGERS_NAMES and file.is_file()


def check_only_ours(folder: Path, others: list[str]) -> None:
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise TargetError(
            f"{folder}: holds {others[0]}{more}, which this run would not write; move that elsewhere, or choose "
            "another output with -o"
        )


def _follows(name: str, pattern: str) -> bool:
    """Whether the pattern gives this name for some number."""
    digits = "".join(character if character.isdigit() else " " for character in name).split()
    return any(pattern % int(number) == name for number in digits)
