"""An accuracy predictor: a small network from the choices of a subnet to its score, in numpy.

Shape letters: n rows, D choices, F features.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mmrazor_lite import jsonio
from mmrazor_lite.errors import UserError, short
from mmrazor_lite.fileio import atomic_write
from mmrazor_lite.subnet import SearchSpace
from mmrazor_lite.subnet.elastic_stages import PER_BLOCK

FORMAT = "mmrazor_lite.predictor/1"
Encoding = Callable[[np.ndarray], np.ndarray]  # rows (n, D) -> features (n, F), float32
_KERNELS, _RATIOS, _SLOTS = (3, 5, 7), (3, 4, 6), 4
FEW = 1000  # rows; products of that size are slower on several threads, and six times so where the machine is busy
_RESOLUTIONS = range(112, 225, 16)


class AccuracyPredictor:
    """Predicts scores of subnets, many at once.

    Args:
        space: The search space.
        layers: ``(weight (out, in), bias (out,))`` of each layer; ReLU between them; the last one has one output.
        encoding: Name of one of :data:`ENCODINGS`.
        mean, scale: The prediction is ``mean + scale * output``.
        facts: What else the file shall say, plain data, such as the rank correlation on held-out subnets.
        where: The beginning of errors, such as the file's name.

    Raises:
        UserError: The layers do not take the features of the space.
    """

    def __init__(
        self,
        space: SearchSpace,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        encoding: str = "one_hot",
        mean: float = 0.0,
        scale: float = 1.0,
        facts: Mapping[str, Any] | None = None,
        where: str = "predictor",
    ) -> None:
        self.space, self.encoding, self.mean, self.scale = space, encoding, float(mean), float(scale)
        self.facts = dict(facts or {})
        self._encode = ENCODINGS[encoding](space, where)
        self.layers = [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in layers]
        width = self._encode(space.index(space.max())[None]).shape[1]
        for weight, bias in self.layers:
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != (len(weight),):
                raise UserError(
                    f"{where}: a layer of shape {weight.shape} does not fit {width} inputs; it is a predictor of "
                    "another search space, or damaged"
                )
            width = len(weight)
        if width != 1:
            raise UserError(f"{where}: the last layer has {width} outputs, expected one")

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Predicted scores (n,) of rows (n, D)."""
        with _one_thread() if len(rows) <= FEW else nullcontext():
            outputs = forward(self._encode(rows), self.layers)[:, 0]
        return self.mean + self.scale * outputs.astype(np.float64)

    def write(self, path: str | os.PathLike) -> None:
        """Write a ``.safetensors`` file; it appears whole or not at all."""
        from safetensors.numpy import save

        tensors = {}
        for number, (weight, bias) in enumerate(self.layers):
            tensors |= {f"layers.{number}.weight": weight, f"layers.{number}.bias": bias}
        about = {"format": FORMAT, "space": self.space.fingerprint, "encoding": self.encoding, "facts": self.facts}
        about |= {"mean": self.mean, "scale": self.scale}
        about["digest"] = _digest(tensors, about)
        metadata = {"about": json.dumps(about, sort_keys=True)}  # one entry: safetensors writes several in any order
        with atomic_write(path) as temporary:
            Path(temporary).write_bytes(save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata))

    @classmethod
    def read(cls, path: str | os.PathLike, space: SearchSpace, network: str | None = None) -> AccuracyPredictor:
        """Read a file of :meth:`write`, or the published weights of Once-for-All, which say nothing about themselves.

        Args:
            path: The file.
            space: The search space.
            network: Fingerprint of the cost model; a predictor of another one is refused.

        Raises:
            UserError: No such file, no predictor, or one of another space.
        """
        tensors, metadata = _tensors(path)
        layers = layers_of(tensors, str(path))
        about = _about(metadata, str(path))
        if about is not None and about.pop("digest", None) not in (None, _digest(tensors, about)):
            raise UserError(f"{path}: damaged: its content is not what was written; train the predictor again")
        if about is None:
            if "base_acc" in tensors:
                raise UserError(f"{path}: the ResNet-50 predictor of Once-for-All; no search space here is its own")
            return cls(space, layers, encoding="ofa", where=str(path))
        if about["space"] != space.fingerprint:
            raise UserError(
                f"{path}: a predictor of search space {short(about['space'])}, the config makes {space.fingerprint}; "
                "train one for this space (tools/predictor/collect.py, tools/predictor/train.py)"
            )
        if network is not None and about["facts"].get("network", network) != network:
            raise UserError(
                f"{path}: a predictor of a network of other widths or image sizes, with the same choices; train one "
                "for this network (tools/predictor/collect.py, tools/predictor/train.py)"
            )
        return cls(space, layers, about["encoding"], about["mean"], about["scale"], about["facts"], str(path))


