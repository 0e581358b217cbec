_base_ = ["./supernet.py"]

model = dict(norm_training=True)

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
    mutate_prob=0.1,
    constraints_range=dict(flops=(0, 330)),
    score_key="accuracy/top1",
)
