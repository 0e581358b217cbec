# SPOS's schedule in epochs, for small data on a CPU; a config sets how many.
_base_ = "./spos_8xb128.py"

param_scheduler = dict(by_epoch=True, end=15, convert_to_iter_based=True)
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=15, val_interval=15)
