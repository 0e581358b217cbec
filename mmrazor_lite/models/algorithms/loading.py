"""Weights into a network, after everything that their file says about itself is compared: the one order of checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmrazor_lite.checkpoints import Fit, checkpoint_hash, fit, load_weights, log_taken, put_weights, state_dict_of
from mmrazor_lite.checkpoints.mmrazor_names import image_buffers
from mmrazor_lite.checkpoints.norm_sets import of_several_widths
from mmrazor_lite.checkpoints.weight_names import PREFIXES, operators, short_names
from mmrazor_lite.errors import UserError
from mmrazor_lite.models.algorithms.preprocessing import otherwise, preprocessing
from mmrazor_lite.models.algorithms.pretrained import read_pretrained, take_pretrained
from mmrazor_lite.models.said import check_computation, said_by
from mmrazor_lite.subnet import Subnet

FROM_SUPERNET = "model.init_weight_from_supernet"


@dataclass(frozen=True)
class Whole:
    """The network of full width that a subnet was taken out of, kept until the subnet has its weights.

    Attributes:
        architecture: Prepared by ``mutator``.
        mutator: Cuts the subnet out of it.
        subnet: The one.
    """

    architecture: nn.Module
    mutator: Any
    subnet: Subnet

    def load(self, path: str, checkpoint: Mapping[str, Any], where: str, reset_head: bool) -> dict[str, Tensor]:
        """Load weights of full width into the module ``path`` of the network; return those of the subnet's.

        Raises:
            UserError: They are of something else, or hold batch norms of several widths.
        """
        if reset_head:  # the subnet's classifier is a part of a new one
            take_pretrained(self.architecture)
            getattr(self.architecture, "init_weights", lambda: None)()
        refuse_several_widths(self.architecture, checkpoint, where)
        load_weights(self.architecture.get_submodule(path), checkpoint, where, reset_head)
        return self.mutator.export(self.subnet).get_submodule(path).state_dict()


@dataclass(frozen=True)
class Part:
    """What an ``init_cfg`` asks weights for: a network or a part of one, whatever else the file says that it holds.

    Attributes:
        name: Of the module in the network; None for all of it.
        computation: What the network computes; None where the file's is not to be compared.
        whole: The network that this one is a subnet of: weights of the full width fit too, and are sliced.
    """

    name: str | None
    computation: Mapping[str, Any] | None
    whole: Whole | None


def load_checked(
    model: Any, checkpoint: Mapping[str, Any], where: str, reset_head: bool = False, part: Part | None = None
) -> None:
    """Load a checkpoint into an algorithm, or into a ``part``, after a look at what it says it holds.

    What tells most comes first: kind, search space and subnets; names and shapes of the weights (operators, where they
    tell a supernet from a subnet); what the network computes; its costs; how images were prepared, which is only noted.

    Args:
        model: What the weights are for.
        checkpoint: What a file holds.
        where: Names it.
        reset_head: Leave out the classifier.
        part: ``model`` is that of an ``init_cfg``: only weights and computation have to be the same.

    Raises:
        UserError: It holds something else, or does not fit; ``model`` is as it was.
    """
    said = said_by(checkpoint)
    if part is None:
        _check_chosen(model, checkpoint, where)
        check_space(model, checkpoint, where, model.identity.kind, model.identity.space.fingerprint, reset_head)
        model.check_meta(said, where)
    found = _fitted(model, checkpoint, where, reset_head, part)
    if part is None:
        model.check_network(said, where, reset_head)
        model.prepared_otherwise = _prepared_otherwise(model, checkpoint, where)
    else:
        check_computation(said.get("computation"), part.computation, where, part.name, reset_head)
    log_taken(checkpoint, where)
    put_weights(model, found, where)
    if part is None:
        model.data = said.get("data")


def check_space(
    model: nn.Module, checkpoint: Mapping[str, Any], where: str, kind: str, space: str, reset_head: bool = False
) -> None:
    """Compare the weights when ``checkpoint`` says another search space: they tell more than a fingerprint.

    Args:
        model: The algorithm that the checkpoint is for.
        checkpoint: What a file holds.
        where: Names the source in errors.
        kind: What ``model`` is (``supernet`` ...); a checkpoint of another kind is not compared.
        space: Fingerprint of its search space.
        reset_head: Whether the classifier is left out.

    Raises:
        UserError: As ``fitting_weights``.
    """
    said = said_by(checkpoint)
    if said.get("kind") == kind and said.get("space") not in (None, space):
        fit(model, state_dict_of(checkpoint, where), where, reset_head)


def _fitted(model: nn.Module, checkpoint: Mapping[str, Any], where: str, reset_head: bool, part: Part | None) -> Fit:
    """The weights of a checkpoint for ``model``: as they are, or the subnet's part of those of full width."""
    problem = None
    if part is not None and part.whole is not None:
        try:
            found = fit(model, part.whole.load(part.name or "", checkpoint, where, reset_head), where)
            found.notes.append("of the full width; the subnet has its part of it")
            return found
        except UserError as error:
            problem = error
    try:
        with or_else(problem):
            return fit(model, state_dict_of(checkpoint, where), where, reset_head)
    except UserError:
        if part is None:
            _check_operators(model, checkpoint, where)
        raise


