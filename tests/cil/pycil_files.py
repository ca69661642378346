"""PyCIL's exps/*.json: the keys that all of them have, and those of memo.json besides."""

from __future__ import annotations

from typing import Any, Final

EXPS: Final[dict[str, Any]] = {
    "prefix": "reproduce",
    "dataset": "cifar100",
    "memory_size": 2000,
    "memory_per_class": 20,
    "fixed_memory": False,
    "shuffle": True,
    "init_cls": 10,
    "increment": 10,
    "convnet_type": "resnet32",
    "device": ["0", "1", "2", "3"],
    "seed": [1993],
}
MEMO: Final[dict[str, Any]] = {
    "convnet_type": "memo_resnet32",
    "train_base": True,
    "train_adaptive": False,
    "debug": False,
    "skip": False,
    "scheduler": "steplr",
    "init_epoch": 200,
    "t_max": None,
    "init_lr": 0.1,
    "init_weight_decay": 5e-4,
    "init_lr_decay": 0.1,
    "init_milestones": [60, 120, 170],
    "milestones": [80, 120, 150],
    "epochs": 170,
    "lrate": 0.1,
    "batch_size": 128,
    "weight_decay": 2e-4,
    "lrate_decay": 0.1,
    "alpha_aux": 1.0,
}
