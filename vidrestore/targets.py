"""What a run is to write, looked at before any work: whether it can be written, and whether it may."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vidrestore.errors import OptionsError, SourceError, TargetError
from vidrestore.options import Options
from vidrestore.target import check_target, real_place, writing
from vidrestore.video.sequence import find_sequence, is_sequence
from vidrestore.video.sequence_target import check_sequence_target, is_sequence_target, place_of
from vidrestore.work import was_placed


def check_outputs(target: Path, options: Options, *, source: Path) -> None:
    """Raise TargetError when one of the files to write cannot or must not be written, SourceError without a source."""
    check_source(source)
    targets = [path for path in (target, options.faces, options.compare) if path is not None]
    if options.report:
        targets += report_files(options.report)
    if is_sequence(source) or is_sequence_target(target):
        check_sequence_options(target, options, source=source)
    places = [place_of(target), *targets[1:]]
    for path, place in zip(targets, places, strict=True):
        check_none_is_read(path, options, source=source)
        overwrite = options.overwrite or was_placed(places[0], place)
        if path != place:
            check_sequence_target(path, source, overwrite=overwrite)
        else:
            check_target(path, source, overwrite=overwrite)
    if len({real_place(place) for place in places}) < len(places):
        raise TargetError(f"{target}: two outputs have the same name; choose different ones")


def check_analysis(faces: Path, options: Options, *, source: Path) -> None:
    """The same for a run that writes nothing but a faces file."""
    check_source(source)
    check_none_is_read(faces, options, source=source)
    check_target(faces, source, overwrite=options.overwrite or was_placed(faces, faces))


def check_none_is_read(path: Path, options: Options, *, source: Path) -> None:
    """Raise TargetError for an output that is the same file as one that the run reads, by whatever name."""
    with writing(path):  # a name may be too long even to be asked about
        if not path.exists():
            return
    for what, given in _read_files(options, source):
        with contextlib.suppress(OSError):  # such as the name of a model, which is no file
            if path.samefile(given):
                raise TargetError(f"{path}: is {what} itself; choose another output")


def _read_files(options: Options, source: Path) -> Iterator[tuple[str, Path]]:
    yield "the source", source
    if is_sequence(source):
        sequence = find_sequence(source)
        for position in range(sequence.num_images):
            yield "an image of the source", sequence.file(position)
    if options.from_faces:
        yield "the faces file that is read", options.from_faces
    yield "the model", Path(options.model).expanduser()
    yield "the detector", Path(options.detector).expanduser()


def check_sequence_options(target: Path, options: Options, *, source: Path) -> None:
    """Raise OptionsError for what is not there for images, or TargetError for a file that would lie among them."""
    if options.report:
        raise OptionsError(f"{source}: report measures two video files, and here are images; leave it out")
    if not is_sequence_target(target):
        return
    given = [name for name in ("crf", "preset") if getattr(options, name) is not None]
    given += ["codec"] * (options.codec != "auto") + ["quality"] * (options.quality == "share")
    if given:
        raise OptionsError(f"{target}: images are written without loss, by their suffix; leave {given[0]} out")
    for path in filter(None, (options.faces, options.compare)):
        if real_place(path).parent == real_place(target).parent:
            raise TargetError(f"{path}: lies in the folder of the images, which is made as a whole; choose another")


def check_source(source: Path) -> None:
    """Raise SourceError when it is not there."""
    if is_sequence(source):
        find_sequence(source)
        return
    try:
        exists = source.exists()
    except OSError as exc:  # such as a folder that must not be entered
        raise SourceError(f"{source}: cannot be opened ({exc.strerror}); check the path and its permissions") from exc
    if not exists:
        raise SourceError(f"{source}: no such file; check the path")


def report_files(page: Path) -> tuple[Path, Path]:
    """The page of `--report` and its JSON. Raises TargetError for another name than .html."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise TargetError(f"{page}: a report is a page; give it a name that ends in .html")
    return page, page.with_suffix(".json")
