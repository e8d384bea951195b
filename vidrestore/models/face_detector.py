"""RetinaFace: finds faces and their five landmarks.

The networks are facexlib's own (MIT): a MobileNet-0.25 or ResNet-50 body, a feature pyramid, and at each position of
the strides 8, 16 and 32 two square priors, for each of which the heads say: face or not, box, landmarks.
Source: Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", CVPR 2020 (arXiv:1905.00641).
What surrounds the networks is ours: verified tensors, the caller's device, batches, priors built once per image size.
"""

import functools
import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidrestore.errors import OutOfDeviceMemory, WeightsError
from vidrestore.face import Detection
from vidrestore.models.late_compiler import compiler_loaded_late
from vidrestore.models.memory import is_out_of_memory
from vidrestore.models.prepared import runs_in_onednn
from vidrestore.models.spec import ModelSpec

NetworkName = Literal["mobile0.25", "resnet50"]

CPU_BATCH_IMAGES, GPU_BATCH_IMAGES = 1, 8
"""One core, 1280x720: 90 ms a picture alone, 112 in a batch of 4 (its features leave the cache). A GPU is filled by
several; its number is a guess that waits for a measurement."""
ONEDNN_CHANNELS = 16
"""Floats in an AVX-512 register."""
SCORE_THRESHOLD = 0.5
"""Scores from here on are faces. Low, because the tracker behind confirms a face over several frames, and a gap in a
track costs more than a doubtful face."""
NMS_IOU = 0.4
"""Of two boxes that overlap by more than this, the better one stays (facexlib's own value)."""
MEAN_RGB = (123.0, 117.0, 104.0)
"""Subtracted from the 0..255 samples before the network, which reads blue, green, red."""
STRIDES_PX = (8, 16, 32)
PRIOR_SIDES_PX = ((16, 32), (64, 128), (256, 512))
"""The two square priors of each stride."""
CENTER_VARIANCE = 0.1
"""Regressed centres and landmarks are in units of this times the prior's side."""
SIZE_VARIANCE = 0.2
"""Regressed sizes are logarithms in units of this."""


def build_network(network: NetworkName) -> nn.Module:
    """facexlib's RetinaFace on the CPU with random weights, in evaluation mode.

    Called with (N, 3, H, W) float BGR minus the mean, it returns boxes (N, P, 4), face probabilities (N, P, 2) and
    landmarks (N, P, 10) relative to the P priors of `priors_px`.
    """
    # Imported late: torchvision and facexlib take 0.3 s, and not every run detects faces.
    with compiler_loaded_late():
        from facexlib.detection.retinaface import RetinaFace

    with warnings.catch_warnings():
        # facexlib asks torchvision for resnet50(pretrained=False), an outdated spelling of what we want.
        warnings.filterwarnings("ignore", message="The parameter 'pretrained' is deprecated", category=UserWarning)
        warnings.filterwarnings("ignore", message="Arguments other than a weight enum", category=UserWarning)
        return cast(nn.Module, RetinaFace(network, device=torch.device("cpu")))


