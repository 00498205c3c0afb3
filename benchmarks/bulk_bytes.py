"""Bytes of a store by method and dtype: `python -m benchmarks.bulk_bytes FOLDER > benchmarks/results/bulk_bytes.md`.

The maps of a few photographs by EfficientNet-Lite0, each method explained once and stored in every dtype as
`jaxplain.bulk` stores it; what is counted are the files of the array ``maps``. Pixel methods store a heat map, one
number a pixel. Fewer samples, masks and channels than the defaults do, since they change what a map says and hardly its
bytes. Of float16 it is counted how many maps it does not hold.
"""

import argparse
import tempfile
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

import jaxplain
from jaxplain import models
from jaxplain.bulk._explain import DTYPES, problem_of
from jaxplain.bulk._source import Photographs
from jaxplain.bulk._store import COMMON, Field, create, kvstore, open_store

METHODS = {
    "gradient": jaxplain.gradient,
    "lrp, epsilon_plus": lambda f: jaxplain.lrp(f, jaxplain.composites.epsilon_plus()),
    "grad_cam": jaxplain.grad_cam,
    "integrated_gradients, 8 steps": lambda f: jaxplain.integrated_gradients(f, steps=8, chunk=1),
    "score_cam, 16 channels": lambda f: jaxplain.score_cam(f, top=16, chunk=4),
    "rise, 64 masks": lambda f: jaxplain.rise(f, masks=64, chunk=4),
    "occlusion, 32 x 32, stride 16": lambda f: jaxplain.occlusion(f, window=(32, 32), stride=(16, 16), chunk=4),
    "deeplift": jaxplain.deeplift,
}


def stored_bytes(maps, dtype):
    """What the files of the maps take."""
    n = len(maps)
    with tempfile.TemporaryDirectory() as folder:
        kv = kvstore(folder)
        create(kv, n, n, {"maps": Field(dtype, maps.shape[1:], ("y", "x"))}, {})
        store = open_store(kv, {"arrays": ["maps", *COMMON], "batch_size": n, "per_file": n})
        blank = {name: np.zeros((n, *field.shape), field.dtype) for name, field in COMMON.items()}
        store.write(0, [{"maps": maps.astype(jax.numpy.dtype(dtype)), **blank}])
        return sum(file.stat().st_size for file in Path(folder, "maps").rglob("*") if file.is_file())


def row(name, maps):
    """A line of the table: gigabytes of a million maps."""
    cells = []
    for dtype in DTYPES:
        unheld = sum(bool(problem_of(dtype, {"largest": np.abs(one).max()})) for one in maps)
        bytes_each = stored_bytes(maps, dtype) / len(maps)
        cells.append(f"{bytes_each / 1e3:.0f}" + (f" ({unheld} of {len(maps)} maps do not fit)" if unheld else ""))
    return f"| {name} | {' x '.join(map(str, maps.shape[1:]))} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--methods", nargs="*", default=[*METHODS], choices=[*METHODS])
    args = parser.parse_args()
    module, variables, preprocess = models.efficientnet_lite0()
    source = Photographs(args.folder)
    x = preprocess([source[i]["image"] for i in range(min(args.images, len(source)))])
    print(f"jaxplain {version('jaxplain')}, jax {jax.__version__}, tensorstore {version('tensorstore')}.\n")
    print(f"Gigabytes of a million maps, compressed, from those of {len(x)} photographs; EfficientNet-Lite0.\n")
    print("| method | map | " + " | ".join(DTYPES) + " |\n|---|---|" + "---|" * len(DTYPES), flush=True)
    for name in args.methods:
        explain = jax.jit(jaxplain.heatmap(METHODS[name](module.apply)))
        print(row(name, np.asarray(explain(variables, x, key=jax.random.key(0)))), flush=True)


if __name__ == "__main__":
    main()
