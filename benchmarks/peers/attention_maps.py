"""Make `tests/data/attention_maps.npz`: two maps of attentions by their authors' own code, in float64.

    git clone https://github.com/hila-chefer/Transformer-MM-Explainability
    pip install '.[benchmark]' && pip install --no-deps legrad_torch==1.1 open_clip_torch==2.23.0 timm==1.0.9
    pip install einops ftfy huggingface_hub matplotlib opencv-python-headless regex
    python benchmarks/peers/attention_maps.py Transformer-MM-Explainability

* `chefer/...`: the functions of the notebook for ViT (rules 5 and 6 of the paper of ICCV 2021), of a small
  `torchvision.models.VisionTransformer` whose attentions tell their weights: the class token's row, one example at a
  time, as the notebook has it, not scaled.
* `legrad/...`: `legrad.LeWrapper` on a small CLIP of OpenCLIP, all its blocks, for two texts. Its score is the cosine
  of the text with the mean of all tokens, LayerNorm and projection behind it, not with CLIP's own feature. Its map is
  enlarged bilinearly and scaled to [0, 1] for each text.

Their calls of `cuda` do nothing here. The tests read the numbers; only this script needs PyTorch.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import torch
from legrad import LeWrapper
from torch import nn
from torchvision.models import VisionTransformer

OUT = Path(__file__).parents[2] / "tests" / "data" / "attention_maps.npz"
NOTEBOOK = "Transformer_MM_explainability_ViT.ipynb"
TARGETS = [2, 1]
VIT = {"image_size": 16, "patch_size": 4, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}
CLIP = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "layers": 3, "width": 8, "head_width": 4, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 4, "vocab_size": 5, "width": 8, "heads": 2, "layers": 1},
}


def stir(network):
    """All weights far from their initial values, attention that is not uniform."""
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        drawn = torch.randn(value.shape, dtype=torch.float64, generator=generator)
        scale = 1.5 / value[0].numel() ** 0.5 if value.ndim > 1 else 0.3
        is_norm = value.ndim == 1 and key.endswith("weight")
        value.copy_(scale * drawn + is_norm)


def images():
    return torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    """The attention of a `nn.MultiheadAttention`, which keeps its weights and their gradient."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.weights = layer, None

    def forward(self, query, key, value, need_weights):
        split = lambda a: a.reshape(*a.shape[:2], self.layer.num_heads, -1).transpose(1, 2)
        q, k, v = map(
            split, nn.functional.linear(query, self.layer.in_proj_weight, self.layer.in_proj_bias).chunk(3, -1)
        )
        self.weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        self.weights.retain_grad()
        return self.layer.out_proj((self.weights @ v).transpose(1, 2).reshape(query.shape)), None

    def get_attention_map(self):
        return self.weights

    def get_attn_gradients(self):
        return self.weights.grad


class ForTheNotebook(nn.Module):
    """A transformer of torchvision with the parts that the notebook asks for."""

    def __init__(self, network):
        super().__init__()
        self.network, self.blocks = network, network.encoder.layers
        for block in self.blocks:
            block.self_attention = block.attn = Attention(block.self_attention)

    def forward(self, x, register_hook):
        return self.network(x)


def chefer(folder):
    cells = json.loads((folder / NOTEBOOK).read_text("utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells)
    (source,) = (source for source in sources if "def generate_relevance" in source)
    theirs = {"torch": torch, "np": np}
    exec(source, theirs)
    torch.Tensor.cuda = lambda tensor: tensor
    network = VisionTransformer(**VIT, num_classes=4).double().eval()
    stir(network)
    x, state = images(), {f"chefer/state/{key}": value.numpy().copy() for key, value in network.state_dict().items()}
    outputs = network(x).detach().numpy()
    told = ForTheNotebook(network)
    rows = [theirs["generate_relevance"](told, x[i : i + 1], target) for i, target in enumerate(TARGETS)]
    return state | {"chefer/outputs": outputs, "chefer/relevance": torch.stack(rows).detach().numpy()}


def legrad():
    model = open_clip.CLIP(**CLIP).double().eval()
    stir(model)
    visual = {key: value for key, value in model.state_dict().items() if key.startswith("visual.")}
    state = {f"legrad/state/{key.removeprefix('visual.')}": value.numpy().copy() for key, value in visual.items()}
    wrapped = LeWrapper(model, layer_index=0)
    text = torch.randn(2, CLIP["embed_dim"], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    maps = [wrapped.compute_legrad(text, x[None]).detach().numpy() for x in images()]
    return state | {"legrad/text": text.numpy(), "legrad/maps": np.concatenate(maps)}


def main():
    torch.set_default_dtype(torch.float64)
    numbers = chefer(Path(sys.argv[1])) | legrad()
    packages = ("legrad_torch", "open_clip_torch", "torch", "torchvision")
    numbers["versions"] = np.array([f"{package} {version(package)}" for package in packages])
    nhwc = images().numpy().transpose(0, 2, 3, 1)
    np.savez_compressed(OUT, images=nhwc, targets=np.array(TARGETS), **numbers)
    print({key: value.shape for key, value in numbers.items() if "state" not in key})


if __name__ == "__main__":
    main()
