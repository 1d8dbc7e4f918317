"""The field's published claims, each simulated with its paper's model, GPU, load and latency bound.

`python -m simserve.study.claims` runs all and writes their tables into docs/background/claims.md.
"""
