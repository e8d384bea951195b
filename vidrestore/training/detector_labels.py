"""Scenes labelled once more by a teacher.

The teacher looks at the clean scene. What the student must say of each prior is the teacher's probability, raised to 1
where a face was placed that the teacher missed; boxes and landmarks come from the teacher where it saw the face, else
from the placement. The student sees the scene degraded, under the same labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vidrestore.models.face_detector import NMS_IOU, decode_boxes, decode_landmarks, network_input, priors_px
from vidrestore.training.degrade_steps import Image
from vidrestore.training.detector_canvas import Scene

MATCH_IOU = 0.35
"""Priors that overlap a face this much learn its box and landmarks (RetinaFace's training value)."""
BEST_PRIOR_IOU = 0.2
"""The best prior of a face learns it too if it overlaps at least this much (likewise)."""
PLACED_MIN_SIDE_PX = 16.0
"""A smaller face counts only if the teacher sees it; otherwise the student takes ears and badges for faces."""
TEACHER_SCORE = 0.5
"""From here on the teacher's detections are faces."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A labelled scene."""

    image: Image
    """(S, S, 3) RGB, clean."""
    probability: Tensor
    """(P,) float32: what the student should say of each prior."""
    face_index: Tensor
    """(P,) int64: which face a prior learns, -1 for none."""
    boxes: Tensor
    """(N, 4) float32 px."""
    landmarks: Tensor
    """(N, 5, 2) float32 px."""
    hints: tuple[Tensor, ...]
    """The teacher's features, (C_k, H_k, W_k) float16 for each level of `features_and_outputs`."""


def features_and_outputs(network: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """RetinaFace's forward pass with its features: three of the body, three of the context modules.

    Returns them with the boxes (N, P, 4), class logits (N, P, 2) and landmarks (N, P, 10), all relative to the priors.
    """
    part = network.get_submodule
    body = list(part("body")(x).values())
    pyramid = part("fpn")(body)
    context = [part(f"ssh{level + 1}")(feature) for level, feature in enumerate(pyramid)]
    outputs = []
    for head in ("BboxHead", "ClassHead", "LandmarkHead"):
        outputs.append(torch.cat([part(f"{head}.{level}")(feature) for level, feature in enumerate(context)], dim=1))
    return [*body, *context], outputs[0], outputs[1], outputs[2]


@torch.inference_mode()
def label_scenes(teacher: nn.Module, scenes: Sequence[Scene]) -> list[Sample]:
    """Run the teacher (on the CPU) on clean scenes of one size and unite what it says with what was placed."""
    size_px = scenes[0].image.shape[0]
    images = network_input(np.stack([scene.image for scene in scenes]), torch.device("cpu"))
    features, box_out, logits, landmark_out = features_and_outputs(teacher, images)
    probability = torch.softmax(logits, dim=-1)[..., 1]
    priors = priors_px(size_px, size_px)
    samples = []
    for index, scene in enumerate(scenes):
        hints = tuple(feature[index].half() for feature in features)
        decoded = decode_boxes(box_out[index], priors), decode_landmarks(landmark_out[index], priors)
        samples.append(label_scene(scene, probability[index], decoded[0], decoded[1], hints))
    return samples


def label_scene(
    scene: Scene, probability: Tensor, boxes: Tensor, landmarks: Tensor, hints: tuple[Tensor, ...] = ()
) -> Sample:
    """Unite a scene's faces with a teacher's probabilities (P,), boxes (P, 4) and landmarks (P, 5, 2) in px."""
    from torchvision.ops import box_iou, nms

    size_px = scene.image.shape[0]
    priors = priors_px(size_px, size_px)
    prior_boxes = torch.cat((priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2), dim=1)
    seen = torch.nonzero(probability >= TEACHER_SCORE).squeeze(1)
    seen = seen[nms(boxes[seen], probability[seen], NMS_IOU)]
    placed, placed_landmarks = torch.from_numpy(scene.boxes), torch.from_numpy(scene.landmarks)
    asked = (placed[:, 2:] - placed[:, :2]).prod(dim=1).sqrt() >= PLACED_MIN_SIDE_PX
    if len(seen):
        asked &= box_iou(placed, boxes[seen]).amax(dim=1) < MATCH_IOU
    placed, placed_landmarks = placed[asked], placed_landmarks[asked]
    all_boxes = torch.cat((boxes[seen], placed))
    all_landmarks = torch.cat((landmarks[seen], placed_landmarks))

    face_index = torch.full((len(priors),), -1)
    probability = probability.clone()
    if len(all_boxes):
        iou = box_iou(prior_boxes, all_boxes)  # (P, N)
        best_iou, best_face = iou.max(dim=1)
        face_index = torch.where(best_iou >= MATCH_IOU, best_face, face_index)
        prior_iou, prior_of_face = iou.max(dim=0)
        for face in torch.nonzero(prior_iou >= BEST_PRIOR_IOU).squeeze(1).tolist():
            face_index[prior_of_face[face]] = face
        probability[face_index >= len(seen)] = 1.0  # placed, but missed by the teacher
    return Sample(scene.image, probability, face_index, all_boxes, all_landmarks, hints)
