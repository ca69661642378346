"""BiC, PODNet, FOSTER, LwF, EWC and SimpleCIL: losses, stages and phase ends against formulas worked out here."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from escort_cil.data.images import DecodedImages, Item, store_items
from escort_cil.devices import Devices
from escort_cil.epochs import LoopSettings
from escort_cil.learners import Learner, PhaseItems, Schedule, learners
from escort_cil.learners.bic import BiasedNet
from escort_cil.learners.ewc import AnchoredNet
from escort_cil.learners.foster import FosterNet, class_weights
from escort_cil.learners.podnet import nca, pod_spatial, profile
from escort_cil.networks import CosineHead, CosineNet, Output, backbone_maker
from escort_cil.run.command import configure
from escort_cil.stages import train_phase
from tests.cil.pycil_files import EXPS
from tests.cil.test_learners import (
    LOGITS,
    OLD,
    ONE,
    PLAIN,
    TARGETS,
    Says,
    entropy,
    in_second_phase,
    make,
    soft_entropy,
    softmax,
    tiny,
)

IMAGES = torch.zeros(2, 3, 4, 4)


def number(value: Tensor) -> float:
    return float(value.detach())


def train_one(learner: Learner, labels: Sequence[int], own: int, herd: Callable[[int], Tensor] | None = None) -> Tensor:
    """Trains a phase with the product's loop on one image of random pixels for each label; returns the images."""
    rng = np.random.default_rng(7)
    images = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in labels]
    decoded = DecodedImages(PLAIN, workers=1)
    items = store_items(
        [Item(label, image, [], "x") for label, image in zip(labels, images, strict=True)], decoded, evaluated=False
    )
    loop = LoopSettings(Devices("cpu"), PLAIN, 1, 0.0, 1, 2)
    chosen = herd or (lambda count: torch.empty(0, dtype=torch.int64))
    train_phase(loop, learner, decoded.training, items, own, herd=chosen)
    learner.end_training()
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def in_new_phase(name: str, **options: object) -> Learner:
    """A learner of two old classes, in the phase of two new ones."""
    learner = make(name, **options)
    learner.begin_phase(2, seed=3)
    learner.end_phase()
    learner.begin_phase(2, seed=4)
    return learner


def given(labels: Sequence[int], own: int, herd: Callable[[int], Tensor] | None = None) -> PhaseItems:
    generator = torch.Generator().manual_seed(5)
    return PhaseItems(torch.tensor(labels), own, generator, herd or (lambda count: torch.empty(0, dtype=torch.int64)))


# LwF


def test_lwf() -> None:
    targets, learner = [3, 2], make("lwf")
    learner.known, learner.total, learner.phase = 2, 4, 1
    learner.old_network = Says(OLD)
    loss = learner.loss(Output(torch.zeros(2, 1), torch.tensor(LOGITS)), IMAGES, torch.tensor(targets))
    new, old = [row[2:] for row in LOGITS], [row[:2] for row in LOGITS]
    assert number(loss) == pytest.approx(entropy(new, [1, 0]) + 3 * soft_entropy(old, OLD, 2.0), rel=1e-5)


# EWC


def test_ewc_penalty_by_hand() -> None:
    # One old class with weight (1, 0, 0, 0), Fisher information 0.5, now at (3, 0, 0, 0): 0.5 x 4 / 2 = 1.
    learner = make("ewc", penalty=10)
    learner.begin_phase(1, seed=1)
    net = learner.net
    assert isinstance(net, AnchoredNet)
    for name, weight in net.weights():
        getattr(net.means, name).copy_(weight)
    getattr(net.fisher, "head/weight")[0, 0] = 0.5
    with torch.no_grad():
        net.head.weight[0, 0] += 2
    learner.begin_phase(2, seed=2)
    assert net.penalty().item() == pytest.approx(1)
    with torch.no_grad():
        net.head.weight[1:] += 5  # a new class's weights cost nothing
    assert net.penalty().item() == pytest.approx(1)
    output = Output(torch.zeros(2, 1), torch.tensor([row[:3] for row in LOGITS]))
    loss = learner.loss(output, IMAGES, torch.tensor([1, 2]))
    assert loss.item() == pytest.approx(entropy([row[1:3] for row in LOGITS], [0, 1]) + 10, rel=1e-5)


