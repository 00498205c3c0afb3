"""What to do about networks that are not ready to be explained."""

INFERENCE = (
    "by train=False or deterministic=True in Flax Linen and Haiku, for example functools.partial(model.apply, "
    "train=False), by model.eval() in Flax NNX, by eqx.nn.inference_mode(model) or key=None in Equinox, by "
    "training=False in Keras"
)
EXPLAIN_INSIDE = (
    "it seems to be an nnx.jit, which writes all variables back: explain the function inside it, and put jax.jit or "
    "nnx.jit around the explanation"
)
