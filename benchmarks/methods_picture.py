"""Make the README's panels of methods on one photograph, `methods.png` and `cams.png` in `notebooks/images`.

pip install '.[demo]' && python -m benchmarks.methods_picture
"""

from pathlib import Path

import jax
import numpy as np
import skimage.data

import jaxplain
from jaxplain import composites, models, visualize

OUT = Path(__file__).parents[1] / "notebooks" / "images"
TIGER_CAT = 282
COLUMNS = 5


def methods(f, bounds):
    low, high = bounds
    black = low.reshape(1, 1, 1, 3)
    return {
        "gradient": jaxplain.gradient(f),
        "smoothgrad\nsquares of 20 samples": jaxplain.smoothgrad(f, samples=20, statistic="square"),
        "integrated_gradients\nfrom black": jaxplain.integrated_gradients(f, baseline=black),
        "guided_backprop": jaxplain.guided_backprop(f),
        "deeplift\nfrom black": jaxplain.deeplift(f, baseline=black),
        "lrp\nepsilon_plus_flat": jaxplain.lrp(f, "epsilon_plus_flat"),
        "lrp\nepsilon_gamma_box": jaxplain.lrp(f, composites.epsilon_gamma_box(low, high)),
        "deep_taylor": jaxplain.deep_taylor(f, low, high),
        "contrastive_lrp\nz_plus": jaxplain.contrastive_lrp(f),
        "excitation_backprop\nlayer _blocks.10": jaxplain.excitation_backprop(f, "_blocks.10"),
    }


def cams(f):
    middle = "_blocks.10"  # 14 x 14 positions; the last feature map is 7 x 7
    return {
        "cam": jaxplain.cam(f),  # here grad-cam, xgrad-cam and hires-cam are the same, divided by 49
        "grad_cam_plus_plus": jaxplain.grad_cam_plus_plus(f),
        "layer_cam": jaxplain.layer_cam(f),
        "grad_cam_elementwise": jaxplain.grad_cam_elementwise(f),
        "guided_grad_cam": jaxplain.guided_grad_cam(f),
        "eigen_cam": jaxplain.eigen_cam(f),
        "eigen_grad_cam": jaxplain.eigen_grad_cam(f),
        "ablation_cam": jaxplain.ablation_cam(f),
        "score_cam\n64 channels": jaxplain.score_cam(f, top=64, chunk=8),
        "full_grad": jaxplain.full_grad(f),
        "fem": jaxplain.fem(f),
        "multilayer_fem\n3 layers": jaxplain.multilayer_fem(f, ["_blocks.2/_bn0", "_blocks.5/_bn0", None]),
        "layer_cam\nlayer _blocks.10": jaxplain.layer_cam(f, middle),
        "hires_cam\nlayer _blocks.10": jaxplain.hires_cam(f, middle),
        "xgrad_cam\nlayer _blocks.10": jaxplain.xgrad_cam(f, middle),
    }


def draw(explainers, variables, preprocess, photograph, file):
    """One map of the photograph for each explainer, in rows."""
    images = preprocess(photograph)
    maps = {}
    for name, explain in explainers.items():
        print(name)
        maps[name] = np.asarray(jax.jit(explain)(variables, images, target=TIGER_CAT, key=jax.random.key(0)))
    boxes = preprocess.boxes(photograph)
    picture = visualize.panel([photograph], maps, boxes=boxes, columns=COLUMNS, size=200, resolution=1)
    visualize.save(picture, OUT / file)


def main():
    module, variables, preprocess = models.efficientnet_lite0()
    photograph = skimage.data.cat()
    draw(cams(module.apply), variables, preprocess, photograph, "cams.png")
    draw(methods(module.apply, preprocess.bounds), variables, preprocess, photograph, "methods.png")


if __name__ == "__main__":
    main()
