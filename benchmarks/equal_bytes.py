"""Which memory is best at equal bytes? Four learners, many memories, two budgets, with and without augmentation.

    python benchmarks/equal_bytes.py DATA [--work work/equal_bytes] [--out benchmarks/results/equal_bytes]
    python benchmarks/equal_bytes.py DATA --memory-only
    python benchmarks/equal_bytes.py DATA --setting large --methods icarl --augmentation 0.5
    python benchmarks/equal_bytes.py DATA --methods icarl --augmentation 0.5 --budgets 200KB --policies auto

The set-up: resnet10 at 64 pixels, the classes in five phases, `--epochs` a phase, the means of the class orders of
`--orders`; every kind of memory has the same budget in bytes of its file, and the same augmentation. `finetune` (no
memory) and `joint` (all data) are the lower and the upper bound. With augmentation 0.5 half of the images, new ones and
whole remembered ones, are shown as copies: regenerated from prompts (by `harmonic`, two seeds), or reduced, as the
memory keeps them. `--memory-only` trains one network on the memory alone, chosen at random, of all classes at once.

Whole originals are not among them: these budgets cannot hold one of each class, which escort refuses.

Beside the policies with names, each kind of `--rated` is tried with rate control at `--rates` bytes an image (`webp
250 B` keeps webp:250B), and the best rate of each kind stands below each table. `auto` is `--keep auto`. `--setting
large` is resnet18 at 112 pixels on the first ten classes. `AVIF 64` is a peer that escort has no kind for: its budget
counts bare payloads (the `mdat` box), so its file is larger by the boxes around each.

Runs are kept in the work folder. Finished runs are not repeated, so the script can be stopped and started again.
`--jobs` of them run at a time, each in one thread; the figures do not depend on it. `--known` takes the runs of an
earlier OUT.json as they are, and adds those that it lacks. `--methods`, `--policies`, `--budgets` and so on choose a
part. Tables go to OUT.md and OUT.json (with `--memory-only` to OUT_memory_only.*).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.about import about
from benchmarks.memories import POLICIES, PROMPTS, RATED, SEEDS, boxes_share, policy_of, with_hint
from escort_cil.metrics import mean_and_deviation
from escort_cil.run.folder import METRICS, RunFolder
from escort_cil.run.settings import TrainConfig
from escort_cil.trainer import train
from escort_codec.encode.folder import encode_folder
from escort_codec.settings import parse_bytes

METHODS = ("icarl", "wa", "der", "memo")
BOUNDS = ("finetune", "joint")
VIEWS = ("real", "both")


SETTINGS: dict[str, dict[str, Any]] = {
    "small": {"backbone": "resnet10", "image_size": 64},
    "large": {"backbone": "resnet18", "image_size": 112},
}
LARGE_CLASSES = 10


@dataclass(frozen=True)
class Cell:
    """One run."""

    method: str
    policy: str
    budget: int
    augmentation: float
    order: int

    @property
    def name(self) -> str:
        """Its folder."""
        parts = (self.method, self.policy, self.budget, f"aug{self.augmentation:g}", f"order{self.order}")
        return "-".join(str(part).replace(" ", "_").replace(",", "") for part in parts)


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    for order in args.orders:
        if not args.memory_only:
            for method in BOUNDS:
                yield Cell(method, "none", 0, 0.0, order)
        for augmentation in args.augmentation:
            for budget in map(parse_bytes, args.budgets):
                for policy in args.policies:
                    of = policy_of(policy)
                    if (augmentation and not of.augmented) or (of.alone and not args.memory_only):
                        continue
                    for method in ("replay",) if args.memory_only else args.methods:
                        yield Cell(method, policy, budget, augmentation, order)


def config_of(cell: Cell, args: argparse.Namespace, work: Path) -> TrainConfig:
    values: dict[str, Any] = {
        "data": args.data,
        "method": cell.method,
        **SETTINGS[args.setting],
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "seed": cell.order,
        "seeds": SEEDS,
        "cache": str(work / "cache"),
        "device": "cpu",
        "workers": 1,
        "checkpoint_every": args.epochs,
        "augmentation_prob": cell.augmentation,
    }
    if cell.policy != "none":
        policy = policy_of(cell.policy)
        values |= {
            "prompts_file": str(work / f"{policy.prompts}.escx") if policy.prompts else "",
            "budget": str(round(cell.budget * (boxes_share(args.data) if cell.policy.startswith("AVIF") else 1))),
            "eval_views": "both",
        }
        values |= policy.values
    if args.memory_only:
        values |= {"memory_only": True, "epochs": None}
        # As many steps for every memory, whatever it holds: see run().
    return TrainConfig(**values)


def run(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """The last line of the run's metrics, and the processor's seconds that the run took."""
    work: Path = args.work
    folder = work / ("memory_only" if args.memory_only else "runs") / cell.name
    cost = folder / "seconds.json"
    if not cost.exists():
        began, used = time.perf_counter(), time.process_time()
        config = config_of(cell, args, work)
        if args.memory_only:
            config = replace(config, epochs=epochs_of_memory(cell, args, work))
        train(config, out=folder, force=True)
        seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - used}
        cost.write_text(json.dumps(seconds))
    record = RunFolder(folder).read_metrics()[-1]
    return {**record, **json.loads(cost.read_text())}


def epochs_of_memory(cell: Cell, args: argparse.Namespace, work: Path) -> int:
    """Epochs that make about ``--steps`` steps of a memory of this kind (its size is found by a run of one epoch)."""
    probe = work / "memory_only" / f"probe-{cell.name}"
    if not (probe / METRICS).exists():
        config = config_of(cell, args, work)
        train(replace(config, epochs=1, eval_views="real"), out=probe, force=True)
    record = RunFolder(probe).read_metrics()[-1]
    held = int(record["memory_real"] + record["memory_prompt"])
    steps_an_epoch = -(-held // int(args.batch_size))
    return max(1, round(int(args.steps) / steps_an_epoch))


def table(results: Sequence[tuple[Cell, dict[str, Any]]], args: argparse.Namespace) -> str:
    """The means over the orders, as Markdown."""
    key = "top1" if args.memory_only else "average_incremental_accuracy"
    values: dict[tuple[str, str, int, float], list[dict[str, Any]]] = {}
    for cell, record in results:
        values.setdefault((cell.method, cell.policy, cell.budget, cell.augmentation), []).append(record)

    def shown(group: list[dict[str, Any]] | None, view: str) -> str:
        if not group or view not in group[0]["views"]:
            return "-"
        mean, deviation = mean_and_deviation([record["views"][view][key] for record in group])
        return f"{mean:.1f}" + (f" ± {deviation:.1f}" if deviation == deviation else "")

    lines = []
    for method in BOUNDS:
        group = values.get((method, "none", 0, 0.0))
        if group:
            lines.append(f"{method}: {shown(group, 'real')}; {cost(group)}")
    if lines:
        lines.append("")
    methods = ("replay",) if args.memory_only else args.methods
    tried = [cell for cell, _ in results if cell.policy != "none"]
    policies = [name for name in dict.fromkeys((*POLICIES, *args.policies)) if any(c.policy == name for c in tried)]
    for budget in sorted({cell.budget for cell in tried}):
        for augmentation in sorted({cell.augmentation for cell in tried}):
            lines += [f"### {budget:,} bytes, augmentation {augmentation:g}", ""]
            heads = ["on the memory alone"] if args.memory_only else list(methods)
            columns = [f"{head}, {view}" for head in heads for view in VIEWS]
            lines.append(f"| memory | exemplars | bytes | {' | '.join(columns)} |")
            lines.append("|---|--:|--:|" + "--:|" * len(columns))
            for policy in policies:
                groups = [values.get((method, policy, budget, augmentation)) for method in methods]
                some = next((group for group in groups if group), None)
                if some is None:
                    continue
                held = sum(r["memory_real"] + r["memory_prompt"] for r in some) / len(some)
                size = max(record["memory_bytes"] for group in groups if group for record in group)
                figures = " | ".join(shown(group, view) for group in groups for view in VIEWS)
                lines.append(f"| {policy} | {held:.0f} | {size:,} | {figures} |")
            lines += ["", *best_rates(values, methods, budget, augmentation, policies, key), ""]
    every = [record for _, record in results]
    lines.append(f"{len(every)} runs, {sum(record['cpu'] for record in every) / 60:.0f} minutes of one core in all")
    return "\n".join(lines)


def best_rates(
    values: Mapping[tuple[str, str, int, float], Sequence[Mapping[str, Any]]],
    methods: Sequence[str],
    budget: int,
    augmentation: float,
    policies: Sequence[str],
    key: str,
) -> list[str]:
    """A line for each kind with rate control: its best rate by the mean over methods and orders of the real view."""
    lines = []
    for kind in RATED:
        found = []
        for policy in policies:
            groups = [values.get((method, policy, budget, augmentation)) for method in methods]
            records = [record for group in groups if group for record in group]
            if records and policy.startswith(f"{kind} ") and policy.endswith(" B"):
                found.append((sum(r["views"]["real"][key] for r in records) / len(records), policy))
        if found:
            mean, policy = max(found)
            lines.append(f"- best rate of {kind}: {policy}, {mean:.1f}")
    return lines


def figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a run's last line of metrics."""
    keys = ("top1", "nme_top1", "average_incremental_accuracy", "nme_average_incremental_accuracy", "forgetting")
    views = {view: {key: of[key] for key in keys} for view, of in record["views"].items()}
    sizes = {key: record[key] for key in ("memory_bytes", "memory_real", "memory_prompt")}
    return {**sizes, "cpu_seconds": round(record["cpu"], 1), "wall_seconds": round(record["wall"], 1), "views": views}


