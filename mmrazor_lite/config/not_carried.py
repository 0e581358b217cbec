"""What MMRazor and the other OpenMMLab projects have and this one has not: names of classes, packages and configs.

Facts of open-mmlab/mmrazor: branch main at 90c7af1, branch 0.x, and the release candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmrazor_lite.errors import UserError, short
from mmrazor_lite.walk import mappings

CARRIED = "carried are AutoSlim, SPOS, OFA/BigNAS, TF-NAS; see docs/migration.md"
PACKAGES = {
    "mmdet": "object detection",
    "mmdet3d": "3D object detection",
    "mmseg": "semantic segmentation",
    "mmsegmentation": "semantic segmentation",
    "mmpose": "pose estimation",
    "mmyolo": "object detection",
    "mmrotate": "object detection",
    "mmtrack": "object tracking",
    "mmocr": "text recognition",
    "mmaction": "video recognition",
    "mmaction2": "video recognition",
    "mmagic": "image generation",
    "mmedit": "image generation",
    "mmgen": "image generation",
    "mmflow": "optical flow",
    "mmfewshot": "few-shot learning",
    "mmhuman3d": "body models",
    "mmdeploy": "deployment by backends",
}
DISTILLATION = "distillation from another network"
QUANTIZATION = "quantization"
L1_NORM = "pruning by L1 norm"
# Of MMRazor: what the classes are for, what to write instead where there is something, and their names.
_CLASSES: tuple[tuple[str, str, str], ...] = (
    ("AutoFormer", "", "Autoformer AutoformerBackbone DynamicPatchEmbed DynamicLayerNorm"),
    (
        "MMRazor's form of the spaces of BigNAS and Once-for-All",
        "backbone=dict(type='OFAMobileNetV3'), as in configs/nas/mmcls/onceforall",
        "AttentiveMobileNetV3 BigNasConv2d",
    ),
    ("CHEX", "", "ChexAlgorithm ChexConv2Counter ChexHook ChexLinearCounter ChexMutator ChexUnit"),
    (
        "DARTS",
        "",
        "Darts DartsBackbone DartsDDP DartsDilConv DartsEpochBasedTrainLoop DartsIterBasedTrainLoop DartsMutator "
        "DartsPoolBN DartsSepConv DartsSkipConnect DartsSubnetClsHead DartsZero DiffChoiceRoute DiffModuleMutator "
        "DiffMutableOP DifferentiableEdge DifferentiableMutator DifferentiableOP DropPathProbHook GumbelChoiceRoute "
        "GumbelEdge GumbelOP",
    ),
    ("DCFF", "", "DCFF DCFFChannelMutator DCFFChannelUnit FuseConv2d"),
    ("DetNAS", "", "DetNAS MMDetArchitecture"),
    (
        "DMCP",
        "",
        "DMCP DMCPBatchNorm2d DMCPBatchNorm2dCounter DMCPChannelMutator DMCPChannelUnit DMCPDDP DMCPSubnetHook",
    ),
    ("DSNAS", "", "DSNAS DSNASDDP OneHotMutableOP"),
    (
        "group Fisher pruning",
        "",
        "GroupFisherAlgorithm GroupFisherChannelMutator GroupFisherChannelUnit GroupFisherConv2dCounter GroupFisherDDP "
        "GroupFisherLinearCounter PruningStructureHook",
    ),
    ("networks pruned by group Fisher or L1 norm", "", "GroupFisherDeploySubModel GroupFisherSubModel"),
    (L1_NORM, "", "ItePruneAlgorithm ItePruneValLoop L1MutableChannelUnit ChannelMutator"),
    (
        DISTILLATION,
        "",
        "ABLoss ATLoss ActivationLoss AlignMethodDistill AngleWiseRKD BYOTConnector BYOTDistiller CRDConnector "
        "CRDDataset CRDLoss ChannelWiseDivergence ConvModuleConnector DAFLDataFreeDistillation DAFLGenerator DISTLoss "
        "DKDLoss DataFreeDistillation DistanceWiseRKD FBKDLoss FBKDStudentConnector FBKDTeacherConnector FTLoss "
        "FpnTeacherDistill FunctionInputsRecorder FunctionOutputsDelivery FunctionOutputsRecorder GeneralDistill "
        "InformationEntropyLoss KDSoftCELoss L1Loss L2Loss MGDConnector MGDLoss MethodInputsRecorder "
        "MethodOutputsDelivery MethodOutputsRecorder ModuleInputsRecorder ModuleOutputsRecorder NormConnector "
        "OFDDistiller OFDLoss OFDTeacherConnector OnehotLikeLoss OverhaulFeatureDistillation PKDLoss PackCRDClsInputs "
        "ParameterRecorder Paraphraser RazorVisualizationHook SelfDistill SelfDistillValLoop SingleTeacherDistill "
        "SingleTeacherDistillValLoop SingleTeacherDistiller StopDistillHook TorchFunctionalConnector TorchNNConnector "
        "Translator WSLD ZSKTGenerator",
    ),
    ("a distiller of its own", "distiller=dict(type='KLDivergence', tau=1.0)", "ConfigurableDistiller SelfDistiller"),
    (
        QUANTIZATION,
        "",
        "AcademicQuantizer FastStopTrainingHook LSQEpochBasedLoop LSQObserver LSQPerChannelObserver "
        "LearnableFakeQuantize MMArchitectureQuant MMArchitectureQuantDDP OpenVINOQuantizer PTQLoop QATEpochBasedLoop "
        "QATValLoop TensorRTQuantizer TorchNativeQuantizer",
    ),
    (
        "predictors inside a search",
        "train one with tools/predictor/train.py and name it as search_cfg.predictor",
        "MetricPredictor CartsHandler GaussProcessHandler MLPHandler RBFHandler",
    ),
    (
        "a class of slimmable networks",
        "model=dict(type='AutoSlim', channel_cfg=[...]) trains several subnets together, SubnetValLoop tests them",
        "SlimmableNetwork SlimmableChannelMutator SlimmableChannelUnit SlimmableValLoop",
    ),
    (
        "a class around its choices",
        "the mutators are OneShotChannelMutator for widths and NasMutator for the rest",
        "BaseMutator DynamicBatchNorm1d DynamicBatchNorm2d DynamicBatchNorm3d DynamicConv2d DynamicInputResizer "
        "DynamicLinearClsHead GreedySamplerTrainLoop MutableChannelContainer MutableValue OFAConv2d "
        "OneShotMutableChannelUnit OneShotMutableValue OneShotMutator OneShotOP OneShotProbMutableOP RatioPruner "
        "SequentialMutableChannelUnit SimpleMutableChannel SquentialMutableChannel StructurePruner ValueMutator",
    ),
    (
        "a class around the model",
        "give mmpretrain's ImageClassifier",
        "BaseAlgorithm MMClsArchitecture MMSegArchitecture SearchableImageClassifier",
    ),
    (
        "a form of its own of a class of mmpretrain's or mmengine's",
        "the name without 'mmrazor.'",
        "AutoAugment CrossEntropyLoss DeiTClsHead DistSamplerSeedHook",
    ),
    ("the AttentiveNAS space of BigNAS", "", "SqueezeMeanPoolingWithDropout"),
    ("a layer of other networks", "", "ConvBNReLU ConvBnAct DepthwiseSeparableConv"),
    ("a head without bias", "BiasFreeLinearClsHead", "LinearNoBiasClsHead"),
    ("a backbone for CIFAR", "CifarWideResNet, with depth and widen_factor", "WideResNet"),
    (
        "a way to look into a model",
        "models are traced by torch.export, without options",
        "BackwardTracer BaseDemoInput CascadeEncoderDecoderPseudoLoss ChannelAnalyzer CustomTracer DefaultDemoInput "
        "DefaultMMClsDemoInput DefaultMMDemoInput DefaultMMDetDemoInput DefaultMMPoseDemoInput "
        "DefaultMMRotateDemoInput DefaultMMSegDemoInput DefaultMMYoloDemoInput ImageClassifierPseudoLoss "
        "SingleStageDetectorPseudoLoss SumPseudoLoss TopdownPoseEstimatorPseudoLoss TwoStageDetectorPseudoLoss",
    ),
    (
        "a counter of costs",
        "costs come from the trace, without options",
        "AdaptiveAvgPool1dCounter AdaptiveAvgPool2dCounter AdaptiveAvgPool3dCounter AdaptiveMaxPool1dCounter "
        "AdaptiveMaxPool2dCounter AdaptiveMaxPool3dCounter AvgPool1dCounter AvgPool2dCounter AvgPool3dCounter "
        "BaseEstimator BatchNorm1dCounter BatchNorm2dCounter BatchNorm3dCounter Conv1dCounter Conv2dCounter "
        "Conv3dCounter ConvTranspose2dCounter CustomModuleCounter DynamicConv2dCounter DynamicLinearCounter ELUCounter "
        "GroupNormCounter InstanceNorm1dCounter InstanceNorm2dCounter InstanceNorm3dCounter LayerNormCounter "
        "LeakyReLUCounter LinearCounter MaxPool1dCounter MaxPool2dCounter MaxPool3dCounter PReLUCounter "
        "ReLU6Counter ReLUCounter ResourceEstimator UpsampleCounter",
    ),
    (
        "a report of costs or of a subnet",
        "ResourceHook, and every checkpoint carries its subnet",
        "DumpSubnetHook EstimateResourcesHook ResourceInfoHook SearchSubnetHook",
    ),
    (
        "a transform of its own",
        "mmpretrain has those of the same name without V2, as AutoAugment and RandAugment",
        "AutoAugmentOp AutoAugmentV2 AutoContrastV2 BrightnessV2 Color ContrastV2 EqualizeV2 InvertV2 PosterizeV2 "
        "RotateV2 SharpnessV2 ShearX ShearY SolarizeAddV2 SolarizeV2 TranslateX TranslateXRel TranslateY TranslateYRel",
    ),
    (
        "a loop or wrapper of several data loaders",
        "one wrapper, SubnetDDP, is for all algorithms",
        "AutoSlimDDP BigNASDDP DistributedDataParallelWrapper MultiLoaderEpochBasedRunner MultiLoaderIterBasedRunner "
        "SlimmableNetworkDDP",
    ),
)
# Models of the other projects, as configs name them without a scope.
_MODELS_ELSEWHERE = {
    "mmdet": "ATSS CascadeRCNN CenterNet DETR DeformableDETR FCOS FasterRCNN GFL MaskRCNN RTMDet RepPointsDetector "
    "RetinaNet SSD SingleStageDetector TwoStageDetector YOLOV3 YOLOX",
    "mmdet3d": "FCOSMono3D PointPillars VoxelNet",
    "mmseg": "CascadeEncoderDecoder EncoderDecoder SegDataPreProcessor",
    "mmpose": "BottomupPoseEstimator TopdownPoseEstimator",
}
_OF_MANY = ("L1Loss",)  # what a name is when it stands alone is of more than one project
_KEYS_ELSEWHERE = dict.fromkeys(("deploy_cfg", "onnx_config", "codebase_config", "backend_config"), "mmdeploy")
# What may also be a helper variable: refused where nothing reads it.
_MAYBE_ELSEWHERE = {
    **dict.fromkeys("class_names db_sampler input_modality point_cloud_range voxel_size".split(), "mmdet3d"),
    **dict.fromkeys("codec dataset_info".split(), "mmpose"),
    **dict.fromkeys("albu_train_transforms img_scales".split(), "mmyolo"),
    "dictionary": "mmocr",
}


@cache
def _purposes() -> dict[str, tuple[str, str]]:
    return {name: (what, instead) for what, instead, names in _CLASSES for name in names.split()}


def purpose_of(name: str) -> tuple[str, str] | None:
    """Return what MMRazor's class of this name is for, and what to write instead; None of any other name."""
    scope, _, bare = name.rpartition(".")
    if scope not in ("", "mmrazor", "mmrazor_lite", "mmcls", "mmpretrain") or name in _OF_MANY:
        return None
    return _purposes().get(bare)


