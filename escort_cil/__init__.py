"""Class-incremental learning with a memory that is a ``.escx`` file. Needs torch.

    from escort_cil import TrainConfig, evaluate_run, train

    result = train(TrainConfig(data="photos", budget="2MB", epochs=20))
    evaluation = evaluate_run(result.folder, Path("more-photos"))

Names are imported when they are first used: ``import escort_cil`` itself imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from escort_cil.augment import Transform, normalise
    from escort_cil.data.protocol import DataSet, read_data
    from escort_cil.data.store import ImageStore
    from escort_cil.evaluation import Evaluation, EvaluationOptions, evaluate_run
    from escort_cil.memory.adapters import MemoryDataset, pycil_memory, unpack
    from escort_cil.memory.budget import Budget
    from escort_cil.memory.keep import Keep
    from escort_cil.report import write_report
    from escort_cil.run.recorder import SavedModel, load_model
    from escort_cil.run.settings import TrainConfig
    from escort_cil.trainer import RunResult, train

__all__ = [
    "Budget",
    "DataSet",
    "Evaluation",
    "EvaluationOptions",
    "ImageStore",
    "Keep",
    "MemoryDataset",
    "RunResult",
    "SavedModel",
    "TrainConfig",
    "Transform",
    "evaluate_run",
    "load_model",
    "normalise",
    "pycil_memory",
    "read_data",
    "train",
    "unpack",
    "write_report",
]

_HOMES = {
    "augment": ("Transform", "normalise"),
    "data.protocol": ("DataSet", "read_data"),
    "data.store": ("ImageStore",),
    "evaluation": ("Evaluation", "EvaluationOptions", "evaluate_run"),
    "memory.adapters": ("MemoryDataset", "pycil_memory", "unpack"),
    "memory.budget": ("Budget",),
    "memory.keep": ("Keep",),
    "report": ("write_report",),
    "run.recorder": ("SavedModel", "load_model"),
    "run.settings": ("TrainConfig",),
    "trainer": ("RunResult", "train"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"escort_cil.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'escort_cil' has no attribute {name!r}")
