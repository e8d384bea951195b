"""Who teaches the restorer: equal to the official discriminator, and able to tell detail from blur."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from vidrestore.errors import OptionsError
from vidrestore.training.adversarial import discriminator_loss, r1_penalty
from vidrestore.training.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    PatchDiscriminators,
    append_stddev,
    build_discriminator,
)

SMALL_CONFIGS = [
    DiscriminatorConfig("stylegan2", channel_multiplier=1, width=1 / 64),
    DiscriminatorConfig("patch", smallest_px=16, base_channels=4),
]


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    torch.manual_seed(0)


def test_equals_the_official_code(shared: Path) -> None:
    """Every key and shape as in the official checkpoints, logits within 1e-4 (0 when written)."""
    net = Discriminator(64, channel_multiplier=1, width=0.125)
    net.load_state_dict(load_file(shared / "golden/discriminator_64_narrow0.125.safetensors"), strict=True)
    golden = load_file(shared / "golden/discriminator_64_narrow0.125_io.safetensors")
    with torch.inference_mode():
        assert (net(golden["input"]) - golden["output"]).abs().max() <= 1e-4


@pytest.mark.parametrize(("size_px", "multiplier", "channels"), [(256, 1, 64), (512, 2, 64), (1024, 2, 32)])
def test_channels_of_the_official_sizes(size_px: int, multiplier: int, channels: int) -> None:
    with torch.device("meta"):
        state = Discriminator(size_px, channel_multiplier=multiplier).state_dict()
    assert state["convs.0.0.weight"].shape == (channels, 3, 1, 1)
    assert state["final_conv.0.weight"].shape == (512, 513, 3, 3)
    assert state["final_linear.0.weight"].shape == (512, 512 * 16)


@pytest.mark.parametrize(("num", "group"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 1), (6, 3), (8, 4), (12, 4)])
def test_spread_is_measured_in_the_largest_groups_that_fit(num: int, group: int) -> None:
    """Image n shares its group with n + N / group, n + 2 N / group, …, as in StyleGAN2."""
    x = torch.randn(num, 3, 4, 4)
    result = append_stddev(x)
    assert torch.equal(result[:, :3], x)
    for n in range(num):
        members = x[n % (num // group) :: num // group]
        assert len(members) == group
        expected = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(result[n, 3], expected.expand(4, 4))


def test_alike_faces_leave_a_finite_slope_in_half_precision() -> None:
    """A batch of one face four times over (spread 0) must not poison a whole run with NaN."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = torch.ones(4, 2, 4, 4, dtype=dtype, requires_grad=True)
        append_stddev(x).sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("config", SMALL_CONFIGS, ids=lambda config: config.kind)
@pytest.mark.parametrize("num", [1, 3, 5])
def test_both_kinds_judge_alike(config: DiscriminatorConfig, num: int) -> None:
    """One interface: lists of logits and features, a row for each image of any batch; the same logits by forward."""
    net = build_discriminator(config, 32)
    images = torch.rand(num, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        judgement, logits = net.judge(images), net(images)
    logits = logits if isinstance(logits, list) else [logits]
    assert all(torch.equal(a, b) for a, b in zip(judgement.logits, logits, strict=True))
    assert {len(tensor) for tensor in judgement.logits + judgement.features} == {num}
    assert all(torch.isfinite(tensor).all() for tensor in judgement.logits + judgement.features)


@pytest.mark.parametrize("config", SMALL_CONFIGS, ids=lambda config: config.kind)
def test_features_of_a_face_do_not_depend_on_its_batch(config: DiscriminatorConfig) -> None:
    net = build_discriminator(config, 32)
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        together, alone = net.judge(images).features, net.judge(images[:1]).features
    for all_four, one in zip(together, alone, strict=True):
        torch.testing.assert_close(all_four[:1], one, atol=1e-5, rtol=1e-4)


def test_features_halve_from_block_to_block() -> None:
    features = Discriminator(64, width=1 / 64).judge(torch.zeros(2, 3, 64, 64)).features
    assert [tuple(tensor.shape) for tensor in features] == [(2, 8, side, side) for side in (32, 16, 8, 4)]


def test_patches_are_judged_at_every_scale() -> None:
    judgement = PatchDiscriminators(256, base_channels=4).judge(torch.zeros(2, 3, 256, 256))
    assert [tuple(tensor.shape) for tensor in judgement.logits] == [(2, 1, side, side) for side in (8, 16, 32)]
    sides = [32, 16, 8, 64, 32, 16, 128, 64, 32]
    assert [tensor.shape[-1] for tensor in judgement.features] == sides
    assert [tensor.shape[1] for tensor in judgement.features] == [4, 8, 16] * 3


def test_a_verdict_sees_38_px_of_its_scale() -> None:
    """And at half the scale twice as much: what lies further away cannot change it."""
    net = PatchDiscriminators(256, smallest_px=128, base_channels=2)
    for scale, expected_px in enumerate((76, 38)):
        images = torch.zeros(1, 3, 256, 256, requires_grad=True)
        logits = net.judge(images).logits[scale]
        middle = logits.shape[-1] // 2
        (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], images)
        columns = gradient.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
        assert columns.max() - columns.min() + 1 == expected_px


