# What every evolution search of SPOS shares; a config adds constraints_range and the data.
search_cfg = dict(
    type="SearchLoop",
    searcher=dict(
        type="EvolutionSearcher",
        max_epochs=20,
        num_candidates=50,
        top_k=10,
        num_mutation=25,
        num_crossover=25,
        mutate_prob=0.1,
    ),
    score_key="accuracy/top1",
)
