"""The learners' losses, optimiser steps and phase ends against formulas worked out here."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from escort_cil.augment import Transform
from escort_cil.data.images import DecodedImages, Item, store_items
from escort_cil.devices import Devices
from escort_cil.epochs import LoopSettings, batches, train_epochs
from escort_cil.learners import Learner, Schedule, learners
from escort_cil.learners.base import Hyperparameters, auxiliary_targets, distillation
from escort_cil.networks import Backbone, BackboneListNet, GrowingNet, Output, SharedStagesNet
from escort_codec.errors import ConfigError, UnknownNameError
from escort_codec.settings import build

LOGITS = [[1.0, 2.0, 0.5, -1.0], [0.0, -1.0, 3.0, 1.0]]
OLD = [[2.0, 0.0], [1.0, -1.0]]
TARGETS = [1, 2]
ONE: dict[str, object] = {"init_epochs": 1, "init_lr": 0.05, "init_weight_decay": 0.01, "batch_size": 64}
ONE |= {"epochs": 1, "lr": 0.05, "weight_decay": 0.01}


def tiny() -> Backbone:
    shared = nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU())
    last = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(shared, last, 4)


def make(name: str, **options: object) -> Learner:
    kind = learners.get(name)
    return kind(build(kind.hyperparameters, options, "setting", ConfigError), tiny)


class Says(GrowingNet):
    """A network that always gives the same logits."""

    def __init__(self, logits: Sequence[Sequence[float]]) -> None:
        super().__init__(tiny)
        self.said = torch.tensor(logits)

    @property
    def feature_dim(self) -> int:
        return 1

    def features(self, images: Tensor) -> Tensor:
        return torch.zeros(len(self.said), 1)

    def forward(self, images: Tensor) -> Output:
        return Output(self.features(images), self.said)

    def _expand(self, new: int) -> None:
        raise AssertionError


def softmax(values: Sequence[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def entropy(rows: Sequence[Sequence[float]], targets: Sequence[int]) -> float:
    return -sum(math.log(softmax(row)[t]) for row, t in zip(rows, targets, strict=True)) / len(targets)


def soft_entropy(rows: Sequence[Sequence[float]], old: Sequence[Sequence[float]], temperature: float) -> float:
    total = 0.0
    for row, before in zip(rows, old, strict=True):
        p, q = softmax(row, temperature), softmax(before, temperature)
        total -= sum(b * math.log(a) for a, b in zip(p, q, strict=True))
    return total / len(rows)


def in_second_phase(name: str, aux: Sequence[Sequence[float]] | None = None, **options: object) -> float:
    """The loss of the fixed logits with two old and two new classes."""
    learner = make(name, **options)
    learner.known, learner.total, learner.phase = 2, 4, 1
    learner.old_network = Says(OLD)
    output = Output(torch.zeros(2, 1), torch.tensor(LOGITS), None if aux is None else torch.tensor(aux))
    return float(learner.loss(output, torch.zeros(2, 3, 4, 4), torch.tensor(TARGETS)))


def test_a_distillation_of_two_classes_by_hand() -> None:
    # Old logits (2 ln 3, 0) at T = 2: softmax (3/4, 1/4). New logits (0, 0): (1/2, 1/2). -3/4 ln 1/2 - 1/4 ln 1/2.
    loss = distillation(torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]]), 2.0)
    assert float(loss) == pytest.approx(math.log(2))


def test_icarl() -> None:
    old = [row[:2] for row in LOGITS]
    assert in_second_phase("icarl") == pytest.approx(entropy(LOGITS, TARGETS) + soft_entropy(old, OLD, 2.0), rel=1e-5)
    assert in_second_phase("icarl", temperature=1.5) == pytest.approx(
        entropy(LOGITS, TARGETS) + soft_entropy(old, OLD, 1.5), rel=1e-5
    )


def test_wa_weighs_by_the_share_of_old_classes() -> None:
    expected = 0.5 * entropy(LOGITS, TARGETS) + 0.5 * soft_entropy([row[:2] for row in LOGITS], OLD, 2.0)
    assert in_second_phase("wa") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["der", "memo"])
def test_auxiliary_loss(name: str) -> None:
    # Target 1 is an old class: 0 for the auxiliary head. Target 2 is the first new one: 1.
    aux = [[0.5, 1.0, -1.0], [2.0, 0.0, 1.0]]
    expected = entropy(LOGITS, TARGETS) + entropy(aux, [0, 1])
    assert in_second_phase(name, aux) == pytest.approx(expected, rel=1e-5)
    expected = entropy(LOGITS, TARGETS) + 0.25 * entropy(aux, [0, 1])
    assert in_second_phase(name, aux, aux_weight=0.25) == pytest.approx(expected, rel=1e-5)


def test_auxiliary_targets() -> None:
    assert auxiliary_targets(torch.tensor([0, 3, 4, 5, 9]), 4).tolist() == [0, 0, 1, 2, 6]


def test_references() -> None:
    assert in_second_phase("replay") == pytest.approx(entropy(LOGITS, TARGETS), rel=1e-5)
    assert in_second_phase("joint") == pytest.approx(entropy(LOGITS, TARGETS), rel=1e-5)
    # finetune has only new classes, and only their logits count.
    learner = make("finetune")
    learner.known, learner.total = 2, 4
    output = Output(torch.zeros(2, 1), torch.tensor(LOGITS))
    loss = learner.loss(output, torch.zeros(2, 3, 4, 4), torch.tensor([3, 2]))
    assert float(loss) == pytest.approx(entropy([row[2:] for row in LOGITS], [1, 0]), rel=1e-5)


@pytest.mark.parametrize("name", ["icarl", "wa", "replay", "joint"])
def test_the_first_phase_is_plain_cross_entropy(name: str) -> None:
    learner = make(name)
    learner.begin_phase(4, seed=0)
    loss = learner.loss(Output(torch.zeros(2, 1), torch.tensor(LOGITS)), torch.zeros(2, 3, 4, 4), torch.tensor(TARGETS))
    assert float(loss) == pytest.approx(entropy(LOGITS, TARGETS), rel=1e-5)


PLAIN = Transform("plain", 8, None, "padded", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), padding=0, flip=0.0, brightness=0.0)


def one_step(learner: Learner, labels: Sequence[int]) -> Tensor:
    """Trains one epoch of one batch with the product's loop; returns the images that the network saw."""
    rng = np.random.default_rng(7)
    images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in labels]
    decoded = DecodedImages(PLAIN, workers=1)
    shown = [Item(label, image, [], "x") for label, image in zip(labels, images, strict=True)]
    items = store_items(shown, decoded, evaluated=False)
    train_epochs(LoopSettings(Devices("cpu"), PLAIN, 1, 0.0, 1, 2), learner, decoded.training, items)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def test_one_step_of_icarl_equals_the_gradient_by_hand() -> None:
    learner = make("icarl", **ONE)
    learner.begin_phase(2, seed=3)
    learner.end_phase()
    learner.begin_phase(2, seed=4)
    before, old = copy.deepcopy(learner.net), copy.deepcopy(learner.old_network)
    assert old is not None
    labels = [0, 1, 2, 3, 2, 3]
    images = one_step(learner, labels)
    with torch.no_grad():
        features, logits, _ = before.train()(images)
        old_logits = old(images).logits
    # d loss / d logits of cross-entropy: (softmax - one-hot) / B; of the distillation: (p - q) / (T B) on old classes.
    slope = (torch.softmax(logits, 1) - torch.eye(4)[labels]) / 6
    slope[:, :2] += (torch.softmax(logits[:, :2] / 2, 1) - torch.softmax(old_logits / 2, 1)) / (2 * 6)
    weight = before.head.weight - 0.05 * (slope.T @ features + 0.01 * before.head.weight)
    bias = before.head.bias - 0.05 * (slope.sum(0) + 0.01 * before.head.bias)
    assert torch.allclose(learner.net.head.weight, weight, atol=1e-5)
    assert torch.allclose(learner.net.head.bias, bias, atol=1e-5)


