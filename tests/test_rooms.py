"""Rooms: who may import whom. It keeps `import vidrestore` fast and every part replaceable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vidrestore

PACKAGE = Path(vidrestore.__file__).parent
HEAVY = ("torch", "av", "cv2", "scipy", "facexlib", "decord", "matplotlib")

DOORS = ("vidrestore.training", "vidrestore.metrics")
"""Rooms that nothing imports, but for a late door in `cli.py` and, to the metrics, in `pipeline.py`."""

FORBIDDEN = {
    "core": ("torch", "av", "cv2", "vidrestore.video", "vidrestore.stages", "vidrestore.models", *DOORS),
    "video": ("torch", "cv2", "vidrestore.stages", "vidrestore.models", *DOORS),
    "stages": ("torch", "av", "vidrestore.video", "vidrestore.device", *DOORS),
    "device": ("av", "vidrestore.video", "vidrestore.pipeline", *DOORS),
    "models": ("av", "vidrestore.video", "vidrestore.stages", "vidrestore.device", *DOORS),
    "faces_file": ("torch", "av", "cv2", "vidrestore.video", "vidrestore.models", "vidrestore.device", *DOORS),
    "verify": ("torch", "vidrestore.stages", "vidrestore.models", "vidrestore.device", *DOORS),
    "pipeline": ("vidrestore.training",),
    "metrics": ("vidrestore.training",),
    "training": ("vidrestore.metrics",),
}
CORE = ("frame.py", "face.py", "layout.py", "errors.py", "options.py", "report.py", "background.py", "target.py")
ROOMS = {
    "core": [PACKAGE / name for name in CORE],
    "video": sorted((PACKAGE / "video").glob("*.py")),
    "stages": sorted((PACKAGE / "stages").glob("*.py")),
    "device": sorted((PACKAGE / "device").glob("*.py")),
    "models": sorted((PACKAGE / "models").rglob("*.py")),
    "faces_file": sorted((PACKAGE / "faces_file").glob("*.py")),
    "verify": sorted((PACKAGE / "verify").glob("*.py")),
    "metrics": sorted((PACKAGE / "metrics").glob("*.py")),
    "training": sorted((PACKAGE / "training").glob("*.py")),
    # cli.py has a door to the training room, which it opens late; see the test at the end.
    "pipeline": [path for path in PACKAGE.glob("*.py") if path.name not in (*CORE, "cli.py")],
}


def imported(path: Path) -> set[str]:
    """Modules imported anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    assert ROOMS[room]
    for path in ROOMS[room]:
        for name in imported(path):
            broken = [rule for rule in FORBIDDEN[room] if name == rule or name.startswith(rule + ".")]
            assert not broken, f"{path.relative_to(PACKAGE)} imports {name}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, vidrestore; vidrestore.Options(); print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_is_there() -> None:
    for name in vidrestore.__all__:
        assert getattr(vidrestore, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'restore_audio'"):
        vidrestore.restore_audio  # noqa: B018 - the access is what is tested


def test_restoring_works_without_the_training_room_and_the_metrics() -> None:
    """A command that is not `train`, `evaluate` or `report` never looks into them."""
    code = (
        "import sys; sys.modules['vidrestore.training'] = sys.modules['vidrestore.metrics'] = None\n"
        "from vidrestore.cli import main\n"
        "main(['models', 'list'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gpen-lite-256" in done.stdout