def package_of(name: str) -> str | None:
    """Return the other project that a class is of: by its scope, of which ``"mmdet."`` is one, or as a known model."""
    scope, _, bare = name.rpartition(".")
    package = scope.partition(".")[0]
    if package in PACKAGES:
        return package
    return next((found for found, names in _MODELS_ELSEWHERE.items() if not scope and bare in names.split()), None)


def reason(name: Any) -> str | None:
    """Return why the class of a ``type`` is not here, for the end of a line; None where nothing is known of it."""
    bare = str(name).rpartition(".")[2]
    if package := package_of(str(name)):
        of = f"with {package} ({bare})" if bare == name else f"({package})"
        return f"not carried: {PACKAGES[package]} {of}; {CARRIED}"
    if (found := purpose_of(str(name))) is None:
        return None
    what, instead = found
    if instead:
        return f"not carried: {bare} ({what}); instead: {instead}; {CARRIED}"
    return f"not carried: {what}{f' ({bare})' if bare.lower() != what.lower() else ''}; {CARRIED}"


def reason_of_key(key: str) -> str | None:
    """Return what a top-level key that nothing reads is for in another project; None where nothing is known of it."""
    if key in ("tta_model", "tta_pipeline"):
        return f"not carried: several views of an image at test time; remove it; {CARRIED}"
    package = _MAYBE_ELSEWHERE.get(key)
    return package and f"not carried: {PACKAGES[package]} ({package}); {CARRIED}"


