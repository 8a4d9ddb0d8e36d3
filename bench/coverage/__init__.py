"""Do the 95 % intervals hold? Simulated coverage of the interval of every metric, on fresh distributions, skewed ones too.

``bench coverage`` runs the cases of ``bench.coverage.cases`` and writes their table into ``docs/intervals.md``.
"""
