"""Every test runs with 64-bit types allowed and silent rank promotion forbidden."""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
