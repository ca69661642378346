"""The speed of regeneration with ControlNet, against diffusers' pipeline called once per image.

    python benchmarks/regenerate.py [--device cuda] [--compile] [--out benchmarks/results/regenerate.json]

(a) reference: fp32, batch 1, `StableDiffusionControlNetPipeline` called with texts once per image, and the result
resized. (b) ours: `ControlNetRegenerator` over the same exemplars and seeds, with its default dtype and batch size
unless set. Both make the same images by the paper's preset: DDIM, 20 steps, guidance 9, 512 x 512.

Weights are random, which does not change the speed: at the real architecture's width (Stable Diffusion 1.5: 859 M
parameters in the UNet) on a GPU, at a twenty-fifth of it and 256 x 256 on a CPU. They are written as folders and loaded
from them. Each way runs in its own process, the ways take turns, each ratio compares two runs of one round, and the
result is the median over rounds. Loading, measuring the batch size and compiling are timed separately. Peak memory is
PyTorch's on the GPU, or the process's largest size on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
PROMPTS = ("airplane", "bonsai", "butterfly", "dalmatian", "lamp", "lotus", "starfish", "sunflower")


@dataclass(frozen=True, slots=True)
class Size:
    """The default measurement."""

    scale: str
    resolution: int
    steps: int
    ours: int
    reference: int


SIZES = {
    "real": Size("real", 512, 20, ours=256, reference=12),
    "small": Size("small", 256, 20, ours=8, reference=4),
    "tiny": Size("tiny", 64, 2, ours=4, reference=2),
}


def exemplars(resolution: int) -> list[Any]:
    """One for each prompt; square, so that both ways generate and resize the same."""
    from escort_codec.exemplar import Exemplar

    made = []
    for number, prompt in enumerate(PROMPTS):
        edges = np.random.default_rng(number).random((resolution, resolution)) < 0.08
        made.append(Exemplar.from_edges(edges, label=prompt, name=f"{number}.jpg", coding="packed"))
    return made


def run_reference(options: argparse.Namespace) -> dict[str, Any]:
    """(a): the pipeline, once per image."""
    import diffusers
    import torch
    from PIL import Image

    from escort_codec.regenerate.controlnet.loading import quiet_libraries
    from escort_codec.regenerate.controlnet.presets import control_image, full_prompt, presets, to_source_size
    from escort_codec.regenerate.controlnet.sampling import make_scheduler

    preset = presets.get("hires")
    device = torch.device(options.device)
    begin = time.perf_counter()
    with quiet_libraries():
        pipeline = diffusers.StableDiffusionControlNetPipeline.from_pretrained(
            Path(options.models) / "model",
            controlnet=diffusers.ControlNetModel.from_pretrained(Path(options.models) / "controlnet"),
            safety_checker=None,
            requires_safety_checker=False,
        ).to(device)
    pipeline.scheduler = make_scheduler("ddim")
    pipeline.set_progress_bar_config(disable=True)
    loaded = time.perf_counter() - begin
    size = (options.resolution, options.resolution)
    prompts = exemplars(options.resolution)

    def make(number: int) -> None:
        one = prompts[number % len(prompts)]
        found = pipeline(
            full_prompt(one.prompt, preset.suffix),
            image=Image.fromarray(control_image(one.edges, size)),
            negative_prompt=preset.negative_prompt,
            num_inference_steps=options.steps,
            guidance_scale=preset.guidance,
            controlnet_conditioning_scale=preset.control_strength,
            generator=torch.Generator("cpu").manual_seed(number // len(prompts)),
            output_type="np",
        )
        to_source_size((found.images[0] * 255).astype(np.uint8), one.size)

    make(0)
    start_of_peak(device)
    begin = time.perf_counter()
    for number in range(options.images):
        make(number)
    return figures(options.images, time.perf_counter() - begin, device) | {
        "load_s": loaded,
        "batch": 1,
        "dtype": "fp32",
    }


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """(b): the regenerator."""
    from escort_codec.regenerate.base import Job
    from escort_codec.regenerate.controlnet.options import ControlNetOptions
    from escort_codec.regenerate.controlnet.regenerator import ControlNetRegenerator

    prompts = exemplars(options.resolution)
    jobs = [Job(prompts[number % len(prompts)], number // len(prompts)) for number in range(options.images)]
    chosen = ControlNetOptions(
        model=str(Path(options.models) / "model"),
        controlnet=str(Path(options.models) / "controlnet"),
        device=options.device,
        dtype=options.dtype,
        batch_size=options.batch_size,
        compile=options.compile,
        steps=options.steps,
        resolution=options.resolution,
    )
    with ControlNetRegenerator(chosen) as regenerator:
        list(regenerator.regenerate(jobs[:1]))  # loads, measures the batch size, compiles
        apart = regenerator.seconds
        start_of_peak(regenerator.session.device)
        begin = time.perf_counter()
        results = list(regenerator.regenerate(jobs))
        seconds = time.perf_counter() - begin - (regenerator.seconds["warm_up"] - apart["warm_up"])
        failed = [result.error for result in results if result.image is None]
        if failed:
            raise SystemExit(f"{len(failed)} images failed: {failed[0]}")
        recipe = results[0].recipe
        if any("retried_in" in dict(result.recipe.extra) for result in results):
            raise SystemExit("some images were not finite and were made again: the time is not valid")
        (resolved,) = {regenerator._resolve(job.exemplar).settings for job in jobs}
        return figures(len(jobs), seconds, regenerator.session.device) | {
            "load_s": apart["load"],
            "warm_up_s": regenerator.seconds["warm_up"],
            "batch": regenerator.session.batch_size(resolved),
            "dtype": recipe.dtype,
        }


def start_of_peak(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def figures(images: int, seconds: float, device: Any) -> dict[str, Any]:
    """``seconds`` must end with the images on the CPU, so that the device is done."""
    if device.type == "cuda":
        import torch

        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"images": images, "images_per_s": images / seconds, "peak_memory_GB": peak / 1e9}


def write_models(scale: str, folder: Path) -> None:
    """Writes the random models, in this process, before any way runs."""
    from tests.regenerate import random_models

    random_models.write_sd(
        folder, {"real": random_models.REAL, "small": random_models.SMALL}.get(scale, random_models.TINY)
    )


def run_way(way: str, options: argparse.Namespace, images: int, models: str) -> dict[str, Any]:
    """One way in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--models", models, "--images", str(images)]
    command += ["--device", options.device, "--steps", str(options.steps), "--resolution", str(options.resolution)]
    command += ["--dtype", options.dtype] if options.dtype else []
    command += ["--batch-size", str(options.batch_size)] if options.batch_size else []
    command += ["--compile"] if way == "ours, compiled" else []
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{way} failed: see above")
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return result


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda, cuda:1, cpu; the best available if left out")
    parser.add_argument("--scale", choices=tuple(SIZES), help="real on a GPU, small on a CPU if left out")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--images", type=int, help="images per round of ours")
    parser.add_argument("--reference-images", type=int)
    parser.add_argument("--dtype", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as a third way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--models", help=argparse.SUPPRESS)
    return parser.parse_args()


def describe(device: str) -> dict[str, Any]:
    import diffusers
    import torch
    import transformers

    cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "cuda": torch.version.cuda if cuda else None,
    }


