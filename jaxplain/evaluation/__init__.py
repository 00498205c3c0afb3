"""Which explanation is right: methods side by side, over a folder, and what was measured of them.

`compare` shows several methods on a batch, `evaluate` measures them over many images and can be stopped at any time,
`summarize` makes a table of that with confidence intervals, `recommend` ranks what the library's own leaderboard found.
"""

from .compare import Comparison as Comparison
from .compare import compare as compare
from .evaluate import Example as Example
from .evaluate import evaluate as evaluate
from .measures import BETTER as BETTER
from .recommend import Advice as Advice
from .recommend import recommend as recommend
from .records import Records as Records
from .records import open_records as open_records
from .table import Statistic as Statistic
from .table import summarize as summarize
