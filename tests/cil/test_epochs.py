"""The training loop's optimizer."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import Tensor

from escort_cil.epochs import PlainSGD

STEPS = """
import sys, torch
from escort_cil.epochs import PlainSGD
net = torch.nn.Linear(2, 1)
sgd = PlainSGD(net.parameters(), 0.1, 0.9)
net(torch.ones(1, 2)).sum().backward()
sgd.step()
sgd.zero_grad()
sgd.load_state_dict(sgd.state_dict())
print("torch._dynamo" in sys.modules)
"""


def trained(kind: type[torch.optim.SGD]) -> tuple[list[Tensor], dict[str, object]]:
    torch.manual_seed(0)
    net = torch.nn.Linear(5, 3)
    sgd = kind(net.parameters(), 0.1, 0.9, weight_decay=1e-3)
    for number in range(5):
        sgd.zero_grad()
        net(torch.full((2, 5), float(number))).square().mean().backward()
        sgd.step()
        sgd.load_state_dict(sgd.state_dict())
    return [value.detach() for value in net.parameters()], sgd.state_dict()["param_groups"][0]


def test_it_does_what_torchs_sgd_does() -> None:
    ours, theirs = trained(PlainSGD), trained(torch.optim.SGD)
    assert all(torch.equal(a, b) for a, b in zip(ours[0], theirs[0], strict=True))
    assert ours[1] == theirs[1]


def test_it_does_not_import_torchs_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
