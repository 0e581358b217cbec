# The same with images resized by Pillow, as torchvision does it.
_base_ = "./imagenet_bs2048_autoslim.py"

for _loader in (_base_.train_dataloader, _base_.val_dataloader, _base_.test_dataloader):
    _loader.dataset.pipeline[1].backend = "pillow"
del _loader
