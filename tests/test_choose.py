"""`--model auto` takes the best installed restorer for the faces of a clip, and says how to get a better one."""

from pathlib import Path

import pytest

from vidrestore.models.catalog import EMBEDDED_RESTORER, spec_of
from vidrestore.models.choose import choose_restorer, face_width_in_crop_px, has_choice


def put(folder: Path, name: str) -> None:
    """Any content does: choosing looks only at which files are there."""
    (folder / spec_of(name).file_name).write_bytes(b"weights")


@pytest.mark.parametrize(
    ("installed", "face_px", "on_cpu", "chosen"),
    [
        ([], 100, False, EMBEDDED_RESTORER),
        (["gpen-bfr-256"], 100, True, "gpen-bfr-256"),
        (["gpen-bfr-256", "gpen-bfr-512"], 20, True, "gpen-bfr-512"),
        (["gpen-bfr-512", "gpen-bfr-1024"], 200, False, "gpen-bfr-512"),
        (["gpen-bfr-512", "gpen-bfr-1024"], 300, False, "gpen-bfr-1024"),
        (["gpen-bfr-512", "gpen-bfr-1024"], 300, True, "gpen-bfr-512"),  # never 1024 on a CPU unasked
        (["gpen-bfr-1024"], 300, True, EMBEDDED_RESTORER),
        (["gpen-bfr-512", "gpen-bfr-2048"], 3000, False, "gpen-bfr-2048"),
    ],
)
def test_auto_takes_the_best_installed_model_for_the_faces(
    weights_folder: Path, installed: list[str], face_px: float, on_cpu: bool, chosen: str
) -> None:
    for name in installed:
        put(weights_folder, name)
    spec, line = choose_restorer([face_px] * 10, on_cpu=on_cpu)
    assert spec.name == chosen
    assert f"model {chosen}" in line
    assert "\n" not in line


def test_auto_says_how_to_get_a_better_model_and_only_then(weights_folder: Path) -> None:
    assert not has_choice(on_cpu=True)
    assert "`vidrestore models pull gpen-bfr-512`" in choose_restorer([], on_cpu=True)[1]
    put(weights_folder, "gpen-bfr-512")
    assert has_choice(on_cpu=True)
    assert "pull" not in choose_restorer([], on_cpu=True)[1]
    assert "`vidrestore models pull gpen-bfr-1024`" in choose_restorer([400.0], on_cpu=False)[1]


def test_auto_looks_at_the_larger_faces_but_not_at_one_that_is_by_chance(weights_folder: Path) -> None:
    put(weights_folder, "gpen-bfr-512")
    put(weights_folder, "gpen-bfr-1024")
    assert choose_restorer([100.0] * 95 + [400.0] * 5, on_cpu=False)[0].name == "gpen-bfr-512"
    assert choose_restorer([100.0] * 80 + [400.0] * 20, on_cpu=False)[0].name == "gpen-bfr-1024"


def test_the_tight_template_shows_a_face_nearly_twice_as_large() -> None:
    assert face_width_in_crop_px(spec_of("gpen-bfr-512")) == pytest.approx(233, abs=1)
    assert face_width_in_crop_px(spec_of("gpen-lite-256")) == pytest.approx(200, abs=1)
