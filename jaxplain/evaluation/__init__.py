"""Which explanation is right: methods side by side, over a folder, and what was measured of them.

`compare` shows several methods on a batch, `evaluate` measures them over many images and can be stopped at any time,
`summarize` makes a table of that with confidence intervals, `recommend` ranks what the library's own leaderboard found.
"""

from ._compare import Comparison, compare
from ._evaluate import Example, evaluate
from ._measures import BETTER, Measure
from ._recommend import Advice, recommend
from ._records import Records, open_records
from ._report import report
from ._table import Statistic, summarize

__all__ = [
    "BETTER",
    "Advice",
    "Comparison",
    "Example",
    "Measure",
    "Records",
    "Statistic",
    "compare",
    "evaluate",
    "open_records",
    "recommend",
    "report",
    "summarize",
]
