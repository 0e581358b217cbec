"""What a job works with: its folder, the figures of the jobs before it, and the project's own commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks._jobs import ROOT
from benchmarks.claims.job import CONFIGS, Job, Jobs

LOADERS = ("train_dataloader", "val_dataloader", "search_cfg.dataloader", "search_cfg.calibrate_dataloader")


def command_line(*words: Any) -> None:
    """Run one command of the project in this process.

    Raises:
        RuntimeError: It failed.
        KeyboardInterrupt: It was interrupted, or terminated.
    """
    from mmrazor_lite.cli.main import main

    status = main([str(word) for word in words])
    if status > 128:
        raise KeyboardInterrupt
    if status:
        raise RuntimeError(f"mmrazor-lite {' '.join(map(str, words))}: status {status}")


@dataclass
class Bench:
    """The surroundings of one job.

    Args:
        jobs: All of the study.
        job: This one.
        study: The numbers of the study.
    """

    jobs: Jobs
    job: Job
    study: Mapping[str, Any]

    @property
    def task(self) -> Mapping[str, Any]:
        return self.study["task"]

    @property
    def folder(self) -> Path:
        return self.jobs.folder(self.job.name)

    @cached_property
    def workspace(self) -> Any:
        """Runs commands into parts of the folder; what is done is not run again, what was cut off goes on."""
        from mmrazor_lite.recipes.workspace import Workspace

        settings = {"job": self.job.name, "identity": self.jobs.identity(self.job.name)}
        return Workspace(command_line, self.folder, settings, self.task["amp"])

    def record(self, name: str) -> dict[str, Any]:
        """The figures of a job before."""
        found = self.jobs.record(name)
        if found is None:
            raise LookupError(f"{self.job.name} needs the figures of {name}")
        return found

    def config(self, name: str, step: str) -> str:
        """A config of the study, by the path that a command of a clone names."""
        return str(CONFIGS / f"{name}_{step}.py")

    def options(self, step: str, epochs: int | None = None, lr: float | None = None) -> list[str]:
        """The ``KEY=VALUE`` of a command."""
        task = self.task
        options = [*self.image_options(step), f"optim_wrapper.optimizer.lr={lr or task['lr']}"]
        if epochs is not None:
            options += [f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}"]
            options += [f"param_scheduler.1.end={epochs}"]
        return options

    def image_options(self, step: str, *more: str) -> list[str]:
        """Those that say where the images are, how large and how many; ``more`` names further loaders that train."""
        task = self.task
        options = [f"data_root={Path(task['data_root']).resolve()}"]
        loaders = [*(name for name in LOADERS if step == "search" or not name.startswith("search")), *more]
        if task["size"] != 16:
            size = task["size"]
            options += [f"model.input_shape=(3,{size},{size})"]
            for loader in (*loaders, "test_dataloader"):
                images = "dataset.dataset" if loader == "test_dataloader" else "dataset.dataset.dataset"
                options += [f"{loader}.{images}.pipeline.0.scale=({size},{size})"]
        if task["per_class"] is not None:
            options += [f"{loader}.dataset.dataset.dataset.per_class={task['per_class']}" for loader in loaders]
            options += [f"test_dataloader.dataset.dataset.per_class={task['per_class']}"]
        return [*options, *(f"{loader}.batch_size={task['batch']}" for loader in ("train_dataloader", *more))]

    def command(self, piece: str, *words: Any, done: Path) -> None:
        """Run another command; it is done where a file is there."""
        self.workspace.run(piece, words, done.exists())

    def train_supernet(self, name: str, epochs: int, seed: int = 0) -> Path:
        """Train a supernet and return its checkpoint."""
        config, options = self.config(name, "supernet"), self.options("supernet", epochs)
        return self.workspace.train("train", config, epochs, seed, options)

    def algorithm(self, name: str, step: str = "search", *options: str) -> Any:
        """A supernet of a config, without weights: its space and its costs."""
        from mmrazor_lite.config import build_model, load_config

        return build_model(load_config(self.config(name, step), [*self.options(step), *options]))

    def alone(
        self,
        name: str,
        prepared: Any,
        subnet: Mapping[str, Any],
        epochs: int,
        seed: int,
        lr: float | None = None,
        test: bool = True,
        more: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Train one subnet alone, test it, and return its figures.

        ``prepared`` has its space and its costs; ``more`` are options of the config of the subnet.
        """
        from mmrazor_lite.subnet import write_subnet

        costs = prepared.cost_model.of(subnet)
        file, config = self.folder / "subnet.yaml", self.config(name, "subnet")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_subnet(file, subnet, prepared.search_space, costs)
        options = [*self.options("subnet", epochs, lr), f"model.fix_subnet={file}", *more]
        checkpoint = self.workspace.train("train", config, epochs, seed, options)
        metrics = self.workspace.test("train", config, checkpoint, options) if test else {}
        return {
            "test": round(metrics["accuracy/top1"], 3) if test else None,
            "held_out": round(self.workspace.curve("train")[epochs], 3),
            "seed": seed,
            **{key: int(costs[key]) for key in ("macs", "flops", "params")},
            "subnet": dict(subnet),
            **self.told(),
        }

    def validated(self, name: str) -> dict[str, float]:
        """The accuracies of the last validation of a training, of all subnets that it looked at."""
        from mmrazor_lite import jsonio

        found: dict[str, float] = {}
        for path in sorted((self.folder / name).glob("*/vis_data/scalars.json")):
            for line in path.read_text().splitlines():
                values = {key: value for key, value in jsonio.parse(line.encode()).items() if "accuracy" in key}
                found = values or found
        return {key: round(value, 3) for key, value in found.items()}

    def told(self) -> dict[str, Any]:
        """The commands of this job, without the folders of this machine, and their seconds."""
        places = {str(self.jobs.work): "WORK_DIR", str(Path(self.task["data_root"]).resolve()): "DATA", f"{ROOT}/": ""}
        commands = {}
        for piece, text in self.workspace.commands.items():
            for place, name in places.items():
                text = text.replace(place, name)
            commands[piece] = text
        return {"commands": commands, "seconds": self.workspace.seconds()}


def scores(
    bench: Bench, name: str, checkpoint: Path, subnets: Sequence[Mapping[str, Any]], seeds: Sequence[int]
) -> list[list[float]]:
    """Scores of subnets by the evaluator of a search, for several choices of calibration images: a list for each."""
    from dataclasses import replace

    from mmrazor_lite.cli.main import build_parser
    from mmrazor_lite.cli.search import load_supernet
    from mmrazor_lite.config import load_config
    from mmrazor_lite.engine.evaluator import SubnetEvaluator
    from mmrazor_lite.engine.search_build import read_settings

    options = [*bench.options("search"), f"search_cfg.calibrate_sample_num={bench.study[bench.job.claim]['calibrate']}"]
    words = ["search", bench.config(name, "search"), str(checkpoint), "--work-dir", str(bench.folder / "scores")]
    args = build_parser().parse_args([*words, "--cfg-options", *options])
    runner, settings = load_supernet(load_config(args.config, args.cfg_options), args, args.checkpoint)
    settings = read_settings(settings, runner.algorithm)
    evaluators = [SubnetEvaluator(runner.algorithm, replace(settings, seed=seed)) for seed in seeds]
    return [[round(evaluator.evaluate(subnet)["score"], 3) for evaluator in evaluators] for subnet in subnets]
