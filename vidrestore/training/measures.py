"""What is measured of restored faces, beside the true ones."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidrestore.errors import InputError, OptionsError
from vidrestore.models.backends.pytorch import resolve_device
from vidrestore.training import losses
from vidrestore.training.data import stack_images, to_network

Images = NDArray[np.uint8]
"""(N, S, S, 3) RGB."""
Measure = Callable[[Images, Images], NDArray[np.float64]]
"""(results, truths) -> (N,), one figure for each face."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured of every result."""

    title: str
    decimals: int
    has_gain: bool
    """Whether the difference to the degraded input says something."""


FIGURES: Mapping[str, Figure] = {
    "psnr_db": Figure(f"PSNR in dB, at most {losses.EQUAL_DB:g} (higher is better)", 2, True),
    "ssim": Figure("SSIM (higher is better)", 3, True),
    "sharpness": Figure("Sharpness: gradient energy against the truth's (1 is the truth)", 2, False),
    "lpips": Figure("LPIPS (lower is better)", 3, True),
    "identity": Figure("Identity: 1 - cosine of ArcFace's embeddings (lower is better)", 3, True),
}


def psnr_db(results: Images, truths: Images) -> NDArray[np.float64]:
    """Not above `losses.EQUAL_DB`, as in training."""
    figures = losses.psnr_db(_tensors(results).double(), _tensors(truths).double())
    return np.asarray(figures.clamp_max(losses.EQUAL_DB).numpy())


def ssim(results: Images, truths: Images) -> NDArray[np.float64]:
    """With the Gaussian window of Wang et al., IEEE Transactions on Image Processing 13(4), 2004. S >= 11 px."""
    try:
        from skimage.metrics import structural_similarity  # late: an extra
    except ImportError as exc:
        raise OptionsError("SSIM needs scikit-image; run `pip install 'vidrestore[train]'`") from exc
    of_pair: Callable[..., float] = functools.partial(
        structural_similarity, channel_axis=2, data_range=255, gaussian_weights=True, use_sample_covariance=False
    )
    return np.array([of_pair(result, truth) for result, truth in zip(results, truths, strict=True)])


def sharpness(results: Images, truths: Images) -> NDArray[np.float64]:
    """Gradient energy, as a share of the truth's."""
    after, true = (losses.gradient_energy(_tensors(images)).double().numpy() for images in (results, truths))
    return np.asarray(after / np.maximum(true, np.finfo(np.float32).tiny))


PLAIN_MEASURES: Mapping[str, Measure] = {"psnr_db": psnr_db, "ssim": ssim, "sharpness": sharpness}


def installed_measures(device: str, template: str) -> tuple[dict[str, Measure], dict[str, str]]:
    """LPIPS and identity as far as their weights are there, and for each of the others one line on why it is absent."""
    # Late: a machine that only has PyTorch lacks their needs.
    from vidrestore.training.perceptual import Identity, Lpips

    where = resolve_device(device)
    loaders: dict[str, Callable[[], Any]] = {
        "lpips": lambda: Lpips.installed(where),
        "identity": lambda: Identity.installed(where, template),
    }
    measures: dict[str, Measure] = {}
    absent = {}
    for name, load in loaders.items():
        try:
            measures[name] = functools.partial(_by_network, load(), where)
        except InputError as exc:
            absent[name] = str(exc)
    return measures, absent


def _by_network(network: Any, device: torch.device, results: Images, truths: Images) -> NDArray[np.float64]:
    with torch.inference_mode():
        distances = network.per_image(_tensors(results).to(device), _tensors(truths).to(device))
    return np.asarray(distances.double().cpu().numpy())


def _tensors(images: Images) -> torch.Tensor:
    """(N, 3, S, S) float32 in [-1, 1]."""
    return to_network(stack_images(list(images)))