def refuse_several_widths(model: nn.Module, checkpoint: Mapping[str, Any], where: str) -> None:
    """Refuse to slice a file that holds batch norms of several widths, unlike ``model``: those of one fit no other.

    Raises:
        UserError: It does; ``where`` names it.
    """
    if of_several_widths(state_dict_of(checkpoint, where)) and not of_several_widths(model.state_dict()):
        raise UserError(
            f"{where}: holds batch norms of several widths; list them as algorithm.channel_cfg=[...], and split"
        )


@contextmanager
def or_else(problem: UserError | None) -> Iterator[None]:
    """Of a file that fits neither the full width, see ``problem``, nor the subnet, tell the shorter story."""
    try:
        yield
    except UserError as error:
        if problem is not None and len(str(problem)) < len(str(error)):
            raise problem from None
        raise


def _prepared_otherwise(algorithm: Any, checkpoint: Mapping[str, Any], where: str) -> str | None:
    """What to say where a file's network saw images that were prepared in another way than the config says."""
    said = said_by(checkpoint)
    theirs = said.get("preprocessing") or said.get("data_preprocessor")  # files of before have the config alone
    theirs = theirs or image_buffers(state_dict_of(checkpoint, where))  # and some of MMRazor the buffers
    found = otherwise(theirs, preprocessing(getattr(algorithm, "data_preprocessor", None)))
    return found and f"{where}: its network was trained on images that were prepared otherwise: {found}"


def _check_operators(algorithm: Any, checkpoint: Mapping[str, Any], where: str) -> None:
    """Tell a supernet of operators from a subnet by its weights, which do not fit: others do not say what they hold."""

    def is_supernet(state: Mapping[str, Any]) -> bool:
        return any(len(names) > 1 for names in operators(state).values())

    found, wanted = is_supernet(state_dict_of(checkpoint, where)), is_supernet(algorithm.state_dict())
    if found == wanted or said_by(checkpoint):
        return  # or its meta is checked, and tells more
    if found:
        raise UserError(
            f"{where} holds a supernet (several operators for a choice), the config asks for one subnet; give it as "
            f"model.init_cfg.checkpoint with {FROM_SUPERNET}=True, which takes the subnet's part of it"
        )
    raise UserError(
        f"{where} holds one subnet, the config asks for a supernet (several operators for a choice); it is for a "
        f"subnet's config (model.type='sub_model'), with {FROM_SUPERNET}=False"
    )


def _check_chosen(algorithm: Any, checkpoint: Mapping[str, Any], where: str) -> None:
    """Compare the operators of one subnet with those that a file names: weights of another one may fit all the same."""
    if algorithm.kind != "subnet" or said_by(checkpoint):
        return
    named = operators(state_dict_of(checkpoint, where))
    theirs = {name: named[raw] for name, raw in short_names(named, where, PREFIXES).items() if len(named[raw]) == 1}
    chosen = {name: value for name, value in algorithm.subnets[0].items() if name in theirs}
    other = [name for name, value in chosen.items() if theirs[name] != {value}]
    if other:
        (there,) = theirs[other[0]]
        raise UserError(
            f"{where}: holds another subnet, {len(other)} of {len(chosen)} operators are others: {other[0]} is {there} "
            f"in the file and {chosen[other[0]]} in the config; give the subnet file that it was trained with"
        )


def load_pretrained(
    module: nn.Module,
    config: Mapping[str, Any],
    computation: Mapping[str, Any] | None = None,
    part: str | None = None,
    whole: Whole | None = None,
) -> None:
    """Load the file of a ``Pretrained`` entry into ``module``, strictly.

    Args:
        module: A network, or a part of one.
        config: The entry.
        computation: What the network computes; a file that says its own is compared.
        part: Name of ``module`` in the network, where it is a part.
        whole: Where the network is one subnet of another: weights of the full width fit too, and are sliced.

    Raises:
        UserError: An unknown key, no file, or one that does not fit.
    """
    path, content = config["checkpoint"], read_pretrained(config, type(module).__name__)
    taken = str(config.get("prefix") or "").rstrip(".").removeprefix("architecture.")
    compared = computation if taken in ("", part) else None  # of another part the file says nothing
    load_checked(module, content, str(path), bool(config.get("reset_head")), Part(part, compared, whole))
    log_loaded(module, path)


def log_loaded(module: nn.Module, path: str) -> None:
    """Log which file was loaded, with its hash."""
    print_log(f"loaded {path} (sha256 {checkpoint_hash(path)}) into {type(module).__name__}", logger="current")
