"""Faithfulness: whether the network uses what the map shows."""

from .confidence import average_drop as average_drop
from .confidence import increase_in_confidence as increase_in_confidence
from .confidence import sufficiency as sufficiency
from .effects import faithfulness_correlation as faithfulness_correlation
from .effects import faithfulness_estimate as faithfulness_estimate
from .effects import infidelity as infidelity
from .effects import monotonicity_correlation as monotonicity_correlation
from .effects import sensitivity_n as sensitivity_n
from .regions import irof as irof
from .regions import region_perturbation as region_perturbation
from .regions import selectivity as selectivity
from .removal import deletion as deletion
from .removal import insertion as insertion
from .removal import monotonicity as monotonicity
from .removal import pixel_flipping as pixel_flipping
from .road import road as road