def test_one_step_of_der_changes_the_new_backbone_alone() -> None:
    learner = make("der", **ONE)
    learner.begin_phase(2, seed=3)
    one_step(learner, [0, 1, 0, 1])
    learner.end_phase()
    learner.begin_phase(2, seed=4)
    before = copy.deepcopy(learner.net)
    images = one_step(learner, [0, 1, 2, 3])
    for name, value in learner.net.state_dict().items():
        same = torch.equal(value, before.state_dict()[name])
        assert same == name.startswith("parts.0"), name
    assert isinstance(before, BackboneListNet)
    assert isinstance(learner.net, BackboneListNet)
    with torch.no_grad():
        before.train_newest()
        features, logits, aux = before(images)
    slope = (torch.softmax(logits, 1) - torch.eye(4)) / 4
    assert torch.allclose(
        learner.net.head.bias, before.head.bias - 0.05 * (slope.sum(0) + 0.01 * before.head.bias), atol=1e-5
    )
    aux_slope = (torch.softmax(aux, 1) - torch.eye(3)[[0, 0, 1, 2]]) / 4
    weight = before.aux.weight
    expected = weight - 0.05 * (aux_slope.T @ features[:, 4:] + 0.01 * weight)
    assert torch.allclose(learner.net.aux.weight, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["wa", "der", "memo"])
