"""The contest's losses, against numbers worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidrestore.models.gpen import Gpen, GpenConfig
from vidrestore.training.adversarial import (
    PathLength,
    discriminator_loss,
    feature_matching,
    generator_loss,
    r1_penalty,
    restore_with_latents,
)


def small_gpen() -> Gpen:
    torch.manual_seed(0)
    return Gpen(GpenConfig(32, 1, 1 / 32, style_dim=16, num_mapping_layers=2))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_discriminator_that_knows_nothing_loses_two_coin_tosses() -> None:
    zero = torch.zeros(4, 1)
    assert discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(zero).item() == pytest.approx(math.log(2))


def test_logistic_losses_are_those_of_the_official_training() -> None:
    real, fake = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.5], [3.0]])
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(2))) / 2
    expected += (math.log1p(math.exp(0.5)) + math.log1p(math.exp(3))) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)
    expected = (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-3))) / 2
    assert generator_loss(fake).item() == pytest.approx(expected)


def test_a_restorer_that_is_found_out_still_learns() -> None:
    """At a logit of -20 the slope is 1; that of log(1 - p), which saturates, would be 2e-9."""
    fake = torch.tensor([[-20.0]], requires_grad=True)
    generator_loss(fake).backward()
    assert fake.grad is not None
    assert fake.grad.item() == pytest.approx(-1.0)


def test_every_scale_counts_alike_however_many_verdicts_it_has() -> None:
    coarse, fine = torch.full((2, 1, 2, 2), 3.0), torch.full((2, 1, 16, 16), -1.0)
    expected = (generator_loss(coarse) + generator_loss(fine)) / 2
    torch.testing.assert_close(generator_loss([coarse, fine]), expected)
    expected = (discriminator_loss(coarse, coarse) + discriminator_loss(fine, fine)) / 2
    torch.testing.assert_close(discriminator_loss([coarse, fine], [coarse, fine]), expected)
    with pytest.raises(ValueError, match="argument"):
        discriminator_loss([coarse, fine], [coarse])


def test_losses_of_half_precision_logits_are_float32() -> None:
    logits = torch.tensor([[100.0]], dtype=torch.bfloat16)
    assert generator_loss(logits).dtype == discriminator_loss(logits, logits).dtype == torch.float32


def test_r1_of_a_linear_discriminator_is_its_squared_weights() -> None:
    """The gradient of w . x is w, for every image; and the penalty's own gradient is 2 w."""
    weight = torch.randn(1, 3 * 8 * 8, generator=seeded(0), requires_grad=True)
    images = torch.randn(5, 3, 8, 8, generator=seeded(1), requires_grad=True)
    penalty = r1_penalty(F.linear(images.flatten(1), weight), images)
    torch.testing.assert_close(penalty, weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_r1_of_a_quadratic_discriminator_is_the_mean_over_images() -> None:
    """The gradient of |x|^2 is 2 x."""
    images = torch.randn(5, 3, 8, 8, generator=seeded(1), requires_grad=True)
    logits = images.square().sum(dim=(1, 2, 3))[:, None]
    torch.testing.assert_close(r1_penalty(logits, images), 4 * images.square().sum() / 5)


def test_r1_of_patches_does_not_shrink_with_their_number() -> None:
    """Side by side, every verdict w . patch has the gradient w: |w|^2 for 4 verdicts, for 64, and for both together."""
    weight = torch.randn(1, 3, 4, 4, generator=seeded(0))
    penalties = []
    for side_px in (8, 32):
        images = torch.randn(2, 3, side_px, side_px, generator=seeded(1), requires_grad=True)
        penalties.append(r1_penalty(F.conv2d(images, weight, stride=4), images))
    torch.testing.assert_close(torch.stack(penalties), weight.square().sum().expand(2))
    images = torch.randn(2, 6, 8, 8, generator=seeded(1), requires_grad=True)
    scales = [F.conv2d(images[:, :3], weight, stride=4), F.conv2d(images[:, 3:], weight[..., :1, :1], stride=1)]
    expected = (weight.square().sum() + weight[..., 0, 0].square().sum()) / 2
    torch.testing.assert_close(r1_penalty(scales, images), expected)


def test_r1_sees_slopes_that_cancel_between_neighbours() -> None:
    """Verdicts on overlapping differences (x[i + 1] - x[i]) have slopes of sqrt(2), though their sum is almost flat."""
    kernel = torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2)
    images = torch.zeros(1, 1, 64, 65, requires_grad=True)
    penalty = r1_penalty(F.conv2d(images, kernel), images, generator=seeded(0))
    assert penalty.item() == pytest.approx(2.0, rel=0.1)


def test_r1_is_drawn_again_the_same_from_the_same_seed() -> None:
    images = torch.randn(1, 3, 16, 16, generator=seeded(1), requires_grad=True)
    logits = F.conv2d(images, torch.randn(1, 3, 4, 4, generator=seeded(0)))
    first, again = (r1_penalty(logits, images, generator=seeded(7)) for _ in range(2))
    assert torch.equal(first, again)


