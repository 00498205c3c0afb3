"""``jaxplain compare``: several methods on the same photographs, as one picture, one table, one file of numbers."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from ..evaluation import compare as make_comparison
from . import _method_specs as specs
from . import _network as networks
from ._explain import File, Images, Text, prepared
from ._photographs import planned
from ._terminal import STDOUT, Report, UsageError

METHODS = "gradient,guided_backprop,lrp,grad_cam,layer_cam"


def compare(
    images: Images = (),
    *,
    methods: str = METHODS,
    metrics: str = "insertion:steps=20,deletion:steps=20,sparseness",
    model: str = "efficientnet_lite0",
    checkpoint: File = None,
    target: Text = None,
    out: Path = Path("comparison"),
    seed: int = 0,
) -> int:
    """Explain photographs by several methods, and write one picture of all maps and one table of metrics and times.

    Args:
      images: Files of any size and format; without any, a sample photograph.
      methods: Those to compare, commas between; NAME:OPTION=VALUE sets an option, such as
        lrp:composite=epsilon_gamma_box, grad_cam:layer=_blocks.10 or smoothgrad:samples=20.
      metrics: What is measured, commas between, with options in the same form.
      model: A network of the library, or package.module:function for your own.
      checkpoint: A PyTorch file with the weights of a network of the library.
      target: Number or name of the class to explain, by default the predicted one.
      out: Where to write to, without an ending; .png, .md and .json are added.
      seed: Seed of the methods and metrics that draw random numbers.
    """
    measures = specs.metrics_of(metrics)
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}")
    picture = out.with_name(f"{out.name}.png")
    work = planned(images, [picture] * max(1, len(images)))
    with Report(len(work)) as report:
        report.step(f"loading {model}")
        network = networks.load(model, checkpoint)
        label = None if target is None else network.find_class(target)
        explainers = specs.explainers_of(methods, network)
        examples = list(prepared(work, network, report))
        if not examples:
            return 1
        x = np.concatenate([example.x for example in examples])
        network.check(x, label)
        report.step(f"comparing {len(explainers)} methods")
        try:
            run = make_comparison(network.apply, explainers, metrics=measures)
            comparison = run(network.variables, x, target=label, key=jax.random.key(seed))
            views = np.concatenate([example.view for example in examples])
            captions = [example.photograph.name for example in examples]
            files = comparison.save(out, views, captions=captions)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{model} cannot be explained: {error}") from error
        except OSError as error:
            raise UsageError(f"--out {out}: {error}") from error
    STDOUT.print(comparison.markdown())
    STDOUT.print("\n".join(map(str, files)))
    return 1 if report.failed else 0
