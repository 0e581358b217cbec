"""What ``mmrazor_configs.py`` does with each config of MMRazor that is carried: plain data, one entry per config.

Facts of open-mmlab/mmrazor, branches main (1.x) and 0.x: names of files, and the figures that its READMEs publish.
"""

from __future__ import annotations

from dataclasses import dataclass

# Figures of one image: params and flops. In millions they are what MMRazor's READMEs and file names say.
FIGURES = {
    "AUTOSLIM_MBV2_530M_OFFICIAL.yaml": (6_495_992, 529_261_920),
    "AUTOSLIM_MBV2_320M_OFFICIAL.yaml": (5_767_288, 320_247_520),
    "AUTOSLIM_MBV2_220M_OFFICIAL.yaml": (4_125_104, 221_412_560),
    # The READMEs' figures of SPOS are those of SPOS_SUBNET.yaml; what is called PAPER has other operators, and these.
    "SPOS_SHUFFLENETV2_330M_IN1k_PAPER.yaml": (3_558_952, 333_668_928),
    "SPOS_SUBNET.yaml": (3_353_592, 327_544_320),
    "SPOS_MOBILENET_490M_FROM_ANGELNAS.yaml": (5_936_776, 490_136_480),
    "OFA_SUBNET_NOTE8_LAT22.yaml": (4_304_592, 70_875_664),
    "OFA_SUBNET_NOTE8_LAT31.yaml": (4_595_536, 105_429_448),
}
# Where a checkout has these files; the first of all the given ones that has it is taken.
PLACES = ("configs/pruning/autoslim", "configs/nas/spos", "configs/nas/mmcls/spos", "configs/nas/mmcls/onceforall")

_LOADER = ("batch_size=4", "num_workers=0", "persistent_workers=False")
_MAIN = {
    "sizes": [f"{part}_dataloader.{key}" for part in ("train", "val", "test") for key in _LOADER],
    "epoch": ["train_cfg.max_epochs=1"],
    "greedy": ["test_cfg.target_flops=(701.,)", *(f"test_cfg.dataloader.{key}" for key in _LOADER)],
    "evolution": [
        f"train_cfg.{key}"
        for key in (
            *("max_epochs=1", "num_candidates=2", "top_k=1", "num_mutation=1", "num_crossover=1"),
            *("calibrate_sample_num=8", "constraints_range.flops=(0,9999)"),
            *(f"dataloader.{key}" for key in _LOADER),
        )
    ],
}
_OLD = {
    "sizes": ["data.samples_per_gpu=4", "data.workers_per_gpu=0", "data.train.ann_file=data/imagenet/meta/train.txt"],
    "epoch": ["runner.max_epochs=1"],
    "iters": ["runner.max_iters=2"],
    "greedy": ["searcher.target_flops=[701000000]"],  # of 703: one group is slimmed by a step or two
    "evolution": [
        f"searcher.{key}"
        for key in (
            *("max_epoch=1", "candidate_pool_size=2", "candidate_top_k=1", "num_mutation=1", "num_crossover=1"),
            "constraints.flops=9999e6",
        )
    ],
}
OPTIONS = {"1.x": _MAIN, "0.x": _OLD}  # the sizes of a run, in the keys of each branch


@dataclass(frozen=True)
class Step:
    """One command on a config: the script in ``tools/``, and its words.

    ``{self}`` is the config and ``{config:NAME}`` another, ``{work}`` and ``{work:NAME}`` the folders that their work
    has written to, ``{out}`` that of this step, ``{subnet:FILE}`` a subnet file; ``{sizes}`` and the like are
    :data:`OPTIONS` of the branch.
    """

    script: str
    words: str
    wrote: str = ""  # in the folder of its results: what must be there afterwards


@dataclass(frozen=True)
class Plan:
    """What is done with one config: the options without which it cannot be built, its work, and the step after it."""

    config: str  # below configs/ of its branch, without .py
    kind: str  # supernet, search or subnet
    counted: tuple[str, ...]  # subnet files whose figures must come out; for a subnet the one it is
    work: Step
    after: Step
    options: str = ""  # a subnet file that the branch names and has not

    @property
    def name(self) -> str:
        return self.config.rpartition("/")[2]


def _train(options: str, wrote: str) -> Step:
    return Step("train.py", f"{{self}} --cfg-options {{sizes}} {options}", wrote)


