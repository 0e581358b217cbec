"""What TF-NAS does around an epoch: its temperature, its widths, and at the end the network found."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmrazor_lite.engine.ddp import unwrapped
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.tfnas import TFNAS
from mmrazor_lite.models.said import origin
from mmrazor_lite.registry import HOOKS
from mmrazor_lite.subnet.subnet_file import write_subnet

BEST = "best_subnet.yaml"


@HOOKS.register_module()
class ElasticityHook(Hook):
    """Scales the widths of TF-NAS after every epoch, and writes ``best_subnet.yaml`` when the training ends.

    Raises:
        UserError: The model has no architecture to search; at the end, after the file is written: the latency of the
            network is not within the tolerance of the target.
    """

    priority = "ABOVE_NORMAL"  # before the checkpoint, which holds the new widths

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to search."""
        if not isinstance(unwrapped(runner.model), TFNAS) or not isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise UserError(
                "ElasticityHook is for model.type='TFNAS' with "
                "optim_wrapper.constructor='SeparateOptimWrapperConstructor'; remove it from custom_hooks"
            )
        algorithm = unwrapped(runner.model)
        algorithm.start_epoch(runner.epoch)
        runner.logger.info(f"target: {algorithm.target:.4f} ms, within {algorithm.tolerance:.1%}")
        if runner.max_epochs <= algorithm.epochs_without_arch:
            runner.logger.warning(
                f"none of the {runner.max_epochs} epochs trains the architecture (model.epochs_without_arch="
                f"{algorithm.epochs_without_arch}): its operators and depths will be those it begins with, none is "
                "searched; give more epochs, or fewer of those"
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the epoch of the algorithm."""
        unwrapped(runner.model).start_epoch(runner.epoch)

    def after_train_epoch(self, runner: Runner) -> None:
        """Scale the widths, and let the optimizers begin anew, as the authors do: momentum is of other channels now."""
        algorithm = unwrapped(runner.model)
        found = algorithm.end_epoch()
        for wrapper in runner.optim_wrapper.values():
            wrapper.optimizer.state.clear()
        text = f"latency of the network found: {found['after']:.4f} ms, {found['before']:.4f} before its widths changed"
        if found["less_probable"] > 1:
            text += (
                f"; the most probable network has no widths that bring it to the target, this one is "
                f"{found['less_probable']:.3g} times less probable"
            )
        runner.logger.info(f"{text}; target {found['target']:.4f} ms")
        if runner.epoch >= algorithm.epochs_without_arch and not algorithm.meets(found["after"]):
            runner.logger.warning(
                f"the network found takes {found['after']:.4f} ms, its widths cannot reach {found['target']:.4f} ms"
            )

    def after_train(self, runner: Runner) -> None:
        """Write the network found; judge its latency."""
        algorithm = unwrapped(runner.model)
        subnet, path = algorithm.searched, Path(runner.work_dir) / BEST
        costs = algorithm.cost_model.of(subnet)
        about = {"tool": "TFNAS", **origin(algorithm.mutator)}
        if is_main_process():
            write_subnet(path, subnet, algorithm.search_space, costs, made_by=about)
            runner.logger.info(f"wrote {path}: " + ", ".join(f"{value:,.10g} {name}" for name, value in costs.items()))
        if not algorithm.meets(costs["latency"]):
            raise UserError(
                f"the network found takes {costs['latency']:.4f} ms, the target is {algorithm.target:.4f} ms within "
                f"{algorithm.tolerance:.1%}; it is in {path}. Search longer, or with a larger model.lambda_lat"
            )
