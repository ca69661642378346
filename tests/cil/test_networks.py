"""Networks: shapes, initialisation, growth, and arithmetic against formulas written out here."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from escort_cil.networks import (
    Backbone,
    BackboneListNet,
    GrowingNet,
    Head,
    IncrementalNet,
    SharedStagesNet,
    backbone_maker,
)


def tiny() -> Backbone:
    """A backbone of 4 features with a batch norm in each part."""
    shared = nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU())
    last = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(shared, last, 4)


def test_published_numbers_of_weights() -> None:
    # torchvision's ResNets have 11,689,512, 21,797,672 and 25,557,032 weights with their heads of 1000 classes.
    sizes = {"resnet18": (11_689_512, 512), "resnet34": (21_797_672, 512), "resnet50": (25_557_032, 2048)}
    for name, (count, features) in sizes.items():
        backbone = backbone_maker(name)()
        assert backbone.feature_dim == features
        assert sum(p.numel() for p in backbone.parameters()) + features * 1000 + 1000 == count
    # He et al. 2016, table 6: ResNet-32 has 0.46 million weights.
    small = backbone_maker("resnet32")()
    assert sum(p.numel() for p in small.parameters()) + 64 * 10 + 10 == 464_154
    assert small.feature_dim == 64


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet32"])
def test_both_parts_make_the_features(name: str) -> None:
    backbone = backbone_maker(name)().eval()
    images = torch.randn(2, 3, 32, 32)
    features = backbone(images)
    assert features.shape == (2, backbone.feature_dim)
    assert torch.equal(features, backbone.last(backbone.shared(images)))


def test_initialisation() -> None:
    torch.manual_seed(0)
    backbone = backbone_maker("resnet18")()
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions[1:]:
        fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels
        assert float(conv.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    for norm in (m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)):
        assert torch.all(norm.weight == 1)
        assert torch.all(norm.bias == 0)
    head = Head(300, 200)
    bound = math.sqrt(3 / 300)
    assert float(head.weight.detach().abs().max()) <= bound + 1e-6
    assert float(head.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert torch.all(head.bias == 0)


def test_a_basic_block_is_two_convolutions_and_a_shortcut() -> None:
    torch.manual_seed(1)
    block = (
        backbone_maker("resnet18")().get_submodule("shared.5.0").eval()
    )  # the first of stage 2: 64 to 128 planes, stride 2
    x = torch.randn(2, 64, 8, 8)

    def norm(y: Tensor) -> Tensor:  # a fresh batch norm in evaluation mode: mean 0, variance 1
        return y / math.sqrt(1 + 1e-5)

    hidden = F.relu(norm(F.conv2d(x, block.get_parameter("conv1.weight"), stride=2, padding=1)))
    out = norm(F.conv2d(hidden, block.get_parameter("conv2.weight"), padding=1))
    expected = F.relu(out + norm(F.conv2d(x, block.get_parameter("shortcut.0.weight"), stride=2)))
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_option_a_shortcut_takes_every_other_pixel_and_adds_zeros() -> None:
    block = backbone_maker("resnet32")().get_submodule("shared.4.0")  # 16 to 32 planes, stride 2
    nn.init.zeros_(block.get_parameter("conv2.weight"))  # nothing but the shortcut
    x = torch.rand(1, 16, 4, 4)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert torch.all(out[:, 16:] == 0)


def test_the_head_grows_and_keeps_what_it_knew() -> None:
    net = IncrementalNet(tiny)
    net.grow(3)
    before = copy.deepcopy(net.head)
    net.grow(2)
    assert net.head.weight.shape == (5, 4)
    assert net.classes == 5
    assert torch.equal(net.head.weight[:3], before.weight)
    assert torch.equal(net.head.bias[:3], before.bias)
    net.eval()
    images = torch.randn(2, 3, 8, 8)
    features, logits, aux = net(images)
    assert torch.allclose(logits, features @ net.head.weight.T + net.head.bias)
    assert aux is None


def test_weight_alignment_worked_out_by_hand() -> None:
    head = Head(2, 4)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 8.0], [0.0, 2.0]]))
        head.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    # Norms 5 and 1 of the old classes, mean 3; 10 and 2 of the new ones, mean 6: the factor is 1/2.
    assert head.align(2) == pytest.approx(0.5)
    assert torch.equal(head.weight, torch.tensor([[3.0, 4.0], [0.0, 1.0], [3.0, 4.0], [0.0, 1.0]]))
    assert torch.equal(head.bias, torch.tensor([1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize("kind", [BackboneListNet, SharedStagesNet])
def test_expanding_networks(kind: type[BackboneListNet] | type[SharedStagesNet]) -> None:
    net = kind(tiny)
    net.grow(3)
    assert net(torch.randn(2, 3, 8, 8)).aux is None
    first = copy.deepcopy(net.parts[0].state_dict())
    head = copy.deepcopy(net.head)
    net.grow(2)
    assert net.feature_dim == 8
    # The new part starts as the one before; the head keeps its classes and features.
    for name, value in net.parts[1].state_dict().items():
        assert torch.equal(value, first[name])
    assert torch.equal(net.head.weight[:3, :4], head.weight)
    net.eval()
    images = torch.randn(5, 3, 8, 8)
    features, logits, aux = net(images)
    assert aux is not None
    assert aux.shape == (5, 3)  # any old class, and two new ones
    assert torch.allclose(features[:, :4], features[:, 4:])
    assert torch.allclose(aux, features[:, 4:] @ net.aux.weight.T + net.aux.bias)
    assert torch.allclose(logits, features @ net.head.weight.T + net.head.bias)


@pytest.mark.parametrize("kind", [BackboneListNet, SharedStagesNet])
def test_old_parts_are_frozen_and_their_batch_norms_stay(kind: type[BackboneListNet] | type[SharedStagesNet]) -> None:
    net = kind(tiny)
    net.grow(2)
    net.grow(2)
    net.freeze_old_parts()
    net.train_newest()
    assert not any(p.requires_grad for p in net.parts[0].parameters())
    assert all(p.requires_grad for p in net.parts[1].parameters())
    assert not net.parts[0].training
    assert net.parts[1].training
    assert net.head.training
    before = copy.deepcopy(net.state_dict())
    net(torch.randn(6, 3, 8, 8))
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert all("running" in name or "batches" in name for name in changed)
    assert not any(name.startswith("parts.0") for name in changed)
    assert any(name.startswith("parts.1") for name in changed)
    if isinstance(net, SharedStagesNet):
        assert all(p.requires_grad for p in net.shared.parameters())
        assert any(name.startswith("shared") for name in changed)


@pytest.mark.parametrize("kind", [IncrementalNet, BackboneListNet, SharedStagesNet])
def test_a_deep_copy_is_apart(kind: type[GrowingNet]) -> None:
    net = kind(tiny)
    net.grow(2)
    twin = copy.deepcopy(net)
    net.eval()
    twin.eval()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(net(images).logits, twin(images).logits)
    with torch.no_grad():
        net.head.weight.add_(1)
    assert not torch.equal(net.head.weight, twin.head.weight)
    twin.grow(1)
    assert (net.classes, twin.classes) == (2, 3)