def test_ewc_joins_the_fisher_information_by_the_share_of_old_classes() -> None:
    learner = in_new_phase("ewc", **ONE, fisher_max=0.02)
    net = learner.net
    assert isinstance(net, AnchoredNet)
    with torch.no_grad():
        net.get_buffer("fisher.head/bias").copy_(torch.tensor([0.01, 0.002, 0.0, 0.0]))
    labels = [2, 3, 2, 3, 3, 2]
    images = train_one(learner, labels, own=6)
    # One batch of all images: the gradient of the mean loss by the bias is the mean of softmax - one-hot.
    twin = copy.deepcopy(net).train()
    for layer in twin.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    with torch.no_grad():
        slope = (torch.softmax(twin(images).logits, 1) - torch.eye(4)[labels]).mean(dim=0)
    new = slope.square().clamp(max=0.02)
    expected = torch.cat([0.5 * torch.tensor([0.01, 0.002]) + 0.5 * new[:2], new[2:]])
    assert torch.allclose(net.get_buffer("fisher.head/bias"), expected, atol=1e-6)
    assert torch.equal(net.get_buffer("means.head/bias"), net.head.bias)
    body = net.get_buffer("fisher.body/shared/0/weight")
    assert 0 < number(body.max()) <= 0.02


# BiC


def test_bic_corrects_each_phase_by_its_own_scale_and_shift() -> None:
    learner = in_new_phase("bic")
    net = learner.net
    assert isinstance(net, BiasedNet)
    with torch.no_grad():
        net.biases.get_submodule("0").get_parameter("scale").fill_(2.0)
        net.biases.get_submodule("1").get_parameter("shift").fill_(-1.0)
    features = torch.randn(3, 4)
    plain = net.head(features)
    assert torch.allclose(net.classify(features), torch.cat([2 * plain[:, :2], plain[:, 2:] - 1], dim=1))


def test_bic_losses() -> None:
    expected = 0.5 * entropy(LOGITS, TARGETS) + 0.5 * soft_entropy([row[:2] for row in LOGITS], OLD, 2.0)
    assert in_second_phase("bic") == pytest.approx(expected, rel=1e-5)
    learner = in_new_phase("bic")
    learner.begin_stage(1)
    loss = learner.loss(Output(torch.zeros(2, 1), torch.tensor(LOGITS)), IMAGES, torch.tensor(TARGETS))
    assert number(loss) == pytest.approx(entropy([softmax(row) for row in LOGITS], TARGETS), rel=1e-5)


def test_bic_holds_back_as_many_of_each_class() -> None:
    learner = in_new_phase("bic", split_ratio=0.25)
    labels = [2] * 9 + [3] * 7 + [0] * 8 + [1] * 4
    # 12 of 2 old classes: 6 of each on average, a quarter of them is 1.5: 1 of each class.
    first, second = (learner.items(stage, given(labels, own=16)) for stage in (0, 1))
    assert first is not None
    assert second is not None
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(28))
    assert sorted(labels[i] for i in second.tolist()) == [0, 1, 2, 3]
    few = learner.items(1, given([2, 2, 2, 3, 3, 0], own=5))  # the only exemplar of class 0 stays in training
    assert few is not None
    assert sorted([2, 2, 2, 3, 3, 0][i] for i in few.tolist()) == [2, 3]
    nothing = learner.items(1, given([2, 3], own=2))
    assert nothing is not None
    assert not len(nothing)


def test_bic_trains_the_newest_bias_alone_in_its_second_stage() -> None:
    learner = in_new_phase("bic", **ONE, split_ratio=0.5)
    before = copy.deepcopy(learner.net.state_dict())
    train_one(learner, [2, 2, 2, 3, 3, 3, 0, 0, 1, 1], own=6)
    after = learner.net.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"biases.1.scale", "biases.1.shift", "head.weight"} <= changed
    assert not {"biases.0.scale", "biases.0.shift"} & changed
    trained = copy.deepcopy(after)
    learner.begin_stage(1)
    assert [name for name, weight in learner.net.named_parameters() if weight.requires_grad] == [
        "biases.1.scale",
        "biases.1.shift",
    ]
    assert all(torch.equal(value, trained[name]) for name, value in learner.net.state_dict().items())


