"""Losses that see with networks trained by others: perceptual (VGG-19), LPIPS, and identity (ArcFace).

Called with (output, target), both (N, 3, S, S) float32 RGB in [-1, 1], each gives a scalar tensor, 0 for equal
pictures; `per_image` gives (N,), for evaluation. Gradients reach the output only. The networks are frozen.

Nothing is downloaded here. `installed` raises WeightsError with the command that gets the file, and OptionsError with
the one that gets a package: a loss that was asked for and cannot be computed is never a silent zero.
"""

import warnings
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn

from vidrestore.errors import OptionsError
from vidrestore.models.arcface import arcface_box, arcface_input, load_arcface
from vidrestore.models.state_dict import assign, read_state_dict
from vidrestore.models.weights import find

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in [0, 1]: what torchvision's networks were trained with."""
IMAGENET_STD = (0.229, 0.224, 0.225)

VGG_TAPS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
"""Index in torchvision's `vgg19().features` -> weight: relu1_1, 2_1, 3_1, 4_1 and 5_1, weighted as in pix2pixHD (Wang
et al., CVPR 2018)."""


class _FrozenLoss(nn.Module, ABC):
    """A network that is never trained, and a distance in its features."""

    def _freeze(self, device: torch.device | str) -> None:
        """To be called at the end of a constructor."""
        self.to(device=device, dtype=torch.float32).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "_FrozenLoss":
        """Stays in evaluation mode, whatever it is a part of: ArcFace has batch normalisation and dropout."""
        return super().train(False)

    @abstractmethod
    def per_image(self, output: Tensor, target: Tensor) -> Tensor:
        """(N,), one distance for each pair."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean distance."""
        return self.per_image(output, target).mean()


class VggPerceptual(_FrozenLoss):
    """L1 between features of VGG-19 (Johnson et al., ECCV 2016; layers and weights of pix2pixHD). S >= 16 px."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential, device: torch.device | str = "cpu") -> None:
        """`features` as torchvision's `vgg19().features`; what lies behind the last tap is dropped."""
        super().__init__()
        self.features = features[: max(VGG_TAPS) + 1]
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        self._freeze(device)

    @classmethod
    def installed(cls, device: torch.device | str) -> "VggPerceptual":
        """With ImageNet's weights. Raises WeightsError when `vgg19` is not installed or not sound."""
        model = find("vgg19")
        from torchvision.models import vgg19  # late: torchvision takes seconds to load

        with torch.device("meta"):  # 144 million random numbers less
            features = vgg19(weights=None).features[: max(VGG_TAPS) + 1]
        state = read_state_dict(model.path)
        wanted = {key: state.get(f"features.{key}") for key in features.state_dict()}
        assign(features, wanted, model.path, "vgg19", "torchvision")
        return cls(features, device)

    def per_image(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._tapped(target)
        distances = [
            weight * (seen - true).abs().mean(dim=(1, 2, 3))
            for weight, seen, true in zip(VGG_TAPS.values(), self._tapped(output), wanted, strict=True)
        ]
        return torch.stack(distances).sum(dim=0)

    def _tapped(self, images: Tensor) -> list[Tensor]:
        x = ((images + 1) / 2 - self.mean) / self.std
        tapped = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in VGG_TAPS:
                tapped.append(x)
        return tapped


class Lpips(_FrozenLoss):
    """LPIPS 0.1 with AlexNet (Zhang et al., CVPR 2018), the variant that agrees best with people. S >= 32 px."""

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        """`network` is a `lpips.LPIPS`."""
        super().__init__()
        self.network = network
        self._freeze(device)

    @classmethod
    def installed(cls, device: torch.device | str) -> "Lpips":
        """With AlexNet's weights of ImageNet, and those that come with the package `lpips` to compare its features.

        Raises OptionsError when the package is missing, WeightsError when `alexnet` is not installed or not sound.
        """
        try:
            import lpips  # late: optional
        except ImportError as exc:
            raise OptionsError("LPIPS needs the package lpips; run `pip install 'vidrestore[train]'`") from exc
        model = find("alexnet")
        with warnings.catch_warnings(), torch.device("meta"):
            # lpips asks torchvision for alexnet(pretrained=False), an outdated spelling of what we want. With True, its
            # default, torchvision would download the weights here.
            warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated", category=UserWarning)
            warnings.filterwarnings("ignore", message="Arguments other than a weight enum", category=UserWarning)
            network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, pretrained=False, verbose=False)
        heads_path = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
        network.load_state_dict(read_state_dict(heads_path), strict=False, assign=True)
        state = read_state_dict(model.path)
        # net.slice2.3.weight is features.3.weight of torchvision: the slices keep their layers' numbers.
        wanted = {key: f"features.{key.split('.', maxsplit=1)[1]}" for key in network.net.state_dict()}
        assign(network.net, {key: state.get(name) for key, name in wanted.items()}, model.path, "alexnet", "lpips")
        return cls(network, device)

    def per_image(self, output: Tensor, target: Tensor) -> Tensor:
        result: Tensor = self.network(output, target.detach()).flatten()
        return result


class Identity(_FrozenLoss):
    """1 - cosine between ArcFace's embeddings (Deng et al., CVPR 2019): 0 the same person, about 1 another one.

    The recogniser wants the face in a place of its own, so it gets that square of the crop.
    """

    def __init__(self, recogniser: nn.Module, template: str, device: torch.device | str = "cpu") -> None:
        """`recogniser`: (N, 3, 112, 112) BGR in [-1, 1] -> (N, D) of length 1. `template`: that of the crops.

        Raises KeyError for a template that is not in `TEMPLATES`.
        """
        super().__init__()
        self.recogniser = recogniser
        self.box = arcface_box(template)
        self._freeze(device)

    @classmethod
    def installed(cls, device: torch.device | str, template: str) -> "Identity":
        """With facexlib's IR-SE50. Raises WeightsError when `arcface-ir-se50` is not installed or not sound."""
        return cls(load_arcface(), template, device)

    def per_image(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.embeddings(target)
        return 1 - (self.embeddings(output) * wanted).sum(dim=1)

    def embeddings(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in [-1, 1] -> (N, D), of length 1."""
        result: Tensor = self.recogniser(arcface_input(images, self.box))
        return result
