"""Which text a carried config may hold: for each argument, the words of a closed set.

A string may be the name of a file, an address, or code, and a class says nowhere what it does with it. So text is
refused but where it is declared here, by the name of the argument; where it is the value that the class itself gives
the argument; or where it names one of the architectures that the class lists.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

_ACTIVATIONS = (
    "ReLU ReLU6 LeakyReLU PReLU ELU CELU SELU GELU SiLU Swish Mish Sigmoid Tanh HSwish HSigmoid Hardswish Hardsigmoid "
    "QuickGELU relu relu6 leaky_relu prelu elu celu selu gelu gelu_tanh silu swish mish sigmoid tanh hard_swish "
    "hard_sigmoid hard_mish hardswish hardsigmoid quick_gelu quick_gelu_tanh swiglu"
)
_NORMS = (
    "BN BN1d BN2d LN LN2d GN IN GRN batchnorm batchnorm2d batchnormact layernorm layernorm2d layernormfp32 groupnorm "
    "groupnorm1 rmsnorm rmsnorm2d simplenorm simplenorm2d frozenbatchnorm2d"
)
_ATTENTIONS = "se ese eca ecam ceca ge gc gca cbam lcbam sk splat bat nl lambda halo swin involution ge+ coord"
_POOLS = "avg max avgmax catavgmax fast fastavg fastmax fastavgmax fastcatavgmax token map avg_map avgmax_map attn att"
_RESIZING = "nearest nearest-exact linear bilinear bicubic trilinear area"
_WORDS = {
    "padding_mode": "zeros reflect replicate circular constant",
    "padding": "same valid corner",
    "pad_type": "same symmetric",
    "mode": f"{_RESIZING} embedded_gaussian gaussian dot_product concatenation original classy_vision mean sum",
    "interpolate_mode": _RESIZING,
    "upsample_mode": _RESIZING,
    "reduction": "none mean sum",
    "order": "conv norm act",
    "out_type": "raw cls_token featmap avg_featmap",
    "style": "pytorch caffe mmrazor official",
    "block_style": "mmrazor official",
    "identity": "conv skip",
    "arch_setting_type": "original proxyless_gpu proxyless_cpu proxyless_mobile fairnas_cpu",
    "arch_setting": _ACTIVATIONS,
    "settings": _ACTIVATIONS,
    "attention_type": "1111 0010 1100 0100 1000 0001 0110",
    "pooling_type": "att avg",
    "fusion_types": "channel_add channel_mul",
    "fusion_mode": "concat add",
    "global_block_type": "None SDTA",
    "graph_conv_type": "mr edge sage gin",
    "similarity_fn": "cosine_similarity",
    "bias": "auto qv_bias",
    "qkv_bias": "auto qv_bias",
    "approximate": "none tanh",
    "act": _ACTIVATIONS,
    "act_layer": _ACTIVATIONS,
    "gate_layer": _ACTIVATIONS,
    "stem_act": _ACTIVATIONS,
    "norm_layer": _NORMS,
    "embed_norm_layer": _NORMS,
    "attn_layer": _ATTENTIONS,
    "se_layer": _ATTENTIONS,
    "aa_layer": "blur blurpool avg avgpool",
    "pool_type": _POOLS,
    "global_pool": _POOLS,
    "stem_type": "deep deep_tiered tiered tiered_s quad quad2 overlap patch 7x7 3x3 one",
    "downsample_type": "avg conv",
    "mlp_type": "mlp convmlp glu",
    "pos_embed": "learn learned none sincos rope rel relpos abs",
    "weight_init": "jax jax_nlhb nlhb moco reset skip",
    "class_token": "",
    "transpose_type": "",
}
WORDS = {name: frozenset(words.split()) for name, words in _WORDS.items()}
_LISTED = ("arch_settings", "arch_zoo", "hr_settings", "arch_setting")  # attributes of classes: architectures by name
_MODEL_NAMES = ("model_name",)  # of timm, by a class that builds it


def is_word(value: str, name: str, builder: Callable[..., Any] | None) -> bool:
    """Whether ``value`` is harmless as the argument ``name`` of what ``builder`` makes, or of something inside it."""
    if value == "" or value in WORDS.get(name, ()):
        return True
    if builder is None:
        return False
    if name in _MODEL_NAMES:
        return _is_timm_name(value)
    return value in _listed(builder, name) or value in _defaults(builder, name)


def _is_timm_name(value: str) -> bool:
    try:
        import timm
    except ImportError:
        return False
    return value.partition(".")[0].isidentifier() and timm.is_model(value)


def _listed(builder: Callable[..., Any], name: str) -> set[str]:
    """The architectures that a class lists: what its arguments ``arch`` and ``depth`` may be."""
    if name not in ("arch", "depth", "backbone_arch"):
        return set()
    tables = (getattr(builder, attribute, None) for attribute in _LISTED)
    return {key for table in tables if isinstance(table, dict) for key in table if isinstance(key, str)}


@lru_cache(maxsize=1024)
def _defaults(builder: Callable[..., Any], name: str) -> frozenset[str]:
    """The text that a class, or one it is derived from, gives the argument itself."""
    return frozenset(_found_defaults(builder, name))


def _found_defaults(builder: Callable[..., Any], name: str) -> Iterator[str]:
    makers = [vars(cls).get("__init__") for cls in builder.__mro__] if inspect.isclass(builder) else [builder]
    for maker in filter(None, makers):
        try:
            parameter = inspect.signature(maker).parameters.get(name)
        except (TypeError, ValueError):
            continue
        default = None if parameter is None else parameter.default
        if isinstance(default, str):
            yield default
        elif isinstance(default, (list, tuple)):
            yield from (item for item in default if isinstance(item, str))
