"""The study of the claims: each algorithm beside its control, trained to the end at a size that a CPU trains.

``python -m benchmarks.claims`` runs it, ``docs/claims.md`` explains it, ``study.yaml`` says what is trained and when a
claim is met. A claim is a module: which jobs there are, and what their figures say.
"""