# PODNet


def test_nca_by_hand() -> None:
    # Logits (0, ln 2), right class 0: s - max is (-ln 2, 0); the right class counts as exp(0) = 1 below:
    # -log(0.5 / (1 + 1)) = ln 4. Right class 1: -log(1 / (0.5 + 1)) = ln 1.5.
    logits = torch.tensor([[0.0, math.log(2)]] * 2)
    assert number(nca(logits[:1], torch.tensor([0]))) == pytest.approx(math.log(4))
    assert number(nca(logits[1:], torch.tensor([1]))) == pytest.approx(math.log(1.5))
    assert number(nca(logits, torch.tensor([0, 1]))) == pytest.approx((math.log(4) + math.log(1.5)) / 2)


def test_profiles_by_hand() -> None:
    # A map [[1, 0], [0, 2]]: squares [[1, 0], [0, 4]], by row (1, 4), by column (1, 4), length sqrt(34).
    maps = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]])
    assert torch.allclose(profile(maps), torch.tensor([[1, 4, 1, 4]]) / math.sqrt(34))
    # Two stages of one number each: distances 3 and 1 for the first image, 0 and 2 for the second.
    new, old = torch.tensor([[3.0, 1.0], [5.0, 2.0]]), torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    assert number(pod_spatial(new, old, (1, 1))) == pytest.approx((1.5 + 1.5) / 2)


def test_cosine_head_by_hand() -> None:
    head = CosineHead(2, 1, 2, None)
    with torch.no_grad():
        head.new.copy_(torch.tensor([[5.0, 0.0], [0.0, 0.1]]))
        head.sigma.fill_(3.0)
    # The feature (1, 0): cosines 1 and 0, weights e / (e + 1) and 1 / (e + 1).
    assert number(head(torch.tensor([[7.0, 0.0]]))) == pytest.approx(3 * math.e / (math.e + 1), rel=1e-5)
    grown = CosineHead(2, 2, 2, head)
    assert torch.equal(grown.weight()[:2], head.new)
    assert number(grown.sigma) == 3
    assert [name for name, weight in grown.named_parameters() if weight.requires_grad] == ["new", "sigma"]
    assert grown(torch.zeros(4, 2)).shape == (4, 3)


def staged() -> Any:
    torch.manual_seed(0)
    return backbone_maker("resnet10", "small")()


def test_podnet_loss() -> None:
    learner = learners.get("podnet")(learners.get("podnet").hyperparameters(), staged)
    learner.begin_phase(2, seed=1)
    learner.end_phase()
    learner.begin_phase(3, seed=2)
    assert learner.old_network is not None
    with torch.no_grad():
        learner.net.get_parameter("body.last.0.0.conv1.weight").mul_(-1)
    images, targets = torch.randn(4, 3, 16, 16), torch.tensor([0, 4, 2, 3])
    learner.net.eval()
    with torch.no_grad():
        output, old = learner.net(images), learner.old_network(images)
        loss = learner.loss(output, images, targets)
        new_features, new_maps = learner.net.body.with_maps(images)  # type: ignore[operator, union-attr]
        _, old_maps = learner.old_network.body.with_maps(images)  # type: ignore[operator, union-attr]
    assert len(new_maps) == 4
    spatial = 0.0
    for a, b in zip(new_maps, old_maps, strict=True):
        rows = [torch.cat([(m**2).sum(3).flatten(1), (m**2).sum(2).flatten(1)], 1) for m in (a, b)]
        unit = [row / row.norm(dim=1, keepdim=True).clamp(min=1e-12) for row in rows]
        spatial += number((unit[0] - unit[1]).norm(dim=1).mean()) / 4
    cosine = (new_features * old.features).sum(1) / new_features.norm(dim=1) / old.features.norm(dim=1)
    expected = number(nca(output.logits, targets)) + math.sqrt(5 / 3) * (number((1 - cosine).mean()) + 5 * spatial)
    assert spatial > 0
    assert number(loss) == pytest.approx(expected, rel=1e-4)