ANGLENAS = "SPOS_MOBILENET_490M_FROM_ANGELNAS.yaml"
MBV2 = ("AUTOSLIM_MBV2_530M_OFFICIAL.yaml", "AUTOSLIM_MBV2_320M_OFFICIAL.yaml", "AUTOSLIM_MBV2_220M_OFFICIAL.yaml")
_MBV2_WORDS = " ".join(f"{{subnet:{name}}}" for name in MBV2)


def _autoslim_1x() -> list[Plan]:
    folder, start = "nas/mmcls/autoslim", "autoslim_mbv2_1.5x"
    supernet, search = f"{start}_supernet_8xb256_in1k", f"{start}_search_8xb256_in1k"
    joint = f"{start}_slimmable_subnet_8xb256_in1k"
    train = _train("{epoch}", "epoch_1.pth")
    greedy = "--cfg-options {sizes} {greedy}"
    found = f"model.channel_cfg={{work:{search}}}/subnet_flops_701M.yaml"
    plans = [
        Plan(
            f"{folder}/{supernet}", "supernet", MBV2, train,
            Step("test.py", f"{{config:{search}}} {{work}}/epoch_1.pth {greedy}", "subnet_flops_701M.yaml"),
        ),
        Plan(
            f"{folder}/{search}", "search", MBV2,
            Step("test.py", f"{{self}} {{work:{supernet}}}/epoch_1.pth {greedy}", "subnet_flops_701M.yaml"),
            Step("train.py", f"{{config:{joint}}} --cfg-options {{sizes}} {{epoch}} {found}", "epoch_1.pth"),
        ),
        Plan(
            f"{folder}/{joint}", "subnet", (), train,
            Step(
                "model_converters/split_checkpoint.py",
                f"{{self}} {{work}}/epoch_1.pth --channel-cfgs {_MBV2_WORDS} --output-dir {{out}}", "checkpoint_3.pth",
            ),
        ),
    ]  # fmt: skip
    for size, name in zip((530, 320, 220), MBV2, strict=True):
        own = f"{start}_subnet_8xb256_in1k_flops-{size}M"
        test = Step("test.py", "{self} {work}/epoch_1.pth --cfg-options {sizes}")
        plans.append(Plan(f"{folder}/{own}", "subnet", (name,), train, test))
    return plans


def _chain(
    folder: str, names: tuple[str, str, str], files: tuple[str, ...], training: str, ckpt: str, given: str = ""
) -> list[Plan]:
    """Supernet, search by evolution and retraining of 1.x, each from what the one before wrote."""
    supernet, search, subnet = names
    evolution = "--cfg-options {sizes} {evolution} load_from="
    best = "best_subnet.pth"
    init = "model.init_cfg.checkpoint="
    retrain = f"--cfg-options {{sizes}} {training} {init}"
    return [
        Plan(
            f"{folder}/{supernet}", "supernet", files, _train(training, ckpt),
            Step("train.py", f"{{config:{search}}} {evolution}{{work}}/{ckpt}", best),
        ),
        Plan(
            f"{folder}/{search}", "search", files,
            Step("train.py", f"{{self}} {evolution}{{work:{supernet}}}/{ckpt}", best),
            Step("train.py", f"{{config:{subnet}}} {retrain}{{work}}/{best}", ckpt),
        ),
        Plan(
            f"{folder}/{subnet}", "subnet", files[-1:],
            Step("train.py", f"{{self}} {retrain}{{work:{search}}}/{best}", ckpt),
            Step("test.py", f"{{self}} none --cfg-options {{sizes}} {init}{{work}}/{ckpt}"), given,
        ),
    ]  # fmt: skip


def _spos_1x() -> list[Plan]:
    folder = "nas/mmcls/spos"
    plans = []
    for net, file, given in (
        ("shufflenet", "SPOS_SUBNET.yaml", ""),
        ("mobilenet", ANGLENAS, "model.fix_subnet={subnet:%s}"),
    ):
        names = tuple(f"spos_{net}_{step}_8xb128_in1k" for step in ("supernet", "search", "subnet"))
        plans += _chain(folder, names, (file,), "{epoch}", "epoch_1.pth", given % file if given else "")
    search = "spos_shufflenet_search_predictor_8xb128_in1k"
    options = "--cfg-options {sizes} {evolution} train_cfg.predictor_cfg.train_samples=2 load_from="
    plans.append(
        Plan(
            f"{folder}/{search}", "search", ("SPOS_SUBNET.yaml",),
            Step(
                "train.py", f"{{self}} {options}{{work:spos_shufflenet_supernet_8xb128_in1k}}/epoch_1.pth",
                "best_subnet.pth",
            ),
            Step(
                "train.py",
                "{config:spos_shufflenet_subnet_8xb128_in1k} --cfg-options {sizes} {epoch} "
                "model.init_cfg.checkpoint={work}/best_subnet.pth",
                "epoch_1.pth",
            ),
        )
    )  # fmt: skip
    return plans