def _one_thread() -> AbstractContextManager:
    """Context in which numpy multiplies on one thread."""
    return _blas().limit(limits=1)


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def forward(features: np.ndarray, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Features (n, F) through layers with ReLU between them."""
    for number, (weight, bias) in enumerate(layers):
        if number:  # numpy is eight times slower beside a plain 0
            np.maximum(features, np.zeros(features.shape[1], features.dtype), out=features)
        features = features @ weight.T
        features += bias
    return features


def layers_of(tensors: Mapping[str, np.ndarray], where: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """``layers.N.weight`` and ``layers.N.bias`` in order; a missing bias is zero, or ``base_acc`` in the last layer.

    Raises:
        UserError: There are none, or one is missing.
    """
    number = sum(name.endswith(".weight") for name in tensors)
    if not number or any(f"layers.{i}.weight" not in tensors for i in range(number)):
        found = short(sorted(tensors)[:5]) if tensors else "nothing"
        raise UserError(f"{where}: not a predictor, expected layers.0.weight, layers.0.bias, ...; it holds {found}")
    layers = []
    for i in range(number):
        weight = tensors[f"layers.{i}.weight"]
        bias = tensors.get(f"layers.{i}.bias", np.zeros(weight.shape[:1], np.float32))
        if i == number - 1 and "base_acc" in tensors:
            if tensors["base_acc"].size != 1:
                raise UserError(f"{where}: base_acc has the shape {tensors['base_acc'].shape}, expected one number")
            bias = bias + tensors["base_acc"].reshape(())
        layers.append((weight, bias))
    return layers


def _about(metadata: Mapping[str, str], where: str) -> dict[str, Any] | None:
    """What a file of ours says about itself; None for one that says nothing."""
    if "about" not in metadata:  # other tools write a "format" of their own, such as "pt"
        return None
    try:
        about = {"format": metadata.get("format"), **jsonio.parse(metadata["about"].encode())}
    except (ValueError, TypeError):
        raise UserError(f"{where}: its metadata is damaged; train the predictor again") from None
    if about["format"] != FORMAT:
        raise UserError(f"{where}: format {short(about['format'])} is unknown, expected {FORMAT!r}")
    kinds = {"space": str, "encoding": str, "mean": (int, float), "scale": (int, float), "facts": dict}
    wrong = sorted(key for key, kind in kinds.items() if not isinstance(about.get(key), kind))
    if wrong or about["encoding"] not in ENCODINGS:
        raise UserError(f"{where}: its metadata is damaged ({', '.join(wrong) or 'encoding'}); train again")
    return about


def _digest(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    """Of everything that a file says."""
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()[:16]


def _tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not os.path.lexists(path):
        raise UserError(f"{path}: no such predictor")
    data = jsonio.read_bytes(path, what="a predictor")
    try:
        tensors = load(data)
        header = jsonio.parse(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, jsonio.BadJSON, KeyError, TypeError, ValueError, RecursionError) as error:
        problem = short(str(error))[1:-1]
        raise UserError(f"{path}: not a safetensors file ({problem}); expected a predictor") from None
    wrong = next((name for name, a in tensors.items() if a.dtype.kind != "f" or not np.isfinite(a).all()), None)
    if wrong is not None:
        raise UserError(f"{path}: {short(wrong)} must be finite numbers; the predictor is damaged")
    return tensors, header.get("__metadata__") or {}


# encodings ----------------------------------------------------------------------------------------------------


def _one_hot(space: SearchSpace, where: str) -> Encoding:
    """Every candidate of every choice; nothing for choices that do not matter."""
    return space.one_hot


def _ofa(space: SearchSpace, where: str) -> Encoding:
    """128 features: kernels and ratios of 20 blocks (nothing past the depth), resolution 112 to 224 in steps of 16.

    Source: ``ofa/tutorial/accuracy_predictor.py`` of Once-for-All's authors.
    """
    features = np.full((len(space), max(len(choice.candidates) for choice in space.values())), -1)
    stages = [s.blocks for s in space.stages if any(f"{b}.{what}" in space for b in s.blocks for what in PER_BLOCK)]
    if [len(blocks) for blocks in stages] != [_SLOTS] * 5:
        raise UserError(f"{where}: the published encoding is of 5 stages of 4 blocks; the space is another one")
    known = {  # choice -> where its features begin, and the values that they are of
        f"{block}.{what}": (start + 3 * place, values)
        for place, block in enumerate(block for blocks in stages for block in blocks)
        for what, values, start in zip(PER_BLOCK, (_KERNELS, _RATIOS), (0, 60), strict=True)
    }
    for column, (name, choice) in enumerate(space.items()):
        if name in known:
            offset, index = known[name][0], {value: place for place, value in enumerate(known[name][1])}
        elif name == "resolution":
            offset, index = 120, {value: (value - 112) // 16 for value in choice.candidates if value in _RESOLUTIONS}
        else:
            continue
        wrong = next((value for value in choice.candidates if value not in index), None)
        if wrong is not None:
            raise UserError(
                f"{where}: the published encoding has no {wrong} for '{name}' (it has {', '.join(map(str, index))}); "
                "restrict the space, such as mutator.resolutions=[160,176,192,208,224]"
            )
        features[column, : len(choice.candidates)] = [offset + index[value] for value in choice.candidates]
    starts = np.arange(len(space)) * features.shape[1]

    def encode(rows: np.ndarray) -> np.ndarray:
        which = np.where(space.active(rows), features.take(rows + starts), -1)
        encoded = np.zeros((len(rows), 129), np.float32)
        encoded[np.arange(len(rows))[:, None], which] = 1.0  # -1 is the last column, which is dropped
        return encoded[:, :128]

    return encode


ENCODINGS: dict[str, Callable[[SearchSpace, str], Encoding]] = {"one_hot": _one_hot, "ofa": _ofa}
