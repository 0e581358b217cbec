"""Scripts of MMRazor's that have nothing to do here: each says in one line what to type instead.

They stand in ``tools/`` under their names, because people have them in their scripts and in their fingers.
"""

from __future__ import annotations

import sys

from mmrazor_lite.config.not_carried import CARRIED, L1_NORM, PACKAGES, QUANTIZATION

_ELSEWHERE = f"not carried: {{}}; {CARRIED}"
_WHOLE = (
    "a file of tools/model_converters/split_checkpoint.py or of tools/specialize.py holds its weights and what they are"
)
ANSWERS = {  # the script below tools/: what to type, or why there is nothing
    "pruning/get_static_model_from_algorithm.py": (
        f"not needed: {_WHOLE}; of jointly trained widths: python tools/model_converters/split_checkpoint.py CONFIG "
        "CKPT --channel-cfgs FILE"
    ),
    "pruning/get_channel_units.py": "type python tools/analyze.py CONFIG: what can be slimmed, and what stays and why",
    "visualizations/vis_scheduler.py": "not here: learning rates are in the log of a run, vis_data/scalars.json",
    "model_converters/convert_attentivenas_nas_ckpt.py": _ELSEWHERE.format("the AttentiveNAS space of BigNAS"),
    "model_converters/convert_bignas_gml_ckpt.py": _ELSEWHERE.format("the AttentiveNAS space of BigNAS"),
    "model_converters/convert_kd_ckpt.py": "not needed: files of 0.x are read under their own names",
    "model_converters/convert_kd_ckpt_to_student.py": (
        "not needed: of a file with student and teacher the student is read; tools/model_converters/publish_model.py "
        "CKPT OUT writes the weights without the rest of a training"
    ),
    "model_converters/convert_quant_ckpt.py": _ELSEWHERE.format(QUANTIZATION),
    "ptq.py": _ELSEWHERE.format(QUANTIZATION),
    "pruning/get_l1_prune_config.py": _ELSEWHERE.format(L1_NORM),
    "visualizations/feature_visualization.py": _ELSEWHERE.format("pictures of features"),
    "visualizations/feature_diff_visualization.py": _ELSEWHERE.format("pictures of features"),
    **{
        f"{package}/{step}_{package}.py": _ELSEWHERE.format(f"{PACKAGES[package]} ({package})")
        for package, steps in (("mmdet", ("train", "search", "test")), ("mmseg", ("train", "test")))
        for step in steps
    },
}


def answer(script: str) -> int:
    """Print what to type instead of a script, which is given by its path below ``tools/``; return the exit status."""
    print(f"error: tools/{script}: {ANSWERS[script]}", file=sys.stderr)
    return 2