def test_podnet_ends_with_as_many_of_each_class() -> None:
    learner = make("podnet")
    learner.known, learner.total, learner.phase = 2, 4, 1
    asked: list[int] = []

    def herd(count: int) -> Tensor:
        asked.append(count)
        return torch.tensor([1, 0, 4, 3])

    labels = [2, 2, 2, 3, 3, 3, 0, 0, 1, 1]
    assert learner.items(0, given(labels, own=6, herd=herd)) is None
    chosen = learner.items(1, given(labels, own=6, herd=herd))
    assert chosen is not None
    assert (asked, chosen.tolist()) == ([2], [6, 7, 8, 9, 1, 0, 4, 3])


# FOSTER


def test_foster_class_weights_by_hand() -> None:
    # beta 0.5, counts 1 and 2: 0.5 / 0.5 = 1 and 0.5 / 0.75 = 2/3; their mean is 5/6: 1.2 and 0.8.
    assert torch.allclose(class_weights(torch.tensor([1.0, 2.0]), 0.5), torch.tensor([1.2, 0.8]))
    assert torch.isfinite(class_weights(torch.tensor([0.0, 500.0]), 0.97)).all()


def foster_in_stage(stage: int, **options: object) -> tuple[Learner, FosterNet]:
    learner = in_new_phase("foster", **options)
    assert isinstance(learner.net, FosterNet)
    learner.begin_training(torch.tensor([0, 1, 2, 2, 2, 3, 3, 3]))
    learner.begin_stage(stage)
    return learner, learner.net


def test_foster_losses() -> None:
    images, targets = torch.randn(2, 3, 8, 8), torch.tensor(TARGETS)
    learner, net = foster_in_stage(0, beta1=0.5)
    weights = class_weights(torch.tensor([1.0, 1.0, 3.0, 3.0]), 0.5).tolist()
    aux = [[0.5, 1.0, -1.0, 2.0], [2.0, 0.0, 1.0, -1.0]]
    features = torch.randn(2, 8)
    output = Output(features, torch.tensor(LOGITS), torch.tensor(aux))
    weighed = [[value / weight for value, weight in zip(row, weights, strict=True)] for row in LOGITS]
    old = (features[:, :4] @ net.old_head.weight.T + net.old_head.bias).tolist()
    expected = entropy(weighed, TARGETS) + entropy(aux, TARGETS)
    expected += soft_entropy([row[:2] for row in LOGITS], old, 2.0)
    assert number(learner.loss(output, images, targets)) == pytest.approx(expected, rel=1e-5)

    learner, net = foster_in_stage(1, beta2=0.5)
    net.eval()
    with torch.no_grad():
        teacher = net.head(torch.cat([part(images) for part in net.parts], dim=1)).tolist()
    loss = 0.0
    for said, row in zip(LOGITS, teacher, strict=True):
        soft = [q * weight for q, weight in zip(softmax(row, 2.0), weights, strict=True)]
        loss -= sum(q / sum(soft) * math.log(p) for q, p in zip(soft, softmax(said, 2.0), strict=True)) / 2
    assert number(learner.loss(Output(features, torch.tensor(LOGITS)), images, targets)) == pytest.approx(
        loss, rel=1e-5
    )


def test_foster_trains_the_new_backbone_and_then_the_student() -> None:
    learner = in_new_phase("foster", **ONE, compression_epochs=1, beta1=0.9)
    net = learner.net
    assert isinstance(net, FosterNet)
    before = copy.deepcopy(net.state_dict())
    assert all(torch.equal(before[f"student.body.{name}"], value) for name, value in net.parts[0].state_dict().items())
    assert torch.equal(before["student.head.weight"][:2], before["old_head.weight"])
    train_one(learner, [0, 1, 2, 2, 3, 3], own=4)
    after = net.state_dict()
    for name, value in after.items():
        same = torch.equal(value, before[name])
        assert same == name.startswith(("parts.0", "old_head")), name
    assert not net.parts[0].training
    # The next phase begins with the student.
    learner.end_phase()
    learner.begin_phase(1, seed=5)
    grown = learner.net.state_dict()
    assert torch.equal(grown["parts.0.shared.0.weight"], after["student.body.shared.0.weight"])
    assert torch.equal(grown["old_head.weight"], after["student.head.weight"])
    assert torch.equal(grown["head.weight"][:4, :4], after["student.head.weight"])
    assert grown["head.weight"].shape == (5, 8)
    assert grown["aux.weight"].shape == (5, 4)


