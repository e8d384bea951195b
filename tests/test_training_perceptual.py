"""Losses that see like people, and what they say when the networks that they see with are not here."""

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore.errors import OptionsError, WeightsError
from vidrestore.face import template_px
from vidrestore.models.arcface import ARCFACE_POINTS_PX, ARCFACE_PX, arcface_box
from vidrestore.models.catalog import CATALOG
from vidrestore.models.weights import file_sha256, pin
from vidrestore.training.perceptual import Identity, Lpips, VggPerceptual

INSTALLED: dict[str, Callable[[], nn.Module]] = {
    "vgg19": lambda: VggPerceptual.installed("cpu"),
    "alexnet": lambda: Lpips.installed("cpu"),
    "arcface-ir-se50": lambda: Identity.installed("cpu", "tight"),
}
"""Each loss by the name of the network that it needs."""
CROP_PX = 48


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a loss asked for the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module", autouse=True)
def _short_arcface() -> Iterator[None]:
    """One block where facexlib's recogniser has 3, 4, 14 and 3; otherwise it is the real one."""
    from facexlib.recognition import arcface_arch

    real = arcface_arch.get_blocks
    short = [arcface_arch.get_block(*widths, num_units=1) for widths in ((64, 64), (64, 128), (128, 256), (256, 512))]
    arcface_arch.get_blocks = lambda _: short
    yield
    arcface_arch.get_blocks = real