def main() -> None:
    options = parse()
    if options.way:
        result = run_reference(options) if options.way == "reference" else run_ours(options)
        print(json.dumps(result))
        return
    sys.path.insert(0, str(ROOT))
    from escort_codec.regenerate.controlnet.session import resolve_device

    options.device = str(resolve_device(options.device))
    size = SIZES[options.scale or ("real" if options.device.startswith("cuda") else "small")]
    options.resolution = options.resolution or size.resolution
    options.steps = options.steps or size.steps
    ways = {"reference": options.reference_images or size.reference, "ours": options.images or size.ours}
    if options.compile:
        ways["ours, compiled"] = ways["ours"]
    with tempfile.TemporaryDirectory() as folder:
        write_models(size.scale, Path(folder))
        rounds = [
            {way: run_way(way, options, images, folder) for way, images in ways.items()} for _ in range(options.rounds)
        ]
    report(options, size, list(ways), rounds)


def report(options: argparse.Namespace, size: Size, ways: list[str], rounds: list[dict[str, dict[str, Any]]]) -> None:
    from benchmarks.about import about

    found: dict[str, Any] = {
        "about": about(),
        "setting": f"{size.scale} architecture, random weights, {options.resolution} x {options.resolution}, DDIM, "
        f"{options.steps} steps, guidance 9",
        "rounds": len(rounds),
    }
    found |= describe(options.device)
    print(f"{found['device']}; {found['setting']}; median of {len(rounds)} rounds\n")
    print("| way | batch | dtype | images/s | ratio | peak memory, GB | load, warm-up, s |")
    print("|---|---|---|---|---|---|---|")
    found["ways"] = {}
    for way in ways:
        runs = [one[way] for one in rounds]
        middle = {
            key: statistics.median(run[key] for run in runs) for key in ("images_per_s", "peak_memory_GB", "load_s")
        }
        middle["warm_up_s"] = statistics.median(run.get("warm_up_s", 0.0) for run in runs)
        ratio = statistics.median(one[way]["images_per_s"] / one["reference"]["images_per_s"] for one in rounds)
        last = runs[-1]
        found["ways"][way] = {"batch": last["batch"], "dtype": last["dtype"], "ratio": ratio} | middle | {"runs": runs}
        print(
            f"| {way} | {last['batch']} | {last['dtype']} | {middle['images_per_s']:.3g} | {ratio:.2f} "
            f"| {middle['peak_memory_GB']:.2f} | {middle['load_s']:.1f}, {middle['warm_up_s']:.1f} |"
        )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
