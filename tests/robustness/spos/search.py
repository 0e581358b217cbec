# A supernet of 243 subnets, and a search of three epochs; with --cfg-options search_cfg=None it is trained.
_base_ = "../../../configs/nas/spos/spos_evolution_search_digits.py"

_candidates = dict(
    k3=dict(type="MBBlock", kernel_size=3, expand_ratio=1),
    k1=dict(type="MBBlock", kernel_size=1, expand_ratio=1),
    identity=dict(type="Identity"),
)
_stage = [8, 5, 1, dict(type="OneShotMutableOP", candidates=_candidates)]
model = dict(
    architecture=dict(
        backbone=dict(
            _delete_=True, type="SearchableMobileNet", arch_setting=[_stage], first_channels=8, last_channels=32
        ),
        head=dict(in_channels=32),
    )
)
train_dataloader = dict(batch_size=32, dataset=dict(dataset=dict(indices=96)))
train_cfg = dict(max_epochs=4, val_interval=9)
param_scheduler = dict(end=4)
default_hooks = dict(checkpoint=dict(interval=4))
val_dataloader = dict(dataset=dict(indices=20))
test_dataloader = dict(dataset=dict(indices=20))
search_cfg = dict(
    constraints_range=dict(flops=(0, 0.024)),
    searcher=dict(max_epochs=4, num_candidates=6, top_k=2, num_mutation=2, num_crossover=2),
    dataloader=dict(dataset=dict(dataset=dict(indices=100))),
    score_on_trained_images=True,  # of fewer images others are held out
    calibrate_dataloader=dict(dataset=dict(dataset=dict(indices=40))),
    calibrate_sample_num=20,
)