def test_feature_matching_pulls_only_the_restored_image() -> None:
    """Mean over layers of the mean difference: (1 + 3) / 2 here, though the second layer is 16 times larger."""
    real = [torch.zeros(2, 4, 4, 4, requires_grad=True), torch.zeros(2, 4, 16, 16, requires_grad=True)]
    fake = [torch.full_like(real[0], 1.0, requires_grad=True), torch.full_like(real[1], -3.0, requires_grad=True)]
    loss = feature_matching(fake, real)
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert all(tensor.grad is None for tensor in real)
    assert all(tensor.grad is not None for tensor in fake)


def linear_images(latents: Tensor) -> Tensor:
    """Images that hold the mean of their latents' rows, each value once: lengths are then known."""
    return latents.mean(dim=1).view(len(latents), 1, 4, 4)


def test_path_lengths_are_gradients_of_noise() -> None:
    """For an image that is the latents' mean over L rows, each row's gradient is noise / (L sqrt(HW))."""
    latents = torch.randn(3, 5, 16, generator=seeded(0), requires_grad=True)
    path = PathLength()
    penalty = path(linear_images(latents), latents, generator=seeded(1))
    noise = torch.randn(3, 1, 4, 4, generator=seeded(1))
    lengths = noise.flatten(1).norm(dim=1) / 4 / 5
    mean = 0.01 * lengths.mean()  # from 0
    torch.testing.assert_close(path.mean, mean)
    torch.testing.assert_close(penalty, (lengths - mean).square().mean())
    assert not path.mean.requires_grad


def test_a_resumed_path_length_goes_on_exactly() -> None:
    """Ten steps in one go, and six, a checkpoint, and four: the same penalties to the last bit."""
    latents = torch.randn(2, 5, 16, generator=seeded(0), requires_grad=True)

    def steps(path: PathLength, first: int, last: int) -> list[float]:
        return [path(linear_images(latents), latents, generator=seeded(k)).item() for k in range(first, last)]

    uncut, cut, resumed = PathLength(), PathLength(), PathLength()
    expected = steps(uncut, 0, 10)
    before = steps(cut, 0, 6)
    resumed.load_state_dict(cut.state_dict())
    assert before + steps(resumed, 6, 10) == expected
    assert torch.equal(resumed.mean, uncut.mean)
    assert uncut.mean > 0


def test_restoring_with_latents_changes_nothing() -> None:
    """The same image, one row for each styled layer and one for the last ToRGB; and no hook stays behind."""
    net = small_gpen()
    images = torch.randn(2, 3, 32, 32, generator=seeded(0))
    expected = net(images)
    output, latents = restore_with_latents(net, images)
    assert torch.equal(output, expected)
    assert latents.shape == (2, 8, 16)  # 2 log2(32) - 2, as in StyleGAN2
    assert all(torch.equal(latents[:, row], latents[:, 0]) for row in range(8))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_rows_of_latents_are_the_layers_shares_of_w() -> None:
    """Moved all together, the rows move the image as w does: their gradients add up to that of w."""
    net = small_gpen()
    images = torch.randn(2, 3, 32, 32, generator=seeded(0))
    direction = torch.randn(2, 3, 32, 32, generator=seeded(1))
    output, latents = restore_with_latents(net, images)
    (rows,) = torch.autograd.grad((output * direction).sum(), latents)
    assert (rows.abs().amax(dim=(0, 2)) > 0).all()
    made: list[Tensor] = []
    with net.generator.style.register_forward_hook(lambda _module, _args, w: made.append(w)):
        output = net(images)
    (whole,) = torch.autograd.grad((output * direction).sum(), made[0])
    torch.testing.assert_close(rows.sum(dim=1), whole, rtol=1e-4, atol=1e-5)


def test_path_length_teaches_the_generator() -> None:
    """Through second derivatives: every kernel of its styled layers gets a finite gradient."""
    net = small_gpen()
    output, latents = restore_with_latents(net, torch.randn(2, 3, 32, 32, generator=seeded(0)))
    PathLength()(output, latents, generator=seeded(1)).backward()
    for name, parameter in net.generator.convs.named_parameters():
        if name.endswith("conv.weight"):
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any(), name


def test_a_restorer_that_does_not_yet_listen_to_w_gets_no_nan() -> None:
    """One that starts as the identity has paths of length 0, where a bare root's slope is infinite."""
    net = small_gpen()
    with torch.no_grad():
        for to_rgb in (net.generator.to_rgb1, *net.generator.to_rgbs):
            to_rgb.get_submodule("conv").weight.zero_()
    output, latents = restore_with_latents(net, torch.randn(2, 3, 32, 32, generator=seeded(0)))
    PathLength()(output, latents, generator=seeded(1)).backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