def check(cfg: Mapping, source: str, known: Callable[[Any], Any], free: Collection[str] = ()) -> None:
    """Raise :class:`UserError` where a config is of something that is not carried: the model first, then any class.

    Args:
        cfg: The config as it was read.
        source: Names it.
        known: Whether a name is registered; what is needs no excuse.
        free: Keys whose content is not looked at.
    """
    for key, package in _KEYS_ELSEWHERE.items():
        if key in cfg:
            raise UserError(f"{source}: {key}: not carried: {PACKAGES[package]} ({package}); {CARRIED}")
    scope = cfg.get("default_scope")
    if isinstance(scope, str) and scope in PACKAGES:
        raise UserError(f"{source}: default_scope is '{scope}': not carried: {PACKAGES[scope]}; {CARRIED}")
    model = cfg.get("model") or cfg.get("algorithm")
    cfg = {key: part for key, part in cfg.items() if not reason_of_key(key)}  # one that nothing reads has its own line
    for where, node in mappings({"model": model, **cfg}, "", free):
        name = node.get("type")
        if isinstance(name, str) and (text := reason(name)) and not known(name):
            raise UserError(f"{source}: {where}: {text}")
        scope = node.get("_scope_")
        if isinstance(scope, str) and scope in PACKAGES:
            raise UserError(f"{source}: {where}._scope_: {reason(scope + '.')}")
        if not isinstance(scope, (str, type(None))):
            raise UserError(f"{source}: {where}._scope_={short(scope)}: give the name of a scope, such as 'mmpretrain'")


def same_here(path: str) -> str:
    """Return the folder of configs that has what a config file of MMRazor's is named after."""
    start = Path(path).stem.partition("_")[0]
    return {"autoslim": "configs/pruning/autoslim", "spos": "configs/nas/spos", "detnas": "configs/nas/spos"}.get(
        start, "configs/nas/mmcls/onceforall" if start == "ofa" else "configs"
    )
