"""Agreement with pytorch-grad-cam 1.5.7, on the numbers that `benchmarks/peers/cam_metrics.py` stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics
from tests.close import within
from tests.networks import peer_numbers

PEERS, SHARED = peer_numbers("cam_metrics.npz")
MODULE, VARIABLES, OWN = PEERS["residual"]
X, TARGETS, MAPS = (jnp.asarray(SHARED[key]) for key in ("images", "targets", "maps"))
close = within(1e-6)


@pytest.mark.parametrize("of", ["output", "probability"])
def test_road(of):
    """What is stored is how far the score rises above that of the image."""
    options = {"percentages": SHARED["percentages"].tolist(), "of": of, "noise": 0.0}

    @jax.jit
    def measure(variables, x):
        orders = [metrics.road(MODULE.apply, order=order, **options) for order in ("morf", "lerf")]
        made = [*orders, metrics.road_combined(MODULE.apply, **options)]
        score = jaxplain.scores(lambda x: MODULE.apply(variables, x), x, TARGETS, of=of)(x)
        return score, [metric(variables, x, attribution=MAPS, target=TARGETS) for metric in made]

    score, (morf, lerf, combined) = measure(VARIABLES, X)
    for ours, name in ((morf - score, "morf"), (lerf - score, "lerf"), (combined, "combined")):
        close(ours, OWN[f"road/{name}/{of}"])


def test_adcc():
    explain = jaxplain.grad_cam(MODULE.apply, "relu1")
    maps = explain(VARIABLES, X, target=TARGETS)
    assert (maps.min(axis=(1, 2)) <= 0).all()  # so that scaling by the largest value is that of the library
    drop = metrics.average_drop(MODULE.apply)(VARIABLES, X, attribution=maps, target=TARGETS)
    close(drop, OWN["drop"])
    parts = np.stack([1 - OWN["drop"], OWN["coherency"], 1 - OWN["complexity"]])
    close(jax.jit(metrics.adcc(explain))(VARIABLES, X, target=TARGETS), 3 / (1 / parts).sum(axis=0))
