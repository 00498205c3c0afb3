"""Make `notebooks/images/methods.png`, the README's panel of methods on one photograph.

pip install '.[demo]' && python benchmarks/methods_picture.py
"""

from pathlib import Path

import jax
import numpy as np
import skimage.data
from PIL import Image

import jaxplain
from jaxplain import composites, models, visualize

OUT = Path(__file__).parents[1] / "notebooks" / "images" / "methods.png"
TIGER_CAT = 282


def main():
    module, variables, preprocess = models.efficientnet_lite0()
    photograph = skimage.data.cat()
    low, high = preprocess.bounds
    f, black = module.apply, low.reshape(1, 1, 1, 3)
    explainers = {
        "gradient": jaxplain.gradient(f),
        "smoothgrad squared": jaxplain.smoothgrad(f, samples=20, statistic="square"),
        "integrated gradients": jaxplain.integrated_gradients(f, baseline=black),
        "guided backprop": jaxplain.guided_backprop(f),
        "deeplift": jaxplain.deeplift(f, baseline=black),
        "lrp epsilon plus flat": jaxplain.lrp(f, composites.epsilon_plus_flat()),
        "lrp epsilon gamma box": jaxplain.lrp(f, composites.epsilon_gamma_box(low, high)),
        "deep taylor": jaxplain.deep_taylor(f, low, high),
        "contrastive lrp": jaxplain.contrastive_lrp(f),
        "excitation backprop": jaxplain.excitation_backprop(f, "_blocks.10"),
    }
    images = preprocess(photograph)
    maps = {}
    for name, explain in explainers.items():
        print(name)
        maps[name] = np.asarray(jax.jit(explain)(variables, images, target=TIGER_CAT, key=jax.random.key(0)))
    names = list(maps)
    rows = [
        visualize.panel(preprocess.view(photograph), {name: maps[name] for name in half}, size=200)
        for half in (names[:5], names[5:])
    ]
    picture = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for i, row in enumerate(rows):
        picture.paste(row, (0, sum(r.height for r in rows[:i])))
    visualize.save(picture, OUT)


if __name__ == "__main__":
    main()
