"""Tuning by distillation: what it learns from, that it keeps its time, resumes exactly and never ends worse."""

from __future__ import annotations

import copy
import time
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

import mmrazor_lite
from mmrazor_lite.errors import UserError
from mmrazor_lite.slimming import read_images, tuning
from mmrazor_lite.slimming.tune import Limit, parse_limit, tune
from mmrazor_lite.slimming.tuning import Tuning
from mmrazor_lite.slimming.tuning_images import TuningImages, tuning_images


def network(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1),
        nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4),
    )  # fmt: skip


class TwoHeads(nn.Module):
    """Class scores and a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.classes, self.map = nn.Conv2d(3, width, 3), nn.Linear(width, 4), nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> dict:
        x = self.stem(x).relu()
        return {"classes": self.classes(x.mean((2, 3))), "map": self.map(x)}


def damaged(full: nn.Module) -> nn.Module:
    small = copy.deepcopy(full)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return small


@pytest.fixture
def both() -> tuple[nn.Module, nn.Module]:
    """A network that is nearly right, and its original."""
    torch.manual_seed(0)
    full = network(16)
    with torch.no_grad():
        full(torch.randn(256, 3, 8, 8))
    return damaged(full).eval(), full.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(300, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ("5min", Limit(seconds=300)), ("300s", Limit(seconds=300)), ("2h", Limit(seconds=7200)),
        (" 1.5 hours", Limit(seconds=5400)), ("3 epochs", Limit(epochs=3)), ("1 epoch", Limit(epochs=1)),
        (3, Limit(epochs=3)), ("3", Limit(epochs=3)), (0.5, Limit(epochs=0.5)),
    ],
)  # fmt: skip
def test_limits_are_times_or_epochs(given, limit):
    assert parse_limit(given) == limit


@pytest.mark.parametrize(
    "given", [0, "0", "0min", -1, "-5min", "soon", "5 parsecs", "", None, True, float("nan"), "1e999s"]
)
def test_what_is_no_limit_is_refused(given):
    with pytest.raises(UserError, match=r"tune=.*give a time above 0 such as '5min'"):
        parse_limit(given)


def test_a_network_comes_nearer_to_its_original_without_labels(both, images):
    small, full = both
    before = copy.deepcopy(small), copy.deepcopy(full)
    state = torch.get_rng_state()
    found = tune(small, full, images, "8 epochs", batch_size=16, show=False)
    assert found.is_taken and found.after.distance < 0.7 * found.before.distance and found.after.accuracy is None
    assert found.steps == 8 * 240 // 16 and found.after.images == 60
    assert type(found.model) is type(small) and not found.model.training and not same(found.model, small)
    assert same(small, before[0]) and same(full, before[1]) and not full.training
    assert all(parameter.requires_grad for parameter in [*small.parameters(), *full.parameters()])
    assert torch.equal(torch.get_rng_state(), state)


def test_labels_are_learned_too(both, images):
    small, full = both
    with torch.no_grad():
        labels = (full(images).argmax(1) + 1) % 4  # never what the original says
    without = tune(small, full, images, 6, show=False)
    found = tune(small, full, (images, labels), 6, show=False)
    with torch.no_grad():
        losses = [F.cross_entropy(net(images), labels).item() for net in (without.model, found.model)]
    assert losses[1] < losses[0] and found.after.accuracy is not None


def test_two_outputs_of_a_network_are_learned(images):
    torch.manual_seed(0)
    full = TwoHeads(8)
    small = damaged(full)
    found = tune(small, full, [images[:100], images[100:]], 8, batch_size=16, show=False)
    assert found.is_taken and found.after.distance < 0.7 * found.before.distance
    with_targets = tune(small, full, (images, torch.randn(300, 7)), 1, show=False)
    assert "give loss=" in with_targets.notes[0]


def test_a_loss_of_ones_own_gets_the_outputs_and_the_targets(images):
    torch.manual_seed(0)
    small, full = TwoHeads(4), TwoHeads(8)
    seen = []

    def loss(outputs: dict, targets: dict) -> torch.Tensor:
        seen.append((set(outputs), targets["mean"].shape))
        return (outputs["map"].mean((1, 2, 3)) - targets["mean"].sum(1)).square().mean()

    data = [{"images": images, "targets": {"mean": images.mean((2, 3))}}]
    found = tune(small, full, data, 2, loss=loss, show=False)
    assert found.steps == len(seen) and seen == [({"classes", "map"}, (64, 3))] * len(seen)
    with pytest.raises(UserError, match=r"loss: it gives a tensor \(64,\)"):
        tune(small, full, (images, images), 1, loss=lambda outputs, targets: targets.mean((1, 2, 3)), show=False)


@pytest.mark.parametrize("importance", ["taylor", "fisher"])
def test_one_loss_ranks_and_tunes(images, importance):
    """It gets what the network returns in both."""
    torch.manual_seed(0)
    seen = []

    def loss(outputs: dict, targets: torch.Tensor) -> torch.Tensor:
        seen.append(set(outputs))
        return F.cross_entropy(outputs["classes"], targets) + outputs["map"].square().mean()

    options = {"images": 60, "latency": False, "show": False, "importance": importance, "loss": loss}
    mmrazor_lite.slim(TwoHeads(8), (images, torch.arange(300) % 4), "80%", **options)
    ranked = len(seen)
    mmrazor_lite.slim(TwoHeads(8), (images, torch.arange(300) % 4), "80%", **options, tune=1)
    assert 0 < ranked < len(seen) - ranked and seen == [{"classes", "map"}] * len(seen)


def test_labels_of_a_network_that_returns_its_scores_in_a_dict(images):
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(8)

        def forward(self, x: torch.Tensor) -> dict:
            return {"logits": self.net(x)}

    torch.manual_seed(0)
    options = {"images": 60, "latency": False, "show": False, "importance": "taylor"}
    result = mmrazor_lite.slim(Named(), (images, torch.arange(300) % 4), "80%", **options, tune=1)
    assert result.report.stages[-1].accuracy is not None and not any("no loss" in note for note in result.report.notes)


def test_it_never_ends_worse_than_it_began(both, images):
    _, full = both
    with torch.no_grad():
        labels = full(images).argmax(1)
    found = tune(full, full, (images, labels), 2, show=False)
    assert not found.is_taken and same(found.model, full) and found.model is not full
    assert "the weights from before stay" in found.notes[0]


def test_a_training_that_diverges_leaves_the_weights_from_before(both, images):
    small, full = both
    calls = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return outputs.sum() * (float("nan") if len(calls) > 3 else 1.0)

    found = tune(small, full, (images, images), 3, loss=loss, show=False)
    assert not found.is_taken and same(found.model, small) and "step 3: the loss" in found.notes[0]


@pytest.mark.parametrize("augment", [False, True])
def test_a_killed_tuning_resumes_to_the_same_weights(both, images, tmp_path, monkeypatch, augment):
    monkeypatch.setattr(tuning, "EVERY", 0.0)  # a checkpoint after every step
    small, full = both
    with torch.no_grad():
        labels = full(images).argmax(1)
    calls = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)

    options = {"augment": augment, "show": False, "seed": 5, "loss": loss}
    with pytest.raises(KeyboardInterrupt):
        tune(small, full, (images, labels), 4, tmp_path, **options)
    resumed = tune(small, full, (images, labels), 4, tmp_path, resume=True, **options)
    assert len(calls) == 7 + resumed.steps - 6
    whole = tune(small, full, (images, labels), 4, **options)
    assert whole.steps == resumed.steps == 15 and same(whole.model, resumed.model)
    shorter = tune(small, full, (images, labels), 1, tmp_path, resume=True, **options)
    assert shorter.steps == 15 and "had trained for 15 steps, 1 epochs are 4" in shorter.notes[-1]
    others = {"seed": 6, "loss": lambda outputs, targets: F.cross_entropy(outputs, targets), "values": True}
    for name, value in others.items():
        with pytest.raises(UserError, match=f"that tuning had other {name}: leave out resume"):
            tune(small, full, (images, labels), 4, tmp_path, resume=True, **{**options, name: value})


def test_a_new_tuning_begins_anew_in_the_folder_of_another(both, images, tmp_path):
    small, full = both
    tune(small, full, images, 4, tmp_path, show=False)
    found = tune(small, full, images, 1, tmp_path, show=False)
    assert found.steps == 4 and [path.name for path in tmp_path.glob("*.pth")] == ["iter_4.pth"]
    ended = tune(small, full, images, 1, tmp_path, resume=True, show=False)
    assert ended.steps == 4 and same(ended.model, found.model)


def test_images_that_decide_are_not_trained_on(both, images):
    small, full = both
    batch = [(images[:50], None), (images[50:100], None)]
    found = tune(small, full, images, 1, held_out=batch, show=False)
    assert found.after.images == 100 and found.steps == round(200 / 64)


class Moved(Dataset):
    """Images that are others each time that they are read; their numbers are their targets."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.read = images, []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read.append(int(index))
        return self.images[index] + 0.1 * torch.randn(self.images.shape[1:]), int(index)


