"""The detector finds what facexlib's own finds, in batches, and says in one line what is wrong with a weights file."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vidrestore.errors import OutOfDeviceMemory, WeightsError
from vidrestore.models.face_detector import (
    PRIOR_SIDES_PX,
    STRIDES_PX,
    ConvLeaky,
    RetinaFaceDetector,
    build_network,
    decode_boxes,
    decode_landmarks,
    encode_boxes,
    encode_landmarks,
    fuse_activations,
    fuse_batch_norms,
    network_from_state_dict,
    priors_px,
)
from vidrestore.models.prepared import runs_in_onednn
from vidrestore.models.spec import ModelSpec

SPEC = ModelSpec("test", "detector", "test.pth", None, None, None, "MIT", "test")
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="module")
def random_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_network("mobile0.25").state_dict()


@pytest.fixture(scope="module")
def trained_state() -> dict[str, torch.Tensor]:
    path = SHARED / "weights" / "retinaface_mobilenet0.25.pth"
    if not path.exists():
        pytest.skip("the trained detector is not beside the repository (shared/weights)")
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@pytest.fixture(scope="module")
def group_photo() -> NDArray[np.uint8]:
    path = SHARED / "stills" / "solvay_1927.png"
    if not path.exists():
        pytest.skip("the group photo is not beside the repository (shared/stills)")
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)


def detector(state: dict[str, torch.Tensor], score_threshold: float = 0.5) -> RetinaFaceDetector:
    return RetinaFaceDetector.from_state_dict(state, spec=SPEC, sha256="", score_threshold=score_threshold)


def test_finds_what_facexlib_finds_within_a_tenth_of_a_pixel(
    trained_state: dict[str, torch.Tensor], group_photo: NDArray[np.uint8]
) -> None:
    ours = [face for face in detector(trained_state).detect(group_photo[None])[0] if face.score >= 0.8]
    facexlib = network_from_state_dict(trained_state, file_name="test.pth")
    with torch.inference_mode():
        theirs = facexlib.detect_faces(np.ascontiguousarray(group_photo[:, :, ::-1]), 0.8)  # type: ignore[operator]
    assert len(ours) == len(theirs) == 29
    for face in ours:
        row = theirs[np.abs(theirs[:, :4] - face.box_xyxy_px).max(axis=1).argmin()]
        np.testing.assert_allclose(face.box_xyxy_px, row[:4], atol=0.1)
        np.testing.assert_allclose(face.landmarks_px.ravel(), row[5:], atol=0.1)
        assert face.score == pytest.approx(row[4], abs=1e-3)


def test_activations_inside_the_convolutions_change_no_number(random_state: dict[str, torch.Tensor]) -> None:
    if not runs_in_onednn(torch.float32):
        pytest.skip("this PyTorch has no oneDNN convolution with an activation inside")
    plain, fused = (fuse_batch_norms(network_from_state_dict(random_state, file_name="test")) for _ in range(2))
    fused = fuse_activations(fused)
    assert sum(isinstance(module, ConvLeaky) for module in fused.modules()) >= 30
    picture = 100 * torch.randn(1, 3, 96, 160).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        for expected, out in zip(plain(picture), fused(picture), strict=True):
            torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_batch_changes_nothing(trained_state: dict[str, torch.Tensor], group_photo: NDArray[np.uint8]) -> None:
    """The same faces to 0.01 px, best first, whether a picture comes alone or with others; none in an empty one."""
    left, right = group_photo[:, :400], group_photo[:, 400:800]
    found = detector(trained_state)
    together = found.detect(np.stack((left, np.zeros_like(left), right)))
    alone = [found.detect(left[None])[0], (), found.detect(right[None])[0]]
    assert [len(faces) for faces in together] == [len(faces) for faces in alone]
    assert len(alone[0]) >= 5
    assert together[1] == ()
    for batched, single in zip(together, alone, strict=True):
        scores = [face.score for face in batched]
        assert scores == sorted(scores, reverse=True)
        for one, other in zip(batched, single, strict=True):
            np.testing.assert_allclose(one.landmarks_px, other.landmarks_px, atol=0.01)


@pytest.mark.parametrize("max_images", [3, 1])
def test_where_memory_is_short_the_same_faces_are_found_in_smaller_batches(
    max_images: int,
    trained_state: dict[str, torch.Tensor],
    group_photo: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finder = detector(trained_state)
    images = np.stack([np.roll(group_photo, 40 * n, axis=1) for n in range(5)])
    expected = [face for image in images for face in finder.detect(image[None])[0]]
    network = finder._network

    def greedy(x: torch.Tensor) -> torch.Tensor:
        return network(x) if len(x) <= max_images else torch.empty(2**60)

    monkeypatch.setattr(finder, "_network", greedy)
    found = [face for faces in finder.detect(images) for face in faces]
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert np.allclose(one.landmarks_px, other.landmarks_px, atol=0.01)


def test_a_picture_that_does_not_fit_into_memory_is_told_in_one_line(
    random_state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = detector(random_state)
    monkeypatch.setattr(finder, "_network", lambda x: torch.empty(2**60))
    with pytest.raises(OutOfDeviceMemory, match=r"a picture of 64x48 px does not fit into memory \(cpu\); close other"):
        finder.detect(np.zeros((2, 48, 64, 3), np.uint8))


@pytest.mark.parametrize(("width_px", "height_px"), [(352, 352), (480, 270)])
def test_the_number_of_threads_changes_no_bit(
    random_state: dict[str, torch.Tensor], width_px: int, height_px: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, height_px, width_px, 3), dtype=np.uint8)
    # With this threshold every position counts as a face.
    detector = RetinaFaceDetector.from_state_dict(random_state, spec=SPEC, sha256="", score_threshold=0.0)
    num_threads = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(detector.detect(images)[0])
    finally:
        torch.set_num_threads(num_threads)
    assert len(found[0]) > 10
    for others in found[1:]:
        for face, other in zip(found[0], others, strict=True):
            assert face.score == other.score
            assert np.array_equal(face.box_xyxy_px, other.box_xyxy_px)
            assert np.array_equal(face.landmarks_px, other.landmarks_px)


@pytest.mark.parametrize(("width_px", "height_px"), [(16, 16), (33, 17), (1, 50), (131, 97)])
def test_odd_and_tiny_pictures_work(random_state: dict[str, torch.Tensor], width_px: int, height_px: int) -> None:
    """At threshold 0 every prior is a candidate: outputs and priors agree at any size."""
    faces = detector(random_state, 0.0).detect(np.zeros((1, height_px, width_px, 3), np.uint8))[0]
    assert len(faces) >= 1


def test_priors_are_those_of_facexlib() -> None:
    """All 77 x 41 px: the same centres and sides in the same order."""
    from facexlib.detection.retinaface_utils import PriorBox

    config = {"min_sizes": PRIOR_SIDES_PX, "steps": STRIDES_PX, "clip": False}
    theirs = PriorBox(config, image_size=(41, 77)).forward()
    ours = priors_px(77, 41)
    expected = torch.stack((theirs[:, 0] * 77, theirs[:, 1] * 41, theirs[:, 2] * 77), dim=1)
    torch.testing.assert_close(ours, expected)


def test_encoding_is_the_inverse_of_decoding() -> None:
    priors = priors_px(64, 64)
    generator = torch.Generator().manual_seed(1)
    box_codes, point_codes = (torch.randn(len(priors), n, generator=generator) for n in (4, 10))
    torch.testing.assert_close(encode_boxes(decode_boxes(box_codes, priors), priors), box_codes, atol=1e-3, rtol=0)
    codes = encode_landmarks(decode_landmarks(point_codes, priors), priors)
    torch.testing.assert_close(codes, point_codes, atol=1e-3, rtol=0)


def test_resnet50_is_recognised_and_loads_without_a_warning() -> None:
    state = {f"module.{key}": tensor for key, tensor in build_network("resnet50").state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faces = detector(state, 0.9999).detect(np.zeros((1, 32, 32, 3), np.uint8))
    assert len(faces) == 1


def test_folding_batch_norms_keeps_the_numbers(random_state: dict[str, torch.Tensor]) -> None:
    """Maximum error 1e-4 on outputs of order 1, with batch statistics that are not trivial."""
    generator = torch.Generator().manual_seed(2)
    state = dict(random_state)
    for key in state:
        if key.endswith(("running_mean", "running_var")):
            state[key] = torch.rand(state[key].shape, generator=generator) + 0.5
    plain = network_from_state_dict(state, file_name="test.pth")
    folded = detector(state)._network
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    x = torch.randn(1, 3, 64, 96, generator=generator) * 50
    with torch.inference_mode():
        for one, other in zip(plain(x), folded(x), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_wrong_weights_are_refused_in_one_line(random_state: dict[str, torch.Tensor]) -> None:
    key = "fpn.output1.0.weight"
    missing = {name: tensor for name, tensor in random_state.items() if name != key}
    with pytest.raises(
        WeightsError, match=r"test\.pth: not a RetinaFace detector \(fpn\.output1\.0\.weight is missing"
    ):
        detector(missing)
    with pytest.raises(WeightsError, match="not expected"):
        detector(random_state | {"extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match="has shape"):
        detector(random_state | {key: torch.zeros(1, 1)})
    with pytest.raises(WeightsError, match="not finite") as caught:
        detector(random_state | {key: torch.full_like(random_state[key], float("nan"))})
    assert "\n" not in str(caught.value)


def test_half_precision_files_load(random_state: dict[str, torch.Tensor]) -> None:
    state = {key: tensor.half() for key, tensor in random_state.items() if tensor.is_floating_point()}
    assert next(detector(state)._network.parameters()).dtype == torch.float32


def test_only_rgb_pictures_are_accepted(random_state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        detector(random_state).detect(np.zeros((32, 32, 3), np.uint8))