def test_patch_weights_go_on_with_larger_faces() -> None:
    small, large = PatchDiscriminators(64, base_channels=4), PatchDiscriminators(128, base_channels=4)
    missing, unexpected = large.load_state_dict(small.state_dict(), strict=False)
    assert unexpected == []
    assert all(key.startswith("scales.128.") for key in missing)
    images = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        assert torch.equal(large(images)[0], small(F.interpolate(images, size=(64, 64), mode="area"))[0])


@pytest.mark.parametrize("config", SMALL_CONFIGS, ids=lambda config: config.kind)
def test_every_layer_learns_and_feels_the_gradient_penalty(config: DiscriminatorConfig) -> None:
    """Through second derivatives in float32 on the CPU; only the last bias, which no slope depends on, may be left."""
    net = build_discriminator(config, 32)
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    r1_penalty(net.judge(images).logits, images).backward()
    kernels = {name: parameter for name, parameter in net.named_parameters() if parameter.dim() > 1}
    for name, parameter in kernels.items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
    net.zero_grad()
    discriminator_loss(net.judge(images).logits, net.judge(-images.detach().roll(1, 0)).logits).backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("config", SMALL_CONFIGS, ids=lambda config: config.kind)
def test_the_penalty_has_the_right_slope(config: DiscriminatorConfig) -> None:
    """Against finite differences in float64: within 1e-4 of the change of the penalty along a random direction."""
    net = build_discriminator(config, 16).double()
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    parameters = list(net.parameters())
    directions = [torch.randn_like(parameter) for parameter in parameters]

    def penalty() -> Tensor:
        return r1_penalty(net.judge(images).logits, images, generator=torch.Generator().manual_seed(1))

    slopes = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    slope = sum((a * b).sum() for a, b in zip(slopes, directions, strict=True) if a is not None)
    step = 1e-6
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * step * direction
        values.append(penalty().detach())
    measured = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(slope, measured, rtol=1e-4, atol=1e-9)


def textures(num: int, *, blurred: bool, generator: torch.Generator) -> Tensor:
    """(N, 3, 64, 64) noise, fine or soft, of the same brightness and contrast."""
    images = torch.randn(num, 3, 64, 64, generator=generator)
    if blurred:
        images = F.avg_pool2d(images, 3, stride=1, padding=1)
    return 0.3 * images / images.std(dim=(1, 2, 3), keepdim=True)


def test_patches_learn_to_tell_texture_from_blur() -> None:
    """60 steps, then 16 images never seen: each fine one is judged truer than each soft one."""
    generator = torch.Generator().manual_seed(0)
    net = PatchDiscriminators(64, base_channels=8)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.0, 0.99))
    for _ in range(60):
        real = net.judge(textures(8, blurred=False, generator=generator)).logits
        fake = net.judge(textures(8, blurred=True, generator=generator)).logits
        optimizer.zero_grad()
        discriminator_loss(real, fake).backward()
        optimizer.step()
    with torch.inference_mode():
        fine, soft = (net(textures(16, blurred=blurred, generator=generator))[0] for blurred in (False, True))
    assert fine.mean(dim=(1, 2, 3)).min() > soft.mean(dim=(1, 2, 3)).max()
    assert discriminator_loss([fine], [soft]) < 0.7  # half of 1.39, that of a discriminator that knows nothing


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "unet"}, 'kind is \'unet\'; it must be "stylegan2" or "patch"'),
        ({"channel_multiplier": 3}, "channel_multiplier is 3; it must be 1 or 2"),
        ({"width": 0.0}, "width is 0.0; it must be above 0"),
        ({"smallest_px": 48}, "smallest_px is 48; it must be a power of two, at least 16"),
        ({"smallest_px": 8}, "smallest_px is 8; it must be a power of two, at least 16"),
        ({"base_channels": 0}, "base_channels is 0; it must be at least 1"),
    ],
)
def test_bad_configurations_say_what_to_do(values: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        DiscriminatorConfig(**values)


@pytest.mark.parametrize(("kind", "size_px"), [("stylegan2", 100), ("patch", 32), ("patch", 96)])
def test_sizes_that_do_not_fit_are_refused(kind: str, size_px: int) -> None:
    with pytest.raises(OptionsError, match=f"size_px is {size_px}; it must be"):
        build_discriminator(DiscriminatorConfig(kind), size_px)


def test_a_width_that_leaves_no_channels_is_refused() -> None:
    with pytest.raises(OptionsError, match="width is 0.005; it must be larger, or no channel is left at 256 px"):
        build_discriminator(DiscriminatorConfig("stylegan2", width=0.005), 256)
