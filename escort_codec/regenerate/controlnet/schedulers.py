"""The samplers by name: DDIM as the paper has it, and two that need fewer steps. All are deterministic."""

from __future__ import annotations

from typing import Any, Final

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

NOISE: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""The noise schedule of Stable Diffusion 1, 2 and XL (Rombach et al. 2022): sqrt(beta) is linear in t."""


def make_scheduler(name: str, trained: Any = None) -> Any:
    """A fresh sampler: ``ddim``, ``unipc`` or ``dpm++``. One is made for each batch, as some keep state.

    ``trained`` is the model's own scheduler configuration (a mapping): what the network predicts (epsilon or v) and
    whether its schedule ends in pure noise are properties of the weights and are taken from it; all else is ours.

    - ``ddim``: eta 0, no clipping, timesteps 'leading' with offset 1, the last step's alpha that of t = 0: what
      ControlNet's own sampler does (``ddim_hacked.py``, ``make_ddim_timesteps("uniform")``).
    - ``unipc``: UniPC of order 2, B2(h) (Zhao et al. 2023), 'linspace' timesteps.
    - ``dpm++``: DPM-Solver++(2M) (Lu et al. 2022), 'linspace' timesteps.
    """
    values = dict(NOISE)
    if trained is not None:
        values["prediction_type"] = trained.get("prediction_type", "epsilon")
        values["rescale_betas_zero_snr"] = trained.get("rescale_betas_zero_snr", False)
    if name == "ddim":
        return DDIMScheduler(
            **values, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
        )
    if name == "unipc":
        return UniPCMultistepScheduler(**values, solver_order=2, timestep_spacing="linspace")
    if name == "dpm++":
        return DPMSolverMultistepScheduler(
            **values, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="linspace"
        )
    raise ValueError(f"no scheduler {name!r}")
