"""A film that is a folder of numbered images stays one: same names, same samples, nothing missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.scans import KINDS, UNTOUCHED, contents, look, make_images, names, picture, restore
from vidrestore.errors import RestoreError
from vidrestore.frame import RestoredFrame
from vidrestore.report import Report

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", KINDS)
def test_images_keep_names_depth_and_every_sample_outside_faces(tmp_path: Path, kind: str) -> None:
    source, target = make_images(tmp_path / "scans", kind), tmp_path / "restored"
    before = contents(source)
    report = restore(source, f"{target}/")
    assert (report.num_frames, report.num_faces_restored) == (12, 12)
    assert not [line for line in report.warnings if "tiff" not in kind]
    assert names(target) == names(source)
    assert contents(source) == before
    for index, name in enumerate(names(target)):
        was, now = look(source / name, kind), look(target / name, kind)
        assert np.array_equal(was, picture(index, *KINDS[kind][1:]))
        assert now.dtype == was.dtype
        assert np.array_equal(now[UNTOUCHED], was[UNTOUCHED])
        assert not np.array_equal(now, was)
        if now.ndim == 3 and now.shape[2] == 4:
            assert np.array_equal(now[..., 3], was[..., 3])
    assert names(tmp_path) == ["restored", "scans"]


def test_a_run_killed_in_the_middle_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans", "dpx, 10 bits", 17)
    restore(source, f"{tmp_path}/whole/")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.scans import restore\n"
        "def kill(done, report):\n"
        "    if report.num_frames == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        "restore(Path(sys.argv[1]), sys.argv[2], on_frame=kill)\n"
    )
    command = [sys.executable, "-c", script, str(source), f"{tmp_path}/parts/"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert names(tmp_path) == ["parts.work", "scans", "whole"]
    report = restore(source, f"{tmp_path}/parts/")
    assert (report.num_frames, report.num_frames_resumed) == (17, 10)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert names(tmp_path) == ["parts", "scans", "whole"]


def test_an_error_leaves_no_images(tmp_path: Path) -> None:
    source = make_images(tmp_path / "scans")

    def stop(_done: RestoredFrame, report: Report) -> None:
        if report.num_frames == 3:
            raise RestoreError("stopped")

    with pytest.raises(RestoreError, match="stopped"):
        restore(source, f"{tmp_path}/out/", on_frame=stop)
    assert names(tmp_path) == ["scans"]
