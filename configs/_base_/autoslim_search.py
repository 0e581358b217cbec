# What every greedy search of AutoSlim shares; a config adds its targets and the data.
search_cfg = dict(searcher=dict(type="GreedySearcher"), score_key="accuracy/top1")
