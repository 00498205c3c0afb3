"""All relevance is accounted for, and DeepLIFT is complete, on every network of the zoo."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites, rules
from tests.zoo import BASELINE, IMAGES, SHAPE, TARGETS, ZOO

COMPOSITES = {"epsilon": composites.uniform(rules.epsilon()), "epsilon_plus": composites.epsilon_plus()}


def every_network(also, options):
    """Every network, every option."""
    return pytest.mark.parametrize(("name", also), list(itertools.product(ZOO, options)))


@every_network("composite", ["epsilon_plus", "epsilon"])
def test_the_ledger_closes(name, composite):
    case = ZOO[name]
    table = jaxplain.summary(case.apply, COMPOSITES[composite])(*case.args, target=TARGETS)
    for row in table.rows:
        assert abs(row.ledger.gap) < 1e-6 * max(1, *map(abs, row.ledger)), (row.unit.kind, row.unit.place, row.ledger)
    start = jnp.take_along_axis(case.logits, TARGETS[:, None], axis=1).sum()
    assert table.start == pytest.approx(float(start), rel=1e-9)
    assert abs(table.gap) < 1e-6 * max(1, *(abs(row.ledger.relevance_out) for row in table.rows))


@pytest.mark.parametrize("name", ["efficientnet", "linen_scan_remat"])
def test_the_ledger_is_that_of_the_map(name):
    case = ZOO[name]
    table = jaxplain.summary(case.apply, composites.epsilon_plus())(*case.args, target=TARGETS)
    maps = jax.jit(jaxplain.lrp(case.apply, composites.epsilon_plus()))(*case.args, target=TARGETS)
    assert table.total == pytest.approx(float(maps.sum()), abs=1e-12 * float(jnp.abs(maps).sum()))


@every_network("rule", ["rescale", "reveal_cancel"])
def test_deeplift_is_complete(name, rule):
    case = ZOO[name]
    explain = jaxplain.deeplift(case.apply, baseline=BASELINE, rule=rule)
    if name == "cond_on_input":
        with pytest.raises(ValueError, match=r"`cond` .* decided by the explained input"):
            explain(*case.args, target=TARGETS)
        return
    total = jax.jit(explain)(*case.args, target=TARGETS).sum(axis=(1, 2, 3))
    change = case.logits - jax.jit(case.apply)(case.variables, jnp.broadcast_to(BASELINE, SHAPE))
    np.testing.assert_allclose(total, change[jnp.arange(len(IMAGES)), TARGETS], rtol=1e-9)