def numbers(batches: list) -> set[int]:
    return set(torch.cat([targets for _, targets in batches]).tolist())


def trained_on(found: TuningImages) -> list[dict]:
    """All batches of an epoch."""
    every = SequentialSampler(found.dataset)
    return list(DataLoader(found.dataset, found.batch_size, sampler=every, collate_fn=found.collate))


@pytest.mark.parametrize("size", [1, 2, 8, 300])
def test_no_batch_has_an_image_that_decides(images, size):
    """Also where all of a batch decide: of these 100 stand beside each other."""
    labels = torch.arange(300)
    held_out = [(images[50:100], None), (images[100:150], None)]
    found = tuning_images(DataLoader(TensorDataset(images, labels)), images, size, held_out)
    batches = trained_on(found)
    assert [len(batch["inputs"]) for batch in batches[:-1]] == [size] * (len(batches) - 1) and found.is_held_out
    seen = [number for batch in batches for number in batch["data_samples"].tolist()]
    assert len(seen) == 300 and set(seen) == {*range(50), *range(150, 300)}
    assert all(torch.equal(batch["inputs"], images[batch["data_samples"]]) for batch in batches)
    assert max(seen.count(number) for number in seen) < (10 if size < 300 else 3)


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("kind", ["tensor", "dataset"])
def test_where_all_images_decide_none_is_left(images, size, kind):
    with pytest.raises(UserError, match="all its images are held out, none is left to tune on: give more images"):
        trained_on(tuning_images(images if kind == "tensor" else TensorDataset(images), images, size, [(images, None)]))


