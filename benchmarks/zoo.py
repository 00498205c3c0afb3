"""Networks that nobody here wrote, small inputs for them, and where their features are.

``NETWORKS[name]()`` makes one, or raises ImportError where its library is not there. `pip install '.[zoo]'` brings
dm-haiku, Keras and Equimo. Others are not on PyPI, and are used where they can be imported: jax-ml/bonsai (the clone's
folder on `PYTHONPATH`) and Flax's own ImageNet example (the folder of `examples/imagenet/models.py`, likewise). The
last Flax models of transformers are in its versions before 5.

Every network is as deep and as wide as its library makes it, with 10 classes. Its weights are drawn, and varied, so
that no bias is 0, no scale 1 and no residual branch without effect, as they are before training; they and the images
are of 64 bits, so that an equation that does not hold is told from rounding.
"""

import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A network with its weights.

    Attributes:
      apply: ``apply(context, x) -> logits (N, 10)``.
      context: its weights.
      package: the distribution that it comes from.
      shape: of one image.
      layer: where its features are; None for the last feature map of a convolution.
      grid: rows and columns, where the features are tokens.
      relu: the modules through whose ``relu`` all that is not linear or a maximum goes; none where there is more.
    """

    apply: Callable[..., jax.Array]
    context: Any
    package: str
    shape: tuple[int, int, int] = (64, 64, 3)
    layer: str | None = None
    grid: tuple[int, int] | None = None
    relu: tuple[str, ...] = ()

    @functools.cached_property
    def images(self):
        return jax.random.normal(jax.random.key(1), (2, *self.shape), jnp.float64)


def varied(tree):
    """Weights of 64 bits; those that are all the same, as before training, with noise."""
    draw = np.random.default_rng(2)

    def vary(leaf):
        values = np.asarray(leaf)
        if not np.issubdtype(values.dtype, np.floating):
            return leaf
        constant = values.size and values.min() == values.max()
        return jnp.asarray(values + draw.uniform(-0.2, 0.2, values.shape) if constant else values, jnp.float64)

    return jax.tree.map(vary, tree)


# -------------------------------------------------------------------------------------------------------------- bonsai


def of_bonsai(model, call=lambda model, x: model(x), **options):
    from flax import nnx

    graph, state = nnx.split(model)
    apply = lambda state, x: call(nnx.merge(graph, state), x)
    return Network(apply, varied(state), "bonsai", **options)


def bonsai_resnet50():
    from bonsai.models.resnet import modeling
    from flax import nnx

    model = modeling.ResNet(modeling.ModelConfig.resnet50(CLASSES), rngs=nnx.Rngs(0))
    return of_bonsai(model, relu=("flax.nnx",))


def bonsai_convnext():
    from bonsai.models.convnext import modeling
    from flax import nnx

    model = modeling.ConvNeXt(modeling.ModelConfig.convnext_tiny_224(num_classes=CLASSES), rngs=nnx.Rngs(0))
    return of_bonsai(model, lambda model, x: model(x, rngs=None))


def bonsai_vit():
    import dataclasses

    from bonsai.models.vit import modeling
    from flax import nnx

    config = dataclasses.replace(modeling.ModelConfig.vit_p16_224(), image_size=(64, 64), num_labels=CLASSES)
    model = modeling.ViTClassificationModel(config, rngs=nnx.Rngs(0))
    return of_bonsai(model, lambda model, x: model(x, rngs=None), layer="layers/10", grid=(4, 4))


# ------------------------------------------------------------------------------------------------- Flax's own example


def flax_resnet50():
    import flax.linen as nn
    import models  # examples/imagenet

    module = models.ResNet50(num_classes=CLASSES, dtype=jnp.float64, act=lambda x: nn.relu(x))
    variables = module.init(jax.random.key(0), jnp.ones((1, 64, 64, 3)), train=False)
    return Network(
        functools.partial(module.apply, train=False), varied(variables), "flax", relu=("flax.linen", "jax.nn")
    )


# ---------------------------------------------------------------------------------------------------------------- Keras


def keras_application(name):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    shape = (SIZES.get(name, 64),) * 2 + (3,)
    options = {} if name in RELUS else {"include_preprocessing": False}
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None, **options)

    def apply(context, x):
        return model.stateless_call(*context, x, training=False)[0]

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the averages become those of the next batch; with 0 and 1, signals fade
    trained, state = ([v.value for v in each] for each in (model.trainable_variables, model.non_trainable_variables))
    trained, x = varied(trained), jax.random.normal(jax.random.key(1), (8, *shape), jnp.float64)
    _, state = jax.jit(lambda state: model.stateless_call(trained, state, x, training=True))(state)
    context = trained, varied(state)
    return Network(apply, context, "keras", shape, relu=("jax.nn",) if name in RELUS else ())


RELUS = ("VGG16", "ResNet50V2", "DenseNet121", "InceptionV3", "Xception", "NASNetMobile")
APPLICATIONS = ("MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny", *RELUS)
SIZES = {"InceptionV3": 107, "Xception": 71}  # less, and their features have one position, or they refuse


# ---------------------------------------------------------------------------------------------------------------- Haiku


def of_haiku(name):
    import haiku as hk

    make = getattr(hk.nets, name)
    network = hk.without_apply_rng(hk.transform_with_state(lambda x, training: make(num_classes=CLASSES)(x, training)))
    x = jax.random.normal(jax.random.key(1), (8, 64, 64, 3))
    params, state = network.init(jax.random.key(0), x, True)
    _, state = network.apply(params, state, x, True)  # before, the averages of BatchNorm are 0, the variance's as well
    apply = lambda variables, x: network.apply(variables["params"], variables["state"], x, False)[0]
    return Network(apply, varied({"params": params, "state": state}), "dm-haiku", relu=("jax.nn",))


# --------------------------------------------------------------------------------------------------------------- Equimo


def of_equimo(module, name, options=None, **where):
    import equinox as eqx

    make = getattr(importlib.import_module(f"equimo.vision.models.{module}"), name)
    model = make(key=jax.random.key(0), num_classes=CLASSES, **(options or {}))
    arrays, rest = eqx.partition(eqx.nn.inference_mode(model), eqx.is_array)

    def apply(arrays, x):
        model = eqx.combine(arrays, rest)
        return jax.vmap(lambda x: model(x, key=jax.random.key(0), inference=True))(x)

    return Network(apply, varied(arrays), "equimo", (3, 64, 64), **where)


# --------------------------------------------------------------------------------------------------------- transformers


def of_transformers(name, options=None, **where):
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **(options or {}))
    kind = getattr(transformers, f"Flax{name}ForImageClassification")
    model = kind(config, input_shape=(1, 64, 64, 3), dtype=jnp.float64)
    apply = lambda params, x: model(x, params=params, train=False).logits
    return Network(apply, varied(model.params), "transformers", (3, 64, 64), **where)


NETWORKS = {
    "bonsai ResNet50": bonsai_resnet50,
    "bonsai ConvNeXt": bonsai_convnext,
    "bonsai ViT": bonsai_vit,
    "flax example ResNet50": flax_resnet50,
    **{f"keras {name}": functools.partial(keras_application, name) for name in APPLICATIONS},
    **{f"haiku {name}": functools.partial(of_haiku, name) for name in ("ResNet18", "ResNet50", "MobileNetV1")},
    "equimo MobileNetV3": functools.partial(of_equimo, "mobilenet", "mobilenetv3_small"),
    "equimo ConvNeXt": functools.partial(of_equimo, "convnext", "convnext_atto"),
    "equimo ViT": functools.partial(
        of_equimo, "vit", "vit_tiny_patch16_224", {"img_size": 64}, layer="blocks/0/blocks/10", grid=(4, 4)
    ),
    "transformers ResNet": functools.partial(of_transformers, "ResNet"),
    "transformers RegNet": functools.partial(of_transformers, "RegNet"),
    "transformers ViT": functools.partial(
        of_transformers, "ViT", {"image_size": 64}, layer="vit/encoder/layer/10", grid=(4, 4)
    ),
}
