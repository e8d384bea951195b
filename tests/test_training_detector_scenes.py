"""Scenes for the detector's training are varied, and the same for the same seed."""

from pathlib import Path

import numpy as np

from tests.drawn_faces import drawn_scene_maker


def test_scenes_are_seeded_and_of_all_kinds(tmp_path: Path) -> None:
    maker = drawn_scene_maker(tmp_path / "faces")
    first, second = (maker.make(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    rng = np.random.default_rng(6)
    counts = [len(scene.boxes) for scene in (maker.make(rng) for _ in range(30))]
    assert min(counts) == 0, "some scenes hold decoys alone"
    assert max(counts) >= 3, "some scenes are crowded"