def test_foster_shows_teacher_or_student() -> None:
    for evaluated, dim in (("teacher", 8), ("student", 4)):
        learner = in_new_phase("foster", evaluated=evaluated)
        assert learner.net(torch.zeros(2, 3, 8, 8)).features.shape == (2, dim)
        assert learner.net.feature_dim == dim
        learner.begin_training(torch.tensor([0, 1, 2, 3]))
        for stage, trained in ((0, 8), (1, 4)):
            learner.begin_stage(stage)
            assert learner.net(torch.zeros(2, 3, 8, 8)).features.shape == (2, trained)
        learner.end_training()
        assert learner.net(torch.zeros(2, 3, 8, 8)).features.shape == (2, dim)


def test_foster_keeps_new_weights_on_old_features_zero() -> None:
    learner = in_new_phase("foster", **ONE, compression_epochs=1, new_on_old="az")
    train_one(learner, [0, 1, 2, 2, 3, 3], own=4)
    weight = learner.net.head.weight
    assert not weight[2:, :4].any()
    assert weight[2:, 4:].any()


def test_foster_aligns_by_a_power() -> None:
    learner, net = foster_in_stage(0, align_teacher=True, align_value=0.5)
    learner.end_stage(0)
    norms = net.head.weight.detach().norm(dim=1)
    # 2 old and 2 new classes: 0.5 ** (2 / 2).
    assert number(norms[2:].mean()) == pytest.approx(0.5 * number(norms[:2].mean()), rel=1e-5)


# SimpleCIL


def test_simplecil_takes_means() -> None:
    learner = make("simplecil")
    learner.begin_phase(2, seed=1)
    features = torch.tensor([[1.0, 0, 0, 0], [3.0, 0, 0, 0], [0, 1.0, 0, 0]])
    learner.see_features(features, torch.tensor([0, 0, 1]))
    net = learner.net
    assert isinstance(net, CosineNet)
    assert net.cosine.new.tolist() == [[2, 0, 0, 0], [0, 1, 0, 0]]
    learner.begin_phase(1, seed=2)
    learner.see_features(torch.tensor([[0, 0, 1.0, 1.0]]), torch.tensor([2]))
    assert net.cosine.weight().tolist() == [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]
    assert net.classify(torch.tensor([[0.0, 5.0, 0, 0]])).argmax().item() == 1


def test_simplecil_trains_the_first_phase_if_the_backbone_may_be() -> None:
    learner = make("simplecil")
    assert [len(learner.stages(phase)) for phase in range(3)] == [1, 0, 0]
    frozen = learners.get("simplecil")(learner.config, tiny, frozen=True)
    assert [len(frozen.stages(phase)) for phase in range(3)] == [0, 0, 0]


# Schedules and files


