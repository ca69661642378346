"""The learners: one class-incremental method each."""

from __future__ import annotations

from escort_cil.learners.base import Hyperparameters, Learner, Schedule, learners
from escort_cil.learners.der import Der
from escort_cil.learners.icarl import Icarl
from escort_cil.learners.memo import Memo
from escort_cil.learners.references import Finetune, Joint, Replay
from escort_cil.learners.wa import Wa

for _learner in (Icarl, Wa, Der, Memo, Replay, Finetune, Joint):
    learners.add(_learner.name, _learner)

__all__ = ["Hyperparameters", "Learner", "Schedule", "learners"]
