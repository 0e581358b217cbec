# bash ./tools/dist_train.sh configs/nas/tfnas/tfnas_subnet_2xb512_in1k.py 2 --work-dir W2 --amp
# With another network: --cfg-options model.fix_subnet=FILE, or model.init_cfg.checkpoint=W/epoch_90.pth, a search's
# checkpoint, whose network is then trained from the beginning.
# Hardware: 2 GPUs x 256 images, as in "batch 512"; time: not measured here yet.
# Result: 76.87 % top-1 is published for TF-NAS-A, at 8.76 M params and 456.7 M macs.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/schedules/tfnas_retrain.py",
    "../../_base_/runtime.py",
]

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, backend="pillow"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, backend="pillow"),
    dict(type="PackInputs"),
]
model = dict(
    type="sub_model",
    cfg=dict(
        type="ImageClassifier",
        backbone=dict(type="TFNASNet", dropout=0.2, drop_connect=0.2),
        head=dict(
            type="LinearClsHead",
            num_classes=1000,
            in_channels=1280,
            loss=dict(type="LabelSmoothLoss", mode="original", label_smooth_val=0.1, num_classes=1000, loss_weight=1.0),
            topk=(1, 5),
        ),
    ),
    mutator=dict(type="NasMutator"),
    input_shape=(3, 224, 224),
    fix_subnet="{{ fileDirname }}/TFNAS_A.yaml",
    # Empty: trained from scratch.
    init_cfg=dict(type="Pretrained", checkpoint=""),
)
train_dataloader = dict(batch_size=256, dataset=dict(part="all", dataset=dict(pipeline=train_pipeline)))