def test_schedules_of_pycil() -> None:
    steps, cosine = "steplr", "cosine"
    assert make("bic").config.schedule(0) == Schedule(170, 0.1, (60, 100, 140), 0.1, 2e-4, steps)
    assert make("bic").config.schedule(1) == Schedule(170, 0.1, (60, 100, 140), 0.1, 2e-4, steps)
    assert make("lwf").config.schedule(0) == Schedule(200, 0.1, (60, 120, 160), 0.1, 5e-4, steps)
    assert make("lwf").config.schedule(1) == Schedule(250, 0.1, (60, 120, 180, 220), 0.1, 2e-4, steps)
    assert make("ewc").config.schedule(0) == Schedule(200, 0.1, (60, 120, 170), 0.1, 5e-4, steps)
    assert make("ewc").config.schedule(1) == Schedule(180, 0.1, (70, 120, 150), 0.1, 2e-4, steps)
    for name, epochs, rate in (("podnet", (160, 160, 20), 0.005), ("foster", (200, 170, 130), 0.1)):
        first, *later = make(name).stages(0)[0], *make(name).stages(1)
        stages = [first, *later]
        assert tuple(stage.schedule.epochs for stage in stages) == epochs
        assert {stage.schedule.scheduler for stage in stages} == {cosine}
        assert later[1].schedule.lr == rate
        assert [stage.schedule.weight_decay for stage in stages] == [5e-4, 5e-4, 5e-4 if name == "podnet" else 0]
    rates = [Schedule(4, 0.1, (), 0.1, 0.0, cosine, 0.02).lr_at(epoch) for epoch in range(4)]
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.1, 0.06 + 0.04 * half, 0.06, 0.06 - 0.04 * half])


def test_fewer_epochs_shorten_every_stage() -> None:
    assert [stage.schedule.epochs for stage in Learner.stages(make("foster"), 1)] == [170]
    config = make("foster").config.shortened(17)
    assert (config.init_epochs, config.epochs, config.compression_epochs) == (17, 17, 13)
    assert config.shortened(17) == config
    config = make("podnet").config.shortened(16)
    assert (config.init_epochs, config.epochs, config.finetune_epochs) == (16, 16, 2)
    assert config.shortened(16) == config


# PyCIL's own files.
COMMON = {key: value for key, value in EXPS.items() if key != "convnet_type"} | {"device": ["0"]}
FILES: dict[str, dict[str, Any]] = {
    "bic": {"convnet_type": "resnet32"},
    "lwf": {"convnet_type": "resnet32"},
    "ewc": {"convnet_type": "resnet32"},
    "podnet": {"convnet_type": "cosine_resnet32"},
    "foster": {
        "convnet_type": "resnet32",
        "fixed_memory": True,
        "beta1": 0.95,
        "beta2": 0.98,
        "oofc": "az",
        "is_teacher_wa": True,
        "is_student_wa": True,
        "lambda_okd": 2,
        "wa_value": 0.9,
        "init_epochs": 190,
        "init_lr": 0.2,
        "init_weight_decay": 4e-4,
        "boosting_epochs": 160,
        "compression_epochs": 120,
        "lr": 0.05,
        "batch_size": 64,
        "weight_decay": 3e-4,
        "num_workers": 8,
        "T": 3,
    },
    "simplecil": {
        "convnet_type": "cosine_resnet18",
        "memory_size": 0,
        "memory_per_class": 0,
        "init_cls": 50,
        "increment": 5,
        "init_epoch": 200,
        "init_lr": 0.02,
        "batch_size": 256,
        "weight_decay": 0.05,
        "init_lr_decay": 0.1,
        "init_weight_decay": 5e-4,
        "min_lr": 0.001,
    },
}
READ: dict[str, dict[str, Any]] = {
    "foster": {
        "beta1": 0.95,
        "beta2": 0.98,
        "new_on_old": "az",
        "align_teacher": True,
        "align_student": True,
        "distillation_weight": 2,
        "align_value": 0.9,
        "init_epochs": 190,
        "init_lr": 0.2,
        "epochs": 160,
        "compression_epochs": 120,
        "lr": 0.05,
        "batch_size": 64,
        "temperature": 3,
    },
    "simplecil": {"init_lr": 0.02, "min_lr": 0.001, "init_epochs": 200, "batch_size": 256, "scheduler": "cosine"},
}


@pytest.mark.parametrize("method", list(FILES))
def test_pycils_file(method: str, tmp_path: Path) -> None:
    path = tmp_path / f"{method}.json"
    path.write_text(json.dumps({**COMMON, "model_name": method, **FILES[method]}))
    asked = configure({}, file=path)
    config = asked.config
    assert (config.method, config.dataset, asked.seeds) == (method, "cifar100", (1993,))
    assert config.backbone == FILES[method]["convnet_type"]
    assert config.make_transform().size == 32
    options = config.hyperparameters()
    for name, value in READ.get(method, {}).items():
        assert getattr(options, name) == value
