"""What a delivery is, for people and for programs: ``README.md`` with a front matter of YAML."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmrazor_lite import __version__
from mmrazor_lite.checkpoints import checkpoint_hash
from mmrazor_lite.estimators.measure import processor
from mmrazor_lite.estimators.steady_rounds import slow_note

from .network import Network
from .proof import Proof
from .runtime import Written
from .runtimes import versions
from .turns import Taken

FORMAT = "mmrazor_lite.card/1"
SLOWER = 0.03  # share of the time, before a word is said of it
UNSTEADY = 0.2  # spread of times, the same


@dataclass(frozen=True, eq=False)
class Delivery:
    """A network that was delivered.

    Attributes:
        folder: Of all files.
        network: As it was written.
        files: One entry for each format and precision.
        proofs: By the names of the files; under ``torch`` what the network itself gives.
        taken: Times of the network and of the one from before, in every runtime.
        costs: ``delivered``, and ``before`` where there is one: macs, flops, params, memory.
        threads: With which the times were taken.
        images_from: Where the images of the proof are from.
        real: Whether they are images, not random numbers.
        source: What the network was made of.
        license: Of that.
        notes: Lines for people.
    """

    folder: Path
    network: Network
    files: Sequence[Written]
    proofs: Mapping[str, Proof]
    taken: Sequence[Taken]
    costs: Mapping[str, Mapping[str, int]]
    threads: int
    images_from: str
    real: bool
    source: str | None = None
    license: str | None = None
    notes: tuple[str, ...] = ()

    def time(self, name: str, network: str = "delivered", batch_size: int = 1) -> Taken | None:
        """Of one network in one runtime."""
        wanted = (name, network, batch_size)
        return next((row for row in self.taken if (row.name, row.network, row.batch_size) == wanted), None)


def words(done: Delivery) -> Iterator[str]:
    """What a user should know of the figures, a line each."""
    for row in done.taken:
        if row.network != "delivered":
            continue
        name, size = row.name, row.batch_size
        plain = done.time(name.removesuffix(" int8"), "delivered", size)
        if name.endswith(" int8") and plain is not None and _slower(row, plain):
            yield (
                f"int8 is slower than fp32 in {plain.name} on this CPU at batch {size}: {row.median:.3g} ms, "
                f"fp32 {plain.median:.3g} ms"
            )
        before = done.time(name, "before", size)
        if before is not None and _slower(row, before):
            yield (
                f"in {name} at batch {size} it is slower than the network that it was made of: {row.median:.3g} ms, "
                f"before {before.median:.3g} ms"
            )
    unsteady = [row for row in done.taken if row.spread > UNSTEADY]
    if unsteady:
        worst = max(row.spread for row in unsteady)
        yield f"the machine was busy: repeats lie up to {worst:.0%} of their median apart; measure again on an idle one"
    yield from slow_note(min((row.speed for row in done.taken), default=1.0))
    for name, proof in done.proofs.items():
        if name.endswith(" int8") and proof.agreement is not None and proof.agreement < 0.95:
            yield f"{name} gives the same answer as fp32 in {proof.agreement:.1%} of the cases only"


def _slower(row: Taken, other: Taken) -> bool:
    """Whether a network takes longer than another, by more than repeats of one of them lie apart."""
    return row.median > other.median * (1 + max(SLOWER, row.spread, other.spread))


def front_matter(done: Delivery) -> dict[str, Any]:
    """The card as plain data."""
    network, steps = done.network, done.network.normalisation
    image: dict[str, Any] = {"name": "images", "shape": ["batch", *network.shape], "type": "float32"}
    if steps is not None:
        image |= {"mean": list(steps.mean), "std": list(steps.std), "channels": steps.channels}
        image |= {"normalised": "inside" if network.inside else "outside"}
    return {
        "license": done.license or "unknown",
        "library_name": "mmrazor_lite",
        "tags": ["mmrazor_lite", *dict.fromkeys(file.runtime.name for file in done.files)],
        "mmrazor_lite": {
            "format": FORMAT,
            "name": network.title,
            "source": done.source,
            "input": image,
            "outputs": list(network.outputs),
            "costs": {key: dict(value) for key, value in done.costs.items()},
            "proof": {"images": done.proofs["torch"].images, "from": done.images_from, "real": done.real},
            "torch": _figures(done.proofs["torch"], False),
            "files": [_file(file, done.proofs[file.name]) for file in done.files],
            "latency": {
                "machine": processor(),
                "threads": done.threads,
                "rows": [
                    {
                        "runtime": row.name,
                        "network": row.network,
                        "batch_size": row.batch_size,
                        "ms": round(row.median, 4),
                        "spread": round(row.spread, 4),
                        **({} if row.speed >= 1 else {"speed": round(row.speed, 4)}),
                    }
                    for row in done.taken
                ],
            },
            "versions": _versions(done),
            "notes": list(done.notes),
        },
    }


def _versions(done: Delivery) -> dict[str, str]:
    own = {"mmrazor_lite": __version__, "python": platform.python_version()}
    return {**own, **versions([file.runtime for file in done.files])}


def _file(file: Written, proof: Proof) -> dict[str, Any]:
    return {
        "file": file.files[0].name,
        "beside": [path.name for path in file.files[1:]],
        "runtime": file.runtime.title,
        "precision": file.precision,
        "bytes": file.size,
        "sha256": checkpoint_hash(file.files[0]),
        **_figures(proof),
    }


def _figures(proof: Proof, compared: bool = True) -> dict[str, float]:
    found = {"difference": proof.difference, "same_answer": proof.agreement} if compared else {}
    figures = {**found, "accuracy": proof.accuracy}
    return {key: float(f"{value:.6g}") for key, value in figures.items() if value is not None}


def card(done: Delivery) -> str:
    """The text of ``README.md``."""
    matter = yaml.safe_dump(front_matter(done), sort_keys=False, allow_unicode=True, width=120)
    parts = [f"---\n{matter}---", f"# {_plain(done.network.title)}", *_what(done), *_tables(done)]
    if done.notes:
        parts.append("\n".join(f"- {_plain(line)}" for line in done.notes))
    parts.append("## How to load it")
    parts.append(f"`images` is an array of float32 ({', '.join(['N', *map(str, done.network.shape)])}), any N.")
    for file in done.files:
        code = file.runtime.loading(file.files[0].name, done.network.outputs)
        parts.append(f"{file.name}:\n\n```python\n{code}\n```")
    return "\n\n".join(parts) + "\n"


def _what(done: Delivery) -> Iterator[str]:
    source = f"Made of {_plain(done.source)}" if done.source else "What it was made of is not said"
    licence = f"licence {_plain(done.license)}" if done.license else "its licence was not given"
    yield f"{source}; {licence}. Written and measured by mmrazor_lite {__version__}."
    network, steps = done.network, done.network.normalisation
    if steps is None:
        yield "How images are normalised for it is not said."
        return
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (steps.mean, steps.std))
    if network.inside:
        yield f"It takes {steps.channels} pixels from 0 to 255; mean {mean} and std {std} (of 0 to 1) are in the files."
    else:
        yield f"It takes {steps.channels} images: pixels from 0 to 1, then (pixel - {mean}) / {std} of each channel."
    if steps.said:
        yield f"{_plain(steps.said)}."


def _tables(done: Delivery) -> Iterator[str]:
    yield "## What it costs"
    keys = list(done.costs["delivered"])
    yield _table(["", *keys], [[name, *(f"{cost.get(key, 0):,}" for key in keys)] for name, cost in done.costs.items()])
    proof = done.proofs["torch"]
    yield f"## What is in the files\n\nEach was run on {proof.images} images ({_plain(done.images_from)})."
    rows = [["the network in torch", "", "", "", _share(proof.accuracy)]] if proof.accuracy is not None else []
    rows += [
        [
            ", ".join(path.name for path in file.files),
            f"{file.size / 1e6:.2f} MB",
            f"{found.difference:.1e}",
            f"{found.equal} of {found.places}" if found.places else "",
            _share(found.accuracy),
        ]
        for file in done.files
        for found in [done.proofs[file.name]]
    ]
    yield _table(["file", "size", "largest difference", "same answer", "accuracy"], rows)
    where = f"{processor()} at full speed, {done.threads} threads, in turns"
    yield f"## How long a run takes\n\n{where}: median, and distance of the quartiles as a share of it."
    yield _table(["runtime", "network", "images", "ms", "spread"], [
        [row.name, row.network, str(row.batch_size), f"{row.median:.3g}", f"{row.spread:.1%}"] for row in done.taken
    ])  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that are empty."""
    kept = [at for at in range(len(head)) if any(row[at] for row in rows)]
    lines = ([row[at] for at in kept] for row in (head, ["---"] * len(head), *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _plain(text: str | None) -> str:
    """Text of a user in a page: on one line."""
    return " ".join(str(text).split()).replace("|", "\\|")