@functools.lru_cache(maxsize=16)
def priors_px(width_px: int, height_px: int) -> Tensor:
    """(P, 3) float32 on the CPU: centre x, centre y and side of every prior, in the order of the network's outputs."""
    rows = []
    for stride_px, sides_px in zip(STRIDES_PX, PRIOR_SIDES_PX, strict=True):
        y = (torch.arange(-(-height_px // stride_px), dtype=torch.float32) + 0.5) * stride_px
        x = (torch.arange(-(-width_px // stride_px), dtype=torch.float32) + 0.5) * stride_px
        side = torch.tensor(sides_px, dtype=torch.float32)
        grid_y, grid_x, grid_side = torch.meshgrid(y, x, side, indexing="ij")
        rows.append(torch.stack((grid_x, grid_y, grid_side), dim=-1).reshape(-1, 3))
    return torch.cat(rows)


def decode_boxes(regression: Tensor, priors: Tensor) -> Tensor:
    """(K, 4) network outputs and (K, 3) priors -> (K, 4) boxes x1, y1, x2, y2 in px."""
    center, side = priors[:, :2], priors[:, 2:]
    center = center + regression[:, :2] * CENTER_VARIANCE * side
    half_size = torch.exp(regression[:, 2:] * SIZE_VARIANCE) * side / 2
    return torch.cat((center - half_size, center + half_size), dim=1)


def decode_landmarks(regression: Tensor, priors: Tensor) -> Tensor:
    """(K, 10) network outputs and (K, 3) priors -> (K, 5, 2) points in px."""
    center, side = priors[:, None, :2], priors[:, None, 2:]
    return center + regression.view(-1, 5, 2) * CENTER_VARIANCE * side


def encode_boxes(boxes: Tensor, priors: Tensor) -> Tensor:
    """Inverse of `decode_boxes`."""
    center, side = priors[:, :2], priors[:, 2:]
    offset = ((boxes[:, :2] + boxes[:, 2:]) / 2 - center) / (CENTER_VARIANCE * side)
    return torch.cat((offset, torch.log((boxes[:, 2:] - boxes[:, :2]) / side) / SIZE_VARIANCE), dim=1)


def encode_landmarks(points: Tensor, priors: Tensor) -> Tensor:
    """Inverse of `decode_landmarks`."""
    center, side = priors[:, None, :2], priors[:, None, 2:]
    return ((points - center) / (CENTER_VARIANCE * side)).flatten(start_dim=1)


def network_input(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32 BGR minus the mean, channels last in memory."""
    # Turned round while the samples are small, and subtracted in place: the picture is passed through the memory less.
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).flip(-1).float()
    return x.sub_(torch.tensor(MEAN_RGB[::-1], device=device)).permute(0, 3, 1, 2)


class RetinaFaceDetector:
    """A `FaceDetector`: facexlib's RetinaFace with given weights on a given device."""

    def __init__(
        self,
        network: nn.Module,
        *,
        spec: ModelSpec,
        sha256: str,
        device: torch.device,
        score_threshold: float = SCORE_THRESHOLD,
    ) -> None:
        self.spec = spec
        self.sha256 = sha256
        self.device = device
        self.batch_images = CPU_BATCH_IMAGES if device.type == "cpu" else GPU_BATCH_IMAGES
        self.score_threshold = score_threshold
        network = fuse_batch_norms(network.eval())
        if device.type == "cpu" and runs_in_onednn(torch.float32):
            network = widen_narrow_convolutions(fuse_activations(network))
        self._network = network.to(device).to(memory_format=torch.channels_last)

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Tensor],
        *,
        spec: ModelSpec,
        sha256: str,
        device: torch.device | str = "cpu",
        score_threshold: float = SCORE_THRESHOLD,
    ) -> "RetinaFaceDetector":
        """The detector that these tensors belong to, half or single precision, keys with or without `module.`.

        Raises WeightsError when keys or shapes are not those of RetinaFace or values are not finite.
        """
        network = network_from_state_dict(state, file_name=spec.file_name)
        device = torch.device(device)
        return cls(network, spec=spec, sha256=sha256, device=device, score_threshold=score_threshold)

    def detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        """(B, H, W, 3) uint8 RGB, B >= 1 -> for each image its faces, best score first, in that image's pixels.

        Where memory is too short for the batch it is done in halves. Raises ValueError for another shape or dtype,
        OutOfDeviceMemory when not even one image fits.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images are {images.shape} {images.dtype}; they must be (B, H, W, 3) uint8")
        try:
            return self._detect(images)
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
        # Out here, because the traceback of the exception above would keep its tensors alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        count, height_px, width_px, _ = images.shape
        if count == 1:
            size = f"{width_px}x{height_px}"
            raise OutOfDeviceMemory(
                f"{self.spec.name}: a picture of {size} px does not fit into memory ({self.device}); close other "
                "programs, or use --device cpu"
            )
        return self.detect(images[: count // 2]) + self.detect(images[count // 2 :])

    @torch.inference_mode()
    def _detect(self, images: NDArray[np.uint8]) -> list[tuple[Detection, ...]]:
        from torchvision.ops import batched_nms  # late: see build_network

        count, height_px, width_px, _ = images.shape
        # On CUDA in TensorFloat-32, as PyTorch has it: with inputs and weights rounded so, landmarks move by 0.001 of a
        # face's width at most (54 of 55 faces; of one, another of two nearly equal detections was the best).
        box_out, probability, landmark_out = self._network(network_input(images, self.device))
        score = probability[..., 1]
        image_index, prior_index = torch.nonzero(score >= self.score_threshold, as_tuple=True)
        priors = priors_px(width_px, height_px).to(self.device)[prior_index]
        score = score[image_index, prior_index]
        boxes = decode_boxes(box_out[image_index, prior_index], priors)
        keep = batched_nms(boxes, score, image_index, NMS_IOU)  # best first
        landmarks = decode_landmarks(landmark_out[image_index, prior_index][keep], priors[keep])

        found: list[list[Detection]] = [[] for _ in range(count)]
        kept = (image_index[keep].tolist(), boxes[keep].cpu().numpy(), score[keep].tolist(), landmarks.cpu().numpy())
        for index, box, face_score, points in zip(*kept, strict=True):
            found[index].append(Detection(box_xyxy_px=box, score=face_score, landmarks_px=points))
        return [tuple(faces) for faces in found]


def network_from_state_dict(state: Mapping[str, Tensor], *, file_name: str) -> nn.Module:
    """The network, in evaluation mode and float32, with these tensors. Raises WeightsError naming `file_name`."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    network = build_network("resnet50" if "body.layer1.0.conv1.weight" in state else "mobile0.25")
    expected = network.state_dict()
    # Counters of training steps, unused at inference and absent from some files.
    counters = {key: tensor for key, tensor in expected.items() if key.endswith(".num_batches_tracked")}
    state = {key: tensor for key, tensor in state.items() if not key.endswith(".num_batches_tracked")}
    hint = "fetch it again, or name a RetinaFace file"
    for key in sorted((expected.keys() - counters.keys()) ^ state.keys()):
        what = "missing" if key in expected else "not expected"
        raise WeightsError(f"{file_name}: not a RetinaFace detector ({key} is {what}); {hint}")
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            shapes = f"{key} has shape {tuple(tensor.shape)}, expected {tuple(expected[key].shape)}"
            raise WeightsError(f"{file_name}: not a RetinaFace detector ({shapes}); {hint}")
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{file_name}: damaged weights ({key} holds values that are not finite); {hint}")
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()} | counters, strict=True)
    return network


def fuse_batch_norms(network: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it (same numbers out up to rounding). Changes `network`.

    With channels last in memory a 640 x 360 picture then takes 18 instead of 35 ms on one core (MobileNet).
    """
    for module in network.modules():
        previous: tuple[str, Any] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and previous is not None:
                setattr(module, previous[0], torch.nn.utils.fuse_conv_bn_eval(previous[1], child))
                setattr(module, name, nn.Identity())
            previous = (name, child) if isinstance(child, nn.Conv2d) else None
    return network


class WidenedConv(nn.Module):
    """A convolution whose output channels are filled up to a multiple of `ONEDNN_CHANNELS`, and cut off again.

    Those of the heads (4 and 8) are so few that oneDNN gives each thread a part of the sum instead of a part of the
    picture, and the number of threads tells in the last bits.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        num_more = -conv.out_channels % ONEDNN_CHANNELS
        self.num_channels = conv.out_channels
        self.conv = conv
        self.conv.weight = nn.Parameter(nn.functional.pad(conv.weight, (0, 0, 0, 0, 0, 0, 0, num_more)))
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(nn.functional.pad(conv.bias, (0, num_more)))

    def forward(self, x: Tensor) -> Tensor:
        widened: Tensor = self.conv(x)
        return widened[:, : self.num_channels]


def widen_narrow_convolutions(network: nn.Module) -> nn.Module:
    """See `WidenedConv`; those of a single kernel position only, which are the ones concerned. Changes `network`."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Conv2d) or child.kernel_size != (1, 1) or child.groups != 1:
                continue
            if child.out_channels % ONEDNN_CHANNELS:
                setattr(module, name, WidenedConv(child))
    return network


class ConvLeaky(nn.Module):
    """A convolution and the leaky ReLU after it, in one pass over the picture (oneDNN's post-operations; CPU only)."""

    def __init__(self, conv: nn.Conv2d, slope: float) -> None:
        super().__init__()
        self.conv, self.slope = conv, slope

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        window = (list(cast(tuple[int, int], conv.padding)), list(conv.stride), list(conv.dilation), conv.groups)
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, conv.weight, conv.bias, *window, "leaky_relu", [self.slope], ""
        )
        return fused


def fuse_activations(network: nn.Module) -> nn.Module:
    """Run every leaky ReLU inside the convolution before it (the same numbers out, bit for bit). Changes `network`,
    whose batch norms have been folded; a tenth faster."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        layers = list(module)
        for index, (conv, norm, activation) in enumerate(zip(layers, layers[1:], layers[2:], strict=False)):
            slope = getattr(activation, "negative_slope", None) if isinstance(norm, nn.Identity) else None
            if isinstance(conv, nn.Conv2d) and slope is not None:
                module[index], module[index + 2] = ConvLeaky(conv, float(slope)), nn.Identity()
    return network