def cost(group: Sequence[Mapping[str, Any]]) -> str:
    return f"{max(record['cpu'] for record in group):.0f} s of one core"


def known_results(path: Path | None) -> dict[Cell, dict[str, Any]]:
    """The runs in the results of an earlier call."""
    found = {}
    for row in json.loads(path.read_text())["runs"] if path else ():
        cell = Cell(**{field.name: row.pop(field.name) for field in fields(Cell)})
        found[cell] = {**row, "cpu": row["cpu_seconds"], "wall": row["wall_seconds"]}
    return found


def first_classes(data: str, folder: Path) -> str:
    """A copy of the first classes of the data, made once."""
    for part in ("train", "test"):
        for source in sorted((Path(data) / part).iterdir())[:LARGE_CLASSES]:
            if not (folder / part / source.name).exists():
                shutil.copytree(source, folder / part / source.name)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="folder with train/ and test/")
    parser.add_argument("--work", type=Path, default=Path("work/equal_bytes"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/equal_bytes"))
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument(
        "--policies", nargs="*", default=tuple(POLICIES), help="names of POLICIES, or what `keep` takes"
    )
    parser.add_argument("--rates", nargs="*", type=int, default=(), help="bytes an image of each kind")
    parser.add_argument("--rated", nargs="*", default=RATED, choices=RATED, help="the kinds that --rates is of")
    parser.add_argument("--setting", default="small", choices=tuple(SETTINGS))
    parser.add_argument("--budgets", nargs="+", default=("100KB", "300KB"))
    parser.add_argument("--augmentation", nargs="+", type=float, default=(0.0, 0.5))
    parser.add_argument("--orders", nargs="+", type=int, default=(1993, 7))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--hint", help="hints of the prompts in a new --work: SIDE:CODEC:QUALITY, such as 32:vp8:20")
    parser.add_argument("--known", type=Path, help="an OUT.json whose runs are taken as they are")
    parser.add_argument("--steps", type=int, default=300, help="of training on the memory alone")
    args = parser.parse_args()
    args.policies = [*args.policies, *(f"{kind} {rate} B" for kind in args.rated for rate in args.rates)]
    if args.setting != "small":
        args.work, args.out = args.work / args.setting, args.out.with_name(f"{args.out.name}_{args.setting}")
        args.data = first_classes(args.data, args.work / "data")
    args.work.mkdir(parents=True, exist_ok=True)
    for name, options in PROMPTS.items():
        if not (args.work / f"{name}.escx").exists():
            encode_folder(args.data, args.work / f"{name}.escx", with_hint(options, args.hint))
    results = known_results(args.known)
    taken = len(results)
    wanted = [cell for cell in cells(args) if cell not in results]
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for i, (cell, record) in enumerate(zip(wanted, pool.map(partial(run, args=args), wanted), strict=True)):
            results[cell] = record
            main_figure = record["views"]["real"]["top1" if args.memory_only else "average_incremental_accuracy"]
            print(
                f"{i + 1}/{len(wanted)} {cell.name}: {main_figure:.1f}, {record['memory_bytes']:,} bytes, "
                f"{record['cpu']:.0f} s of one core",
                flush=True,
            )
    rows = list(results.items())
    text = table(rows, args)
    print(text)
    out = args.out.with_name(args.out.name + ("_memory_only" if args.memory_only else ""))
    out.parent.mkdir(parents=True, exist_ok=True)
    shown = {k: v for k, v in vars(args).items() if k not in ("data", "work", "out", "jobs", "known")}
    facts = about(options=json.loads(json.dumps(shown, default=list)), torch_threads=1, runs_of_an_earlier_result=taken)
    lines = ",\n".join(json.dumps({**vars(cell), **figures(record)}) for cell, record in rows)
    head = json.dumps(facts, indent=1)
    out.with_suffix(".json").write_text(f'{{"about": {head},\n"runs": [\n{lines}\n]}}\n')
    out.with_suffix(".md").write_text(f"`{facts['command']}` ({facts['date']})\n\n{text}\n")


if __name__ == "__main__":
    main()
