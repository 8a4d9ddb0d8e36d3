"""Metrics on trial: does each metric get worse when real data are corrupted, and how little corruption does it notice?

``bench sanity`` runs the stages of ``bench.sanity.stages`` and writes a card for every metric into ``docs/sanity.md``.
"""