def _ofa_1x() -> list[Plan]:
    names = ("ofa_mobilenet_supernet_32xb64_in1k", "ofa_mobilenet_search_8xb128_in1k",
             "ofa_mobilenet_subnet_8xb256_in1k")  # fmt: skip
    files = ("OFA_SUBNET_NOTE8_LAT22.yaml", "OFA_SUBNET_NOTE8_LAT31.yaml")
    return _chain("nas/mmcls/onceforall", names, files, "{epoch}", "epoch_1.pth")


def _autoslim_0x() -> list[Plan]:
    folder, start = "pruning/autoslim", "autoslim_mbv2"
    supernet, search, subnet = (
        f"{start}_{step}_in1k" for step in ("supernet_8xb256", "search_8xb1024", "subnet_8xb256")
    )
    greedy = "--cfg-options {sizes} {greedy}"
    found = "algorithm.channel_cfg={work}/subnet_flops_701M.yaml"
    return [
        Plan(
            f"{folder}/{supernet}", "supernet", MBV2, _train("{epoch}", "epoch_1.pth"),
            Step(
                "mmcls/search_mmcls.py", f"{{config:{search}}} {{work}}/epoch_1.pth {greedy}", "subnet_flops_701M.yaml"
            ),
        ),
        Plan(
            f"{folder}/{search}", "search", MBV2,
            Step(
                "mmcls/search_mmcls.py", f"{{self}} {{work:{supernet}}}/epoch_1.pth {greedy}", "subnet_flops_701M.yaml"
            ),
            Step("mmcls/train_mmcls.py", f"{{config:{subnet}}} --cfg-options {{sizes}} {{epoch}} {found}",
                 "epoch_1.pth"),
        ),
        Plan(
            f"{folder}/{subnet}", "subnet", (), _train("{epoch}", "epoch_1.pth"),
            Step(
                "model_converters/split_checkpoint.py",
                f"{{self}} {{work}}/epoch_1.pth --channel-cfgs {_MBV2_WORDS} --output-dir {{out}}", "checkpoint_3.pth",
            ),
        ),
    ]  # fmt: skip


def _spos_0x() -> list[Plan]:
    folder, plans = "nas/spos", []
    for net, search_net, file in (
        ("shufflenetv2", "shufflenetv2_8xb2048", "SPOS_SUBNET.yaml"),
        ("mobilenet_proxyless_gpu", "mobilenet_proxyless_gpu_flops465_8xb512", ANGLENAS),
    ):
        supernet, subnet = f"spos_supernet_{net}_8xb128_in1k", f"spos_subnet_{net}_8xb128_in1k"
        search = f"spos_evolution_search_{search_net}_in1k"
        evolution = "--cfg-options {sizes} {evolution}"
        found = "algorithm.mutable_cfg={work}/best_subnet.yaml"
        test = Step("mmcls/test_mmcls.py", "{self} {work}/iter_2.pth --cfg-options {sizes}")
        plans += [
            Plan(
                f"{folder}/{supernet}", "supernet", (file,), _train("{iters}", "iter_2.pth"),
                Step("mmcls/search_mmcls.py", f"{{config:{search}}} {{work}}/iter_2.pth {evolution}",
                     "best_subnet.yaml"),
            ),
            Plan(
                f"{folder}/{search}", "search", (file,),
                Step("mmcls/search_mmcls.py", f"{{self}} {{work:{supernet}}}/iter_2.pth {evolution}",
                     "best_subnet.yaml"),
                Step("mmcls/train_mmcls.py", f"{{config:{subnet}}} --cfg-options {{sizes}} {{iters}} {found}",
                     "iter_2.pth"),
            ),
            Plan(f"{folder}/{subnet}", "subnet", (file,), _train("{iters}", "iter_2.pth"), test),
        ]  # fmt: skip
    check = "spos_mobilenet_for_check_ckpt_from_anglenas"
    plans.append(Plan(f"{folder}/{check}", "subnet", (file,), _train("{iters}", "iter_2.pth"), test))
    return plans


PLANS = {"1.x": [*_autoslim_1x(), *_spos_1x(), *_ofa_1x()], "0.x": [*_autoslim_0x(), *_spos_0x()]}
