"""Explanations in other engines: Ray Data, Hugging Face datasets, all that maps dicts of arrays to dicts of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Unpack

import numpy as np

from .._convention import Explain, network
from .._explainer import made_by, pickled
from .._text import choose
from ._devices import Compute, Devices, devices_of, shape_of_outputs, without_mesh
from ._explain import DTYPES, part_of, problem_of, require_target
from ._options import Batching, BatchOptions, Dtype, Target
from ._run import blotted, filled
from ._source import Example, Examples

__all__ = ["BatchFunction", "batch_function"]


class BatchFunction:
    """An explainer as a function of batches, for engines of others, in which it explains as `explain` does.

    It maps a dict of columns, ``"image"`` one of them, to the other columns with ``maps``, ``target``, ``score``,
    ``probability`` and ``problem``, a text that is empty where all went well. It pickles, and compiles at its first
    call, once: batches of any length are cut and filled up to one size.

    For Hugging Face datasets: ``dataset.map(function, batched=True, batch_size=256)``. For Ray, where every actor makes
    its own and compiles once::

        dataset.map_batches(
            bulk.BatchFunction, fn_constructor_kwargs={"explain": explain, "args": (variables,)},
            compute=ray.data.ActorPoolStrategy(size=2),
        )

    Args:
      explain: what a method returns, and transforms of it.
      args: what comes before the images.
      target: as for `explain`; ``"label"`` is the column of that name.
      dtype: of the maps.
      **options: see `BatchOptions`. The source is the column ``image``; random numbers depend on the column ``index``,
        an image's place in the data set, without which no method that draws any can be used.

    Raises:
      ValueError: if an option is out of range; when called, if there is no column ``image``.

    Example:
      >>> import jax.numpy as jnp, jaxplain, numpy as np, pickle
      >>> from jaxplain import bulk
      >>> function = bulk.batch_function(jaxplain.gradient(lambda w, x: w * (x**2).sum(axis=(1, 2))), args=(2.0,))
      >>> batch = pickle.loads(pickle.dumps(function))({"image": np.ones((3, 2, 2, 1), np.float32), "id": [7, 8, 9]})
      >>> batch["maps"].shape, batch["score"].tolist(), batch["id"]
      ((3, 2, 2, 1), [8.0, 8.0, 8.0], [7, 8, 9])
    """

    def __init__(
        self,
        explain: Explain,
        args: tuple[Any, ...] = (),
        *,
        target: Target = None,
        dtype: Dtype = "float32",
        **options: Unpack[BatchOptions],
    ) -> None:
        self.explain, self.args = explain, args
        self.target: Target = target
        self.dtype = choose(dtype, DTYPES, "dtype")
        self.options = Batching.of("bulk.batch_function", options, "args", "target", "dtype")
        self.blank: Example | None = None
        self.classes: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"target": self.target, "dtype": self.dtype, **vars(self.options)}
        return made_by, (made_again, pickled((self.explain, self.args, options)))

    @without_mesh
    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a batch but ``image``, and ``maps``, ``target``, ``score``, ``probability``, ``problem``."""
        examples = self.examples(batch)
        indices = batch.get("index")
        step = self.devices.size * self.devices.parts
        results = []
        for begin in range(0, len(examples), step):
            part = [examples[i] for i in range(begin, min(begin + step, len(examples)))]
            index = None if indices is None else [int(i) for i in indices[begin : begin + step]]
            results.append(self.explained(part, index, step))
        new = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
        return {**{name: values for name, values in batch.items() if name != "image"}, **new}

    def examples(self, batch: Mapping[str, Any]) -> Examples:
        """The images of a batch, whose shape is that of the first one that there ever was."""
        if "image" not in batch:
            raise ValueError(f"the batch has the columns {', '.join(map(str, batch))}: call that of the images 'image'")
        columns = [name for name in ("image", "label") if name in batch]
        examples = Examples(
            [{name: batch[name][i] for name in columns} for i in range(len(batch["image"]))], self.options.preprocess
        )
        if self.blank is None or self.blank.image is None:
            self.blank = examples.probe()
            one = np.asarray(self.blank.image)[None]
            outputs = shape_of_outputs(network(self.explain), self.args, one)
            require_target(self.target, outputs, examples)
            self.classes = examples.classes
        examples.shape = self.blank.image.shape  # type: ignore[union-attr]
        examples.classes = self.classes
        return examples

    def explained(self, examples: Sequence[Example], indices: Sequence[int] | None, size: int) -> dict[str, np.ndarray]:
        """The results of some images, as many as are computed at once at most."""
        missing = size - len(examples)
        blank = self.blank
        assert blank is not None
        places = [*(indices or [0] * len(examples)), *[0] * missing]
        batch = filled([*examples, *[Example("", None)] * missing], places, blank)
        if indices is None:
            del batch["index"]
        results = {name: np.asarray(values)[: len(examples)] for name, values in self.compute(batch).items()}
        each = [{name: values[i] for name, values in results.items()} for i in range(len(examples))]
        problems = [e.problem or problem_of(self.dtype, result) for e, result in zip(examples, each, strict=True)]
        bad = np.array([bool(problem) for problem in problems])
        stored = {name: blotted(values, bad) for name, values in results.items() if name != "largest"}
        return {**stored, "problem": np.array(problems, object)}

    @cached_property
    def devices(self) -> Devices:
        """Those of this process."""
        return devices_of(None, self.options.batch_size)

    @cached_property
    def compute(self) -> Compute:
        """The compiled function."""
        part = partial(part_of, self.explain, self.target, self.options.seed, self.dtype)
        return self.devices.compute([part], self.args)


def made_again(explain: Explain, args: tuple[Any, ...], options: dict[str, Any]) -> BatchFunction:
    """What was pickled."""
    return BatchFunction(explain, args, **options)


# The same by another name: a function for engines that call it, a class for those that make one in each process.
batch_function = BatchFunction
