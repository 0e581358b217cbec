# python ./tools/train.py configs/nas/tfnas/tfnas_search_1xb32_in1k100.py --work-dir W \
#   --cfg-options model.latency_table=latency_gpu.pkl model.target_latency=15.0
# The table: one of the authors' (docs/tfnas.md), or measured here by tools/latency/build_table.py.
# The images: ImageNet's training images and two lists of 100 classes, data/imagenet/meta/in100_{train,val}.txt, one
# "CLASS/NAME.JPEG LABEL" a line; the authors' lists fit, tools/dataset/make_lists.py writes others.
# Hardware: 1 GPU; time: 1.8 days on a Titan RTX as published, not measured here yet.
_base_ = [
    "../../_base_/datasets/imagenet_autoslim.py",
    "../../_base_/models/tfnas.py",
    "../../_base_/schedules/tfnas_search.py",
    "../../_base_/runtime.py",
]

data_preprocessor = dict(num_classes=100)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, backend="pillow"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, backend="pillow"),
    dict(type="PackInputs"),
]
_listed = dict(type="CustomDataset", data_root=_base_.data_root, data_prefix="train")
_images = dict(**_listed, ann_file="meta/in100_train.txt", pipeline=train_pipeline)
_arch = dict(**_listed, ann_file="meta/in100_val.txt", pipeline=_base_.test_pipeline)
_loader = dict(num_workers=4, persistent_workers=True, pin_memory=True)
train_dataloader = dict(
    _delete_=True, batch_size=32, dataset=_images, sampler=dict(type="DefaultSampler", shuffle=True), **_loader
)
_arch_dataloader = dict(batch_size=32, dataset=_arch, sampler=dict(type="DefaultSampler", shuffle=True), **_loader)
val_dataloader = dict(
    _delete_=True, batch_size=32, dataset=_arch, sampler=dict(type="DefaultSampler", shuffle=False), **_loader
)
test_dataloader = val_dataloader
train_cfg = dict(type="PairedTrainLoop", max_epochs=90, val_begin=86, val_interval=1, arch_dataloader=_arch_dataloader)
custom_hooks = [dict(type="ResourceHook"), dict(type="ElasticityHook")]
