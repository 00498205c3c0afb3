"""Where relevance goes, on every architecture: our ledger and completeness next to the peers' sums.

    pip install '.[test]' && JAX_ENABLE_X64=1 python -m benchmarks.conservation

writes `benchmarks/results/conservation.md`. The peers' numbers are those of `benchmarks/peers/conservation.py`, on
torchvision's networks with zero biases, where the sum of relevance must be the logit: sum / logit, or for DeepLIFT
sum / difference. Ours are the largest gap of the ledger over all units, relative to the largest relevance of a unit,
and the relative error of DeepLIFT's completeness, on the small networks of the same architectures in `tests/zoo`,
biases and all.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain import composites
from tests.zoo import BASELINE, IMAGES, SHAPE, TARGETS, ZOO

ROOT = Path(__file__).parents[1]
PEERS = json.loads((ROOT / "benchmarks" / "results" / "peers_conservation.json").read_text())
OUT = ROOT / "benchmarks" / "results" / "conservation.md"
ARCHITECTURES = {
    "VGG": ("vgg", "vgg11_bn"),
    "ResNet, basic": ("resnet_basic", "resnet18"),
    "ResNet, bottleneck": ("resnet_bottleneck", "resnet50"),
    "DenseNet": ("densenet", "densenet121"),
    "Inception": ("inception", "inception_v3"),
    "MobileNetV2": ("mobilenet_v2", "mobilenet_v2"),
    "EfficientNet, squeeze-excite": ("efficientnet", "efficientnet_b0"),
    "RegNet": ("regnet", "regnet_y_400mf"),
    "ConvNeXt": ("convnext", "convnext_tiny"),
    "ShuffleNet": ("shufflenet", "shufflenet_v2_x0_5"),
    "vision transformer": ("vit", "vision_transformer"),
}
PEER_COLUMNS = ("zennit epsilon_plus", "captum LRP", "captum DeepLIFT")


def ours(name):
    """The ledger's largest relative gap under epsilon_plus, and DeepLIFT's relative error."""
    case = ZOO[name]
    table = jaxplain.summary(case.apply, composites.epsilon_plus())(*case.args, target=TARGETS)
    largest = max(abs(row.ledger.relevance_out) for row in table.rows)
    gap = max(abs(table.gap), *(abs(row.ledger.gap) for row in table.rows)) / largest
    maps = jax.jit(jaxplain.deeplift(case.apply, baseline=BASELINE))(*case.args, target=TARGETS)
    score = lambda x: case.apply(case.variables, x)[jnp.arange(len(TARGETS)), TARGETS]
    change = score(IMAGES) - score(jnp.broadcast_to(BASELINE, SHAPE))
    return gap, float(np.abs(maps.sum(axis=(1, 2, 3)) / change - 1).max())


def shown(value):
    return f"{value:.3g}" if isinstance(value, int | float) else "error"


def main():
    versions = ", ".join(f"{name} {version}" for name, version in PEERS["versions"].items())
    lines = [
        f"jaxplain {jaxplain.__version__} with jax {jax.__version__}, {IMAGES.dtype}; {versions}.",
        "",
        "Ours: largest relative gap of the ledger (0 is right), relative error of DeepLIFT's sum (0 is right). Peers:",
        "sum of relevance / logit, sum of DeepLIFT / difference of the logits (1 is right), on bias-free networks.",
        "",
        "| architecture | ledger gap, epsilon_plus | DeepLIFT error | " + " | ".join(PEER_COLUMNS) + " |",
        "|---|---|---|" + "---|" * len(PEER_COLUMNS),
    ]
    for title, (name, peer) in ARCHITECTURES.items():
        peers = [shown(PEERS["networks"][peer][column]["no biases"]) for column in PEER_COLUMNS]
        cells = [title, *(f"{value:.0e}" for value in ours(name)), *peers]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1])
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