def random_state(name: str) -> dict[str, Tensor]:
    """Weights under the names, and in the shapes, of the published files; those that nobody needs are left out."""
    from facexlib.recognition.arcface_arch import Backbone
    from torchvision.models import alexnet, vgg19

    with torch.device("meta"):
        if name == "arcface-ir-se50":
            meta = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se").state_dict()
        else:
            net = vgg19(weights=None) if name == "vgg19" else alexnet(weights=None)
            meta = {f"features.{key}": value for key, value in net.features.state_dict().items()}
            meta |= {"classifier.6.bias": torch.zeros(1000)}
    generator = torch.Generator().manual_seed(5)
    state = {}
    for key, value in meta.items():
        if value.dtype == torch.int64:
            state[key] = torch.zeros(value.shape, dtype=torch.int64)
        elif value.dim() > 1:  # He initialisation: the signal keeps its strength through all layers
            state[key] = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        else:
            state[key] = torch.zeros(value.shape) if key.endswith(("bias", "running_mean")) else torch.ones(value.shape)
    return state


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with all three networks, pinned as after a first download."""
    folder = tmp_path_factory.mktemp("networks")
    for name in INSTALLED:
        path = folder / CATALOG[name].file_name
        # The old format, as published.
        torch.save(random_state(name), path, _use_new_zipfile_serialization=False)
        pin(path)
    return folder


@pytest.fixture(scope="module")
def losses(files: Path) -> dict[str, nn.Module]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDRESTORE_WEIGHTS", str(files))
        for name in INSTALLED:  # the hash of the true files is known; these are others
            patch.setitem(CATALOG, name, replace(CATALOG[name], sha256=None))  # type: ignore[arg-type]
        before = torch.get_rng_state()
        loaded = {name: build() for name, build in INSTALLED.items() if name != "alexnet" or find_spec("lpips")}
        assert torch.equal(torch.get_rng_state(), before)  # a training with the loss draws the batches of one without
    return loaded


@pytest.fixture
def pictures(rng: np.random.Generator) -> Tensor:
    """(2, 3, S, S) in [-1, 1], with coarse and fine structure."""
    coarse = torch.from_numpy(rng.uniform(-0.7, 0.7, (2, 3, 9, 9))).float()
    fine = torch.from_numpy(rng.uniform(-0.3, 0.3, (2, 3, CROP_PX, CROP_PX))).float()
    return F.interpolate(coarse, size=(CROP_PX, CROP_PX), mode="bicubic").clamp(-0.7, 0.7) + fine


def blurred(images: Tensor, radius_px: int) -> Tensor:
    side_px = 2 * radius_px + 1
    return F.avg_pool2d(F.pad(images, (radius_px,) * 4, mode="replicate"), side_px, stride=1)


needs_lpips = pytest.mark.skipif(find_spec("lpips") is None, reason="the package lpips is not installed")
each_loss = pytest.mark.parametrize("name", ["vgg19", pytest.param("alexnet", marks=needs_lpips), "arcface-ir-se50"])


@each_loss
def test_equal_pictures_cost_nothing_and_more_blur_costs_more(
    losses: dict[str, nn.Module], name: str, pictures: Tensor
) -> None:
    loss = losses[name]
    costs = [float(loss(blurred(pictures, radius), pictures)) for radius in (0, 1, 3)]
    assert costs[0] == pytest.approx(0, abs=1e-6)
    assert all(more > 1.02 * less for less, more in zip(costs, costs[1:], strict=False)), costs
    assert costs[1] > 1e-5


@each_loss
def test_each_picture_is_judged_on_its_own_and_the_loss_is_their_mean(
    losses: dict[str, nn.Module], name: str, pictures: Tensor
) -> None:
    loss = losses[name]
    output = torch.cat([blurred(pictures[:1], 3), pictures[1:]])
    both = loss.per_image(output, pictures)
    assert both.shape == (2,)
    assert both[0] > 1e-4
    assert abs(float(both[1])) < 1e-6  # it is equal, whatever its neighbour is
    torch.testing.assert_close(loss.per_image(output[:1], pictures[:1]), both[:1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss(output, pictures), both.mean())


@each_loss
def test_steps_along_the_gradient_lower_the_cost_and_move_neither_the_target_nor_the_network(
    losses: dict[str, nn.Module], name: str, pictures: Tensor
) -> None:
    loss = losses[name]
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    target = pictures[:1].clone().requires_grad_()
    output = blurred(pictures[:1], 2).requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.02)
    costs = []
    for _ in range(5):
        optimizer.zero_grad()
        cost = loss(output, target)
        cost.backward()
        costs.append(cost.item())
        optimizer.step()
    assert costs[-1] < 0.6 * costs[0], costs
    assert target.grad is None
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@each_loss
def test_black_pictures_have_a_finite_gradient(losses: dict[str, nn.Module], name: str) -> None:
    black = torch.full((1, 3, CROP_PX, CROP_PX), -1.0)
    output = black.clone().requires_grad_()
    losses[name](output, black + 0.1).backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()


@each_loss
def test_the_network_stays_frozen_in_a_model_that_trains(losses: dict[str, nn.Module], name: str) -> None:
    loss = losses[name]
    nn.ModuleList([loss]).train()
    assert not any(module.training for module in loss.modules())
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert not any(value.is_meta for value in (*loss.parameters(), *loss.buffers()))


@each_loss
def test_a_network_that_is_missing_is_an_error_with_the_file_and_the_command(weights_folder: Path, name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        INSTALLED[name]()
    line = str(caught.value)
    assert f"{CATALOG[name].file_name} is not in {weights_folder}" in line
    assert f"run `vidrestore models pull {name}`" in line
    assert "\n" not in line


@each_loss
def test_a_file_that_is_not_the_published_one_is_refused(weights_folder: Path, name: str) -> None:
    path = weights_folder / CATALOG[name].file_name
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    pin(path)  # a pin does not outweigh the hash that is known
    with pytest.raises(WeightsError, match="damaged or another file") as caught:
        INSTALLED[name]()
    assert f"(sha256 {file_sha256(path)}, expected {CATALOG[name].sha256})" in str(caught.value)
    assert f"run `vidrestore models pull {name}`" in str(caught.value)


@each_loss
def test_a_file_without_the_layers_is_refused_in_one_line(
    weights_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOG, name, replace(CATALOG[name], sha256=None))  # type: ignore[arg-type]
    torch.save({"features.0.weight": torch.zeros(1)}, weights_folder / CATALOG[name].file_name)
    with pytest.raises(WeightsError, match=f"does not hold the layers of {name}") as caught:
        INSTALLED[name]()
    assert "\n" not in str(caught.value)


def test_without_the_package_lpips_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(OptionsError, match=r"package lpips; run `pip install 'vidrestore\[train\]'`"):
        Lpips.installed("cpu")


def test_vgg_sees_black_and_white_as_imagenet_did(losses: dict[str, nn.Module]) -> None:
    loss = losses["vgg19"]
    seen: list[Tensor] = []
    with loss.features[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].mean(dim=(0, 2, 3)))):
        loss._tapped(torch.full((1, 3, 16, 16), -1.0))
        loss._tapped(torch.full((1, 3, 16, 16), 1.0))
    torch.testing.assert_close(seen[0], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    torch.testing.assert_close(seen[1], torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))


def test_vgg_compares_the_first_layer_of_every_scale(losses: dict[str, nn.Module]) -> None:
    tapped = losses["vgg19"]._tapped(torch.zeros(1, 3, 32, 32))
    assert [tuple(features.shape[1:]) for features in tapped] == [
        *((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2))
    ]
    assert all((features >= 0).all() for features in tapped)


@pytest.mark.parametrize(("template", "within_px"), [("gpen", 0.01), ("tight", 1.5)])
def test_the_recogniser_gets_the_face_where_it_expects_it(template: str, within_px: float) -> None:
    x0, y0, x1, y1 = arcface_box(template)
    assert x1 - x0 == pytest.approx(y1 - y0)
    seen_px = (template_px(template, 1) - [x0, y0]) / (x1 - x0) * ARCFACE_PX
    assert np.abs(seen_px - np.array(ARCFACE_POINTS_PX)).max() < within_px


@pytest.mark.parametrize("template", ["gpen", "tight"])
@pytest.mark.parametrize("crop_px", [256, 512])
def test_eyes_and_mouth_arrive_at_the_recogniser_in_place_and_blue_first(template: str, crop_px: int) -> None:
    seen: list[Tensor] = []

    class Recogniser(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return F.normalize(x.flatten(1), dim=1)

    left_eye_px, *_, right_mouth_px = template_px(template, crop_px)
    grid = torch.arange(crop_px)
    crop = torch.full((1, 3, crop_px, crop_px), -1.0)
    for channel, (x, y) in ((0, left_eye_px), (2, right_mouth_px)):  # a red eye and a blue corner of the mouth
        spot = (-((grid - x)[None, :] ** 2 + (grid - y)[:, None] ** 2) / (0.02 * crop_px) ** 2).exp()
        crop[0, channel] += 2 * spot
    Identity(Recogniser(), template).embeddings(crop)
    assert seen[0].shape == (1, 3, ARCFACE_PX, ARCFACE_PX)
    for channel, expected_px in ((2, ARCFACE_POINTS_PX[0]), (0, ARCFACE_POINTS_PX[4])):
        spot = seen[0][0, channel] + 1
        y, x = (float((spot.sum(dim=1 - axis) * torch.arange(ARCFACE_PX)).sum() / spot.sum()) for axis in (0, 1))
        assert np.hypot(x - expected_px[0], y - expected_px[1]) < 2.0
    assert float(seen[0][0, 1].max()) == pytest.approx(-1, abs=1e-5)  # there was no green
