"""IDS: whether a face is still the same person's, as a face recogniser sees it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vidrestore.metrics.warping import Picture
from vidrestore.models.arcface import arcface_box, arcface_input, load_arcface


class FaceRecogniser:
    """ArcFace embeddings (see `models/arcface.py`) of aligned crops."""

    def __init__(self, network: nn.Module, template: str, device: torch.device | str = "cpu") -> None:
        """`network`: (N, 3, 112, 112) BGR in [-1, 1] -> (N, D). `template`: that of the crops, a key of `TEMPLATES`."""
        self._device = torch.device(device)
        self._network = network.to(self._device).requires_grad_(False).eval()
        self._box = arcface_box(template)

    @classmethod
    def installed(cls, template: str, device: torch.device | str = "cpu") -> "FaceRecogniser":
        """Raises WeightsError, with the command that gets them, when the weights are not installed or not sound."""
        return cls(load_arcface(), template, device)

    def embeddings(self, crops: list[Picture]) -> NDArray[np.float32]:
        """Crops (S, S, 3) uint8 RGB of one size -> (N, D) of length 1."""
        levels = torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            found = self._network(arcface_input(levels / 127.5 - 1, self._box))
        return np.asarray(nn.functional.normalize(found, dim=1).cpu().numpy(), dtype=np.float32)


def identity_similarity(embedding: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """IDS: the cosine of two embeddings (D,) of length 1; 1 the same face, about 0 another person's.

    As video face restoration reports it, such as Feng, Li and Loy, "Kalman-inspired feature propagation for video face
    super-resolution", ECCV 2024; recognisers differ, so figures compare within one program only.
    """
    return float(np.dot(embedding, reference))