@pytest.mark.parametrize("kind", ["dataset", "loader", "loader that shuffles", "loader with a sampler"])
def test_of_images_that_are_drawn_anew_none_that_decides_is_trained_on(images, kind):
    dataset = Moved(images)
    options = {
        "loader": {},
        "loader that shuffles": {"shuffle": True},
        "loader with a sampler": {"sampler": SubsetRandomSampler(range(299, -1, -1))},
    }
    data = dataset if kind == "dataset" else DataLoader(dataset, batch_size=16, **options[kind])
    held_out = read_images(data, network(4), 60)
    found = tuning_images(data, images, 8, held_out)
    seen = {number for batch in trained_on(found) for number in batch["data_samples"].tolist()}
    assert seen == set(range(300)) - numbers(held_out.held_out) and len(seen) == 240
    assert found.is_held_out and not any("pixels" in note for note in found.notes)


def test_images_in_memory_and_of_a_config_are_told_by_their_numbers(images):
    held_out = read_images((images, list(range(300))), network(4), 60)
    found = tuning_images((images, list(range(300))), images, 8, held_out)
    seen = {number for batch in map(found.dataset.__getitem__, range(240)) for number in batch["data_samples"]}
    assert len(found.dataset) == len(seen) == 240
    assert seen.isdisjoint(number for _, targets in held_out.held_out for number in targets)
    digits = {"type": "mmrazor_lite.Digits", "split": "train", "size": 8, "pipeline": [{"type": "PackInputs"}]}
    held_out = read_images(digits, network(4), 60, seed=3)
    found = tuning_images(digits, images, 8, held_out)
    whole = len(found.dataset.images)
    assert len(found.dataset) == whole - 60 and found.is_held_out
    assert torch.equal(found.dataset.images[list(held_out.places)], torch.cat([x for x, _ in held_out.held_out]))


class Stream(IterableDataset):
    """Images that are others each time that they are read, or the same."""

    def __init__(self, images: torch.Tensor, change: float) -> None:
        self.images, self.change = images, change

    def __iter__(self):
        return iter([image + self.change * torch.randn_like(image) for image in self.images])


@pytest.mark.parametrize("change", [0.0, 0.1])
def test_what_cannot_be_told_is_not_called_held_out(both, images, change):
    _, full = both
    loader = DataLoader(Stream(images, change), batch_size=50)
    result = mmrazor_lite.slim(full, loader, "50%", images=60, tune=1, latency=False, importance="l1", show=False)
    told = [note for note in result.report.notes if "cannot be told by their pixels" in note]
    assert len(told) == (change > 0) and result.report.is_held_out == (change == 0)
    dataset = Moved(images) if change else TensorDataset(images)
    found = tuning_images(dataset, images, 8, [(images[:50], None)])  # that somebody gives, without numbers
    assert found.is_held_out == (change == 0) and len(found.notes) == (change > 0)


def test_too_few_images_to_hold_some_out(images):
    for data in (images[:8], TensorDataset(images[:8]), list(images[:8].split(4))):
        found = tuning_images(data, images, 4, read_images(data, network(4), 60))
        assert len(found.dataset) == 8 and not found.is_held_out and "are trained on too" in found.notes[0]


