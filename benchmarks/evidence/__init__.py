"""Which explanation to trust, on which network: what `benchmarks.leaderboard` measures, and what it makes of that.

`subjects`: the networks and their images. `rows`: the methods with their options. `stages`: the metrics.
`statistics`: ranks, intervals, paired comparisons. `pages`: tables and figures.
"""
