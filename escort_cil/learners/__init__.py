"""The learners: one class-incremental method each."""

from __future__ import annotations

from escort_cil.learners.base import Hyperparameters, Learner, PhaseItems, Schedule, Stage, learners
from escort_cil.learners.bic import Bic
from escort_cil.learners.der import Der
from escort_cil.learners.ewc import Ewc
from escort_cil.learners.foster import Foster
from escort_cil.learners.icarl import Icarl
from escort_cil.learners.lwf import Lwf
from escort_cil.learners.memo import Memo
from escort_cil.learners.podnet import Podnet
from escort_cil.learners.references import Finetune, Joint, Replay
from escort_cil.learners.simplecil import Simplecil
from escort_cil.learners.wa import Wa

for _learner in (Icarl, Wa, Bic, Podnet, Der, Foster, Memo, Lwf, Ewc, Simplecil, Replay, Finetune, Joint):
    learners.add(_learner.name, _learner)

__all__ = ["Hyperparameters", "Learner", "PhaseItems", "Schedule", "Stage", "learners"]