class Normalised(DataLoader):
    """Does something with what it has read."""

    def __iter__(self):
        for images, labels in super().__iter__():
            yield (images - 3) / 2, labels


def test_a_loader_that_makes_its_own_batches_is_asked_for_them(images):
    loader = Normalised(TensorDataset(images, torch.arange(300)), batch_size=16)
    held_out = read_images(loader, network(4), 60)
    found = tuning_images(loader, images, None, held_out)
    assert found.batch_size == 16 and len(found.dataset) == 240 and found.is_held_out
    assert torch.equal(found.dataset.images, (images - 3) / 2)
    assert "makes batches by itself" in found.notes[0]


@pytest.mark.parametrize("size", [2, 10])
def test_targets_in_lists_stay_beside_their_images(images, size):
    """In memory: what torch's loader makes of (image, (a, b)), and a list of an item for each image."""
    samples = [(image, (number, -number)) for number, image in enumerate(images[:60])]
    batches = list(DataLoader(samples, batch_size=size))
    for data in (batches, [(part, [{"number": int(n)} for n in targets[0]]) for part, targets in batches]):
        found = tuning_images(data, images, 8)
        batch = found.dataset.seeded_batch([5, 0, 7], 0, [0])
        targets = batch["data_samples"]
        own = targets[0].tolist() if isinstance(targets[0], torch.Tensor) else [part["number"] for part in targets]
        assert torch.equal(batch["inputs"], images[own])
        assert data is not batches or targets[1].tolist() == [-number for number in own]


class Recorded(torch.Tensor):
    """Writes down where it is moved to."""

    devices: ClassVar[list] = []

    def to(self, *args, **options):
        self.devices.append(args[0])
        return super().to(*args, **options)


def test_images_that_decide_go_to_the_device_with_their_targets(both, images):
    """Where there is one device it is seen by what is asked for."""
    small, full = both
    held_out = [(images[:50], {"y": torch.zeros(50, dtype=torch.int64).as_subclass(Recorded)})]
    Recorded.devices.clear()
    Tuning(small, full, tuning_images(images, images, 8, held_out), None, False, 0, time.monotonic())
    assert Recorded.devices == [torch.device("cpu")]


def test_options_that_are_none_are_refused(both, images):
    small, full = both
    wrong = (
        ({"batch_size": 0}, "batch_size=0"),
        ({"augment": "yes"}, "augment='yes'"),
        ({"resume": True}, "resume=True needs work_dir"),
        ({"work_dir": __file__}, "it is a file, give a folder"),
    )
    for options, words in wrong:
        with pytest.raises(UserError, match=words):
            tune(small, full, images, 1, show=False, **options)
    with pytest.raises(UserError, match="1 image is too few to tune on"):
        tune(small, full, images[:1], 1, show=False)


def test_a_time_is_kept(both, images):
    small, full = both
    tune(small, full, images, 1, show=False)  # what is imported once
    began = time.monotonic()
    found = tune(small, full, images, "4s", show=False)
    assert 1.0 < time.monotonic() - began < 6.0 and found.steps > 5 and found.notes == ()
    short = tune(small, full, images, "0.5s", show=False)
    assert short.steps == 0 and same(short.model, small) and "are over before the first step" in short.notes[0]


def test_a_loader_of_a_dataset_is_read_anew_in_every_epoch(both, images):
    small, full = both

    class Drawn(TensorDataset):
        seen: list[tuple[int, float]] = []

        def __getitem__(self, index: int) -> torch.Tensor:
            factor = torch.rand(()).item()
            self.seen.append((index, factor))
            return super().__getitem__(index)[0] * (1 + factor)

    found = tune(small, full, DataLoader(Drawn(images), batch_size=16), 2, show=False)
    assert found.steps == 30  # batches of the loader's size
    held_out, trained = Drawn.seen[:60], Drawn.seen[60:]
    assert {index for index, _ in held_out}.isdisjoint({index for index, _ in trained})
    assert {index for index, _ in Drawn.seen} == set(range(300))
    assert len({factor for _, factor in trained}) == len(trained) == 480


def test_slim_tunes_and_resumes(both, images, tmp_path):
    _, full = both
    options = {"images": 100, "tune": 2, "latency": False, "work_dir": tmp_path}
    first = mmrazor_lite.slim(full, images, "50%", **options)
    again = mmrazor_lite.slim(full, images, "50%", resume=True, **options)
    assert first.report.stages[-1].name in ("tuned", "tuned, not taken")
    assert first.report.stages[-1].held_out.images == 100
    assert same(first.model, again.model) and (tmp_path / "tuning" / "iter_6.pth").is_file()
    assert first.model[0].weight.shape[0] < 16
