"""Who a face is: only where the recogniser is installed, and always with the face in its place."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from vidrestore.errors import WeightsError
from vidrestore.metrics.identity import FaceRecogniser, identity_similarity


class Shades(nn.Module):
    """Knows a face by its sixteen shades, less their mean."""

    def forward(self, images: Tensor) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(images, 4).mean(dim=1).flatten(1)
        return small - small.mean(dim=1, keepdim=True)


def test_a_face_is_most_like_itself(rng: np.random.Generator) -> None:
    recogniser = FaceRecogniser(Shades(), "gpen")
    one, other = (rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1) for _ in range(2))
    darker = (0.7 * one).astype(np.uint8)
    a, b, c = recogniser.embeddings([one, darker, other])
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5)
    assert identity_similarity(a, a) == pytest.approx(1, abs=1e-5)
    assert identity_similarity(a, b) > 0.99
    assert identity_similarity(a, c) < 0.9


def test_without_weights_it_is_said_how_to_get_them(weights_folder: Path) -> None:
    with pytest.raises(WeightsError, match="vidrestore models pull arcface-ir-se50"):
        FaceRecogniser.installed("gpen")


def test_the_recogniser_is_given_faces_of_its_own_size() -> None:
    seen = []

    class Watching(Shades):
        def forward(self, images: Tensor) -> Tensor:
            seen.append((tuple(images.shape), float(images.min()), float(images.max())))
            return super().forward(images)

    FaceRecogniser(Watching(), "gpen").embeddings([np.arange(256, dtype=np.uint8).repeat(768).reshape(256, 256, 3)])
    assert seen[0][0] == (1, 3, 112, 112)
    assert -1 <= seen[0][1] < seen[0][2] <= 1
