"""Model files: where they are, whether they are what they say they are, and which one to take.

A file must hash to the sha256 of its row. Where the row has none, the hash of the first download (or of the export, for
the embedded models) is written beside the file as `FILE.sha256`, and from then on nothing else is accepted.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from vidrestore.errors import WeightsError
from vidrestore.face import TEMPLATES
from vidrestore.models.catalog import CATALOG
from vidrestore.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model file that has been found and whose hash is right."""

    spec: ModelSpec
    path: Path
    sha256: str
    """Of the file, lower-case hex."""


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What `verify` says of one row of the catalogue."""

    spec: ModelSpec
    path: Path | None
    """None: not installed."""
    sha256: str | None
    """Of the file; None when it is not installed or not as expected."""
    expected_sha256: str | None
    """From the row or pinned; None where there is nothing to compare with."""
    problem: str | None
    """One line, or None."""


def _checkout() -> Path | None:
    """The source tree that this code runs from, or None when it is installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "weights").is_dir() else None


def shipped_folder() -> Path:
    """Where the embedded models are: `weights/` of a checkout, `vidrestore/weights/` of an installed package."""
    checkout = _checkout()
    return checkout / "weights" if checkout else Path(__file__).resolve().parents[1] / "weights"


def weights_folder() -> Path:
    """Where downloads land: `VIDRESTORE_WEIGHTS`, else `weights/` of a checkout, else the user's data directory."""
    if chosen := os.environ.get("VIDRESTORE_WEIGHTS"):
        return Path(chosen).expanduser()
    if checkout := _checkout():
        return checkout / "weights"
    return platformdirs.user_data_path("vidrestore", appauthor=False) / "weights"


def installed_path(spec: ModelSpec) -> Path | None:
    """The model's file, in the weights folder or among the embedded ones; None when it is in neither. Reads nothing."""
    candidates = (folder / spec.file_name for folder in (weights_folder(), shipped_folder()))
    return next((path for path in candidates if path.is_file()), None)


def file_sha256(path: Path) -> str:
    """Lower-case hex. Raises WeightsError when the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise WeightsError(f"{path}: cannot be read ({exc.strerror}); check its permissions") from exc


def pin(path: Path) -> str:
    """Write the file's hash beside it to `FILE.sha256` (the format of `sha256sum`); return it. Raises WeightsError."""
    digest = file_sha256(path)
    try:
        pin_path(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8", newline="\n")
    except OSError as exc:
        raise WeightsError(f"{pin_path(path)}: cannot be written ({exc.strerror}); make the folder writable") from exc
    return digest


def write_weights(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str], target: Path) -> None:
    """Write safetensors with metadata and pin their hash. A reader never sees a file that is partly written."""
    from safetensors.torch import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    save_file(dict(tensors), partial, dict(metadata))
    partial.chmod(0o644)  # safetensors writes files that only their owner can read
    os.replace(partial, target)
    pin(target)


def pin_path(path: Path) -> Path:
    """Where the hash of a model file is pinned."""
    return path.with_name(f"{path.name}.sha256")


def expected_sha256(spec: ModelSpec, path: Path) -> str | None:
    """The hash that the file must have: the row's, else the pinned one, else None.

    Raises WeightsError for a damaged pin.
    """
    pinned = pin_path(path)
    if spec.sha256 is not None or not pinned.is_file():
        return spec.sha256
    match = re.match(r"[0-9a-f]{64}\b", pinned.read_text(encoding="utf-8", errors="replace"))
    if match is None:
        raise WeightsError(f"{pinned}: does not begin with a sha256; delete it and run `{pull_command(spec)}`")
    return match.group()


def check(spec: ModelSpec, path: Path) -> InstalledModel:
    """Compare the file with the hash that it must have. Raises WeightsError when they differ."""
    expected, actual = expected_sha256(spec, path), file_sha256(path)
    if expected not in (None, actual):
        remedy = f"run `{pull_command(spec)}` to download it again" if spec.url else "install vidrestore again"
        raise WeightsError(f"{path}: damaged or another file (sha256 {actual}, expected {expected}); {remedy}")
    return InstalledModel(spec, path, actual)


def pull_command(spec: ModelSpec) -> str:
    """What the user types to download the model."""
    return f"vidrestore models pull {spec.name}"


def find(name_or_path: str | Path) -> InstalledModel:
    """An installed model of the catalogue, or a file of the user's own; its hash is checked, nothing is downloaded.

    Raises WeightsError when there is no such name or file, when the model is not installed, or when its hash is wrong.
    """
    spec = CATALOG.get(str(name_or_path))
    if spec is None:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise WeightsError(f"{name_or_path}: neither a file nor a model's name, which are: {', '.join(CATALOG)}")
        return InstalledModel(spec_of_file(path), path, file_sha256(path))
    found = installed_path(spec)
    if found is None:
        remedy = f"run `{pull_command(spec)}`" if spec.url else "it ships with vidrestore: install vidrestore again"
        raise WeightsError(f"{spec.name}: {spec.file_name} is not in {weights_folder()}; {remedy}")
    return check(spec, found)


def verify() -> list[ModelCheck]:
    """Hash every installed model of the catalogue. An embedded model that is missing is a problem, others are not."""
    checks = []
    for spec in CATALOG.values():
        path = installed_path(spec)
        sha256 = expected = problem = None
        if path is not None or spec.url is None:
            try:
                sha256 = find(spec.name).sha256
                expected = expected_sha256(spec, path) if path else None
            except WeightsError as exc:
                problem = str(exc)
        checks.append(ModelCheck(spec, path, sha256, expected, problem))
    return checks


def spec_of_file(path: Path) -> ModelSpec:
    """The row that the catalogue would have for a file of the user's own, read off its tensors and metadata.

    Raises WeightsError when the file cannot be read, looks like a GPEN and is none, or names an unknown template.
    """
    from vidrestore.models.gpen import GpenConfig, StateDictError  # late: torch takes seconds to load
    from vidrestore.models.state_dict import read_metadata, read_state_dict

    metadata = read_metadata(path)
    state = read_state_dict(path)
    spec = ModelSpec(
        name=path.stem,
        kind="detector",
        file_name=path.name,
        url=None,
        sha256=None,
        size_bytes=path.stat().st_size,
        license=metadata.get("license", "unknown"),
        source=metadata.get("source", "the user's own file"),
    )
    if not any(key.startswith("generator.") for key in state):
        return spec
    template = template_of(path, metadata)
    try:
        crop_px = GpenConfig.from_state_dict(state).size_px
    except StateDictError as exc:
        raise WeightsError(f"{path}: {exc}; choose another file with --model") from exc
    return replace(spec, kind="restorer", crop_px=crop_px, template=template)


def template_of(path: Path, metadata: Mapping[str, str]) -> str:
    """Which of `TEMPLATES` a file names in its metadata; GPEN's where it names none. Raises WeightsError."""
    template = metadata.get("template", "gpen")
    if template not in TEMPLATES:
        raise WeightsError(f"{path}: its alignment template {template!r} is none of: {', '.join(TEMPLATES)}")
    return template
