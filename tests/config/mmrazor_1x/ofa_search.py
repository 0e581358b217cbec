_base_ = "./ofa_supernet.py"

train_cfg = dict(
    _delete_=True,
    type="mmrazor.EvolutionSearchLoop",
    dataloader=_base_.val_dataloader,
    evaluator=_base_.val_evaluator,
    max_epochs=1,
    num_candidates=2,
    top_k=1,
    num_mutation=1,
    num_crossover=1,
    calibrate_sample_num=32,
    constraints_range=dict(flops=(0.0, 700.0)),
    predictor_cfg=dict(
        type="mmrazor.MetricPredictor", train_samples=20, handler_cfg=dict(type="mmrazor.GaussProcessHandler")
    ),
    score_key="accuracy/top1",
)
