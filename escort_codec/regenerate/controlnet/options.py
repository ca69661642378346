"""The ControlNet regenerator's options. None takes the value of the exemplar's recipe or the preset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from escort_codec.errors import UsageError
from escort_codec.settings import check, setting

MOST_STEPS: Final = {"ddim": 500, "unipc": 999, "dpm++": 999}
"""By scheduler, the most steps that it can make of the 1000 that the networks were trained on. DDIM's steps have one
width, at least 2: more would not start at pure noise. The other two may not repeat a step."""

SCHEDULERS: Final = tuple(MOST_STEPS)
DTYPES: Final = ("fp32", "bf16", "fp16")

_GROUP: Final = "ControlNet"


@dataclass(frozen=True, slots=True)
class ControlNetOptions:
    """The options, with the recipe's names and ranges. Raises UsageError for a value that is not valid."""

    workers: int | None = setting(None, "Threads that make and save images; one per core if left out.", least=1)
    device: str | None = setting(None, "auto, cpu, cuda, cuda:1 or mps.", group=_GROUP, shown=True)
    model: str | None = setting(None, "Hub id, id@revision, folder or file.", group=_GROUP, shown=True)
    controlnet: str | None = setting(None, "Hub id, id@revision, folder or file.", group=_GROUP, shown=True)
    steps: int | None = setting(None, "Denoising steps.", group=_GROUP, shown=True, least=1, most=999)
    guidance: float | None = setting(None, "Classifier-free guidance; 1: none.", group=_GROUP, shown=True, least=1)
    fast: bool = setting(False, "8 steps of UniPC: faster, less faithful.", group=_GROUP, shown=True)
    batch_size: int | None = setting(
        None, "Images per batch; as many as fit if left out.", group=_GROUP, shown=True, least=1
    )
    control_strength: float | None = setting(None, "Weight of the edge map.", group=_GROUP, least=0)
    scheduler: str | None = setting(None, "ddim, unipc or dpm++.", group=_GROUP, choices=SCHEDULERS)
    resolution: int | None = setting(
        None, "Shorter side of the generation, in pixels.", group=_GROUP, least=64, most=4096
    )
    prompt_suffix: str | None = setting(None, "Added to every prompt.", group=_GROUP)
    negative_prompt: str | None = setting(None, "What images must not show.", group=_GROUP)
    use_hint: bool = setting(False, "Start from the colour hint (not in the paper).", group=_GROUP)
    hint_strength: float | None = setting(None, "Share of the steps made, above 0 to 1.", group=_GROUP, least=0, most=1)
    dtype: str | None = setting(None, "auto, fp32, bf16 or fp16.", group=_GROUP, choices=("auto", *DTYPES))
    compile: bool = setting(False, "Compile the networks with torch first.", group=_GROUP)
    trust_recipe: bool = setting(False, "Load the models that the file's recipe names.", group=_GROUP, shown=True)

    def __post_init__(self) -> None:
        check(self)
        if self.steps is not None and self.scheduler is not None and self.steps > MOST_STEPS[self.scheduler]:
            fault = f"{self.scheduler} makes 1 to {MOST_STEPS[self.scheduler]} steps"
            raise UsageError(fault, setting="steps", value=self.steps)
        if self.hint_strength == 0:
            raise UsageError("give a number above 0", setting="hint_strength", value=0)
        if self.hint_strength is not None and self.steps is not None and int(self.steps * self.hint_strength) < 1:
            raise UsageError(f"leaves no step of {self.steps}", setting="hint_strength", value=self.hint_strength)
