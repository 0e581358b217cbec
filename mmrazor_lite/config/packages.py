"""Packages that a class of mmengine or mmpretrain needs beyond those that are installed with this project.

They are looked for before a run reads data or joins other processes; nothing is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from typing import Any

from mmrazor_lite.errors import UserError
from mmrazor_lite.walk import mappings

# Name in a config: (what is imported, what is installed).
NEEDED: dict[str, tuple[str, str]] = {
    "AimVisBackend": ("aim", "aim"),
    "ClearMLVisBackend": ("clearml", "clearml"),
    "DVCLiveVisBackend": ("dvclive", "dvclive"),
    "MLflowVisBackend": ("mlflow", "mlflow"),
    "NeptuneVisBackend": ("neptune", "neptune"),
    "TensorboardVisBackend": ("tensorboard", "tensorboard"),
    "WandbVisBackend": ("wandb", "wandb"),
    "tb_trace": ("torch_tb_profiler", "torch-tb-profiler"),
    "NPUProfilerHook": ("torch_npu", "torch_npu"),
    "TIMMBackbone": ("timm", "timm"),
    "TimmClassifier": ("timm", "timm"),
    "HuggingFaceClassifier": ("transformers", "transformers"),
    **dict.fromkeys(("Albumentations", "Albu", "AlbuKeypoint"), ("albumentations", "albumentations")),
    **dict.fromkeys(("COCOCaption", "NocapsSave"), ("pycocoevalcap", "pycocoevalcap")),
    **dict.fromkeys(("NoCaps", "RefCOCO", "FlamingoEvalCOCOCaption"), ("pycocotools", "pycocotools")),
    "ApexOptimWrapper": ("apex", "apex"),
    **dict.fromkeys(("DAdaptAdaGrad", "DAdaptAdam", "DAdaptSGD"), ("dadaptation", "dadaptation")),
    "Lion": ("lion_pytorch", "lion-pytorch"),
    "Sophia": ("Sophia", "Sophia-Optimizer"),
    "SophiaG": ("Sophia", "Sophia-Optimizer"),
    "Adafactor": ("transformers", "transformers"),
    **{
        f"{name}8bit": ("bitsandbytes", "bitsandbytes")
        for name in "Adagrad Adam AdamW LAMB LARS Lion PagedAdam PagedAdamW PagedLion RMSprop SGD".split()
    },
    "ColossalAIStrategy": ("colossalai", "colossalai"),
    "DeepSpeedStrategy": ("deepspeed", "deepspeed"),
    "petrel": ("petrel_client", "petrel-oss-sdk"),
    "lmdb": ("lmdb", "lmdb"),
}


def missing(name: Any) -> str | None:
    """Return what to say of a ``type`` whose package is not installed, for the end of a line; else None."""
    module, package = NEEDED.get(str(name).rpartition(".")[2], ("", ""))
    if not module or _is_installed(module):
        return None
    return f"needs the package '{package}', which is not installed: pip install {package}, or take it out of the config"


def check(cfg: Mapping, source: str, without: Collection[str] = ()) -> None:
    """Raise :class:`UserError` for the first class whose package is missing.

    Args:
        cfg: The config.
        source: Names it.
        without: Top-level sections that this command does not build.
    """
    for key, section in cfg.items():
        if key not in (*without, "vis_backends") and not str(key).startswith("_"):  # those of the visualizer count
            for where, node in mappings(section, str(key)):
                _check(node, where, source)


def _check(node: Mapping, where: str, source: str) -> None:
    for key in ("type", "backend"):
        if isinstance(node.get(key), str) and (text := missing(node[key])):
            raise UserError(f"{source}: {where}.{key}={node[key]!r} {text}")
    kind = node.get("type")
    if isinstance(kind, str) and kind.startswith("timm.") and not _is_installed("timm"):
        raise UserError(f"{source}: {where}.type={kind!r} needs the package 'timm': pip install timm")


def _is_installed(module: str) -> bool:
    """Whether there is a package of this name; a folder of its files, such as ``./wandb``, is none."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None