def test_new_weights_are_aligned_after_later_phases(name: str) -> None:
    learner = make(name)
    learner.begin_phase(2, seed=1)
    before = learner.net.head.weight.clone()
    learner.end_training()
    assert torch.equal(learner.net.head.weight, before)
    learner.end_phase()
    learner.begin_phase(3, seed=2)
    with torch.no_grad():
        learner.net.head.weight[2:] *= 3
    new = learner.net.head.weight[2:].clone()
    learner.end_training()
    norms = learner.net.head.weight.detach().norm(dim=1)
    assert float(norms[2:].mean()) == pytest.approx(float(norms[:2].mean()), rel=1e-5)
    ratio = learner.net.head.weight[2:] / new
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio))


@pytest.mark.parametrize("name", ["icarl", "wa"])
def test_the_old_network_is_a_frozen_copy(name: str) -> None:
    learner = make(name)
    learner.begin_phase(2, seed=1)
    learner.end_phase()
    old = learner.old_network
    assert old is not None
    assert not old.training
    assert not any(p.requires_grad for p in old.parameters())
    learner.begin_phase(2, seed=2)
    assert old.classes == 2
    assert learner.net.classes == 4
    assert all(p.requires_grad for p in learner.net.parameters())


def test_memo_can_hold_its_shared_stages() -> None:
    learner = make("memo", train_base="false")
    learner.begin_phase(2, seed=1)
    assert isinstance(learner.net, SharedStagesNet)
    assert all(p.requires_grad for p in learner.net.shared.parameters())
    learner.begin_phase(2, seed=2)
    learner.train_mode()
    assert not any(p.requires_grad for p in learner.net.shared.parameters())
    assert not learner.net.shared.training
    learner = make("memo")
    learner.begin_phase(2, seed=1)
    learner.begin_phase(2, seed=2)
    learner.train_mode()
    assert isinstance(learner.net, SharedStagesNet)
    assert learner.net.shared.training
    assert all(p.requires_grad for p in learner.net.shared.parameters())


def test_weights_depend_on_the_seed_and_leave_the_random_numbers_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, two, three = make("icarl"), make("icarl"), make("icarl")
    for learner, seed in ((one, 5), (two, 5), (three, 6)):
        learner.begin_phase(3, seed)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one.net.head.weight, two.net.head.weight)
    assert not torch.equal(one.net.head.weight, three.net.head.weight)


def test_the_papers_schedules() -> None:
    wanted = {"icarl": (80, 120), "wa": (60, 100, 140), "der": (80, 120, 150), "memo": (80, 120, 150)}
    for name, milestones in wanted.items():
        config = make(name).config
        first, later = config.schedule(0), config.schedule(1)
        assert first == Schedule(200, 0.1, (60, 120, 170), 0.1, 5e-4)
        assert later == Schedule(170, 0.1, milestones, 0.1, 2e-4)
        assert (config.momentum, config.batch_size) == (0.9, 128)
    rates = [Schedule(200, 0.1, (60, 120, 170), 0.1, 0.0).lr_at(epoch) for epoch in (0, 59, 60, 119, 120, 170, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.0001, 0.0001])


def test_fewer_epochs_move_the_milestones() -> None:
    config = make("icarl").config.shortened(17)
    assert (config.init_epochs, config.init_milestones) == (17, (5, 10, 14))
    assert (config.epochs, config.milestones) == (17, (8, 12))
    assert config.shortened(17) == config


def test_options_are_converted_and_wrong_ones_named() -> None:
    config = build(Hyperparameters, {"lr": "0.5", "milestones": "3,5", "epochs": "7", "batch_size": 4})
    assert (config.lr, config.milestones, config.epochs, config.batch_size) == (0.5, (3, 5), 7, 4)
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        make("icarl", temprature=3)
    for key, value in (
        ("epochs", "0"),
        ("epochs", 1.5),
        ("lr", "fast"),
        ("lr", -1),
        ("lr", "nan"),
        ("milestones", "a"),
    ):
        with pytest.raises(ConfigError, match=key):
            make("icarl", **{key: value})
    with pytest.raises(UnknownNameError, match="icarl"):
        learners.get("icrl")


def test_batches_hold_each_item_once() -> None:
    for count, size, world in ((10, 4, 1), (9, 4, 1), (1, 4, 1), (14, 4, 3), (8, 4, 1), (3, 8, 1)):
        made = list(batches(count, size, world, torch.Generator().manual_seed(0)))
        assert sorted(torch.cat(made).tolist()) == list(range(count))
        assert len(made) == 1 or min(map(len, made)) >= max(2, world)
