"""Jobs over many images in one process: what is stored, of which sources, and what happens when something fails."""

import functools
import gc
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxplain
from jaxplain.evaluation import Example, evaluate, open_records, summarize
from tests.close import within
from tests.convolution import conv

grain = pytest.importorskip("grain")
ts = pytest.importorskip("tensorstore")
zarr = pytest.importorskip("zarr")

from jaxplain import bulk  # noqa: E402
from jaxplain.bulk import _explain, _lock, _plan, _store  # noqa: E402
from tests import flops_per_device  # noqa: E402
from tests.bulk_job import METHODS  # noqa: E402
from tests.bulk_job import WEIGHTS as FILTERS  # noqa: E402
from tests.bulk_job import network as convolutional  # noqa: E402

close = within(1e-6)
RNG = np.random.default_rng(0)
WEIGHTS = np.float32(RNG.normal(size=(48, 3)))
IMAGES = [np.float32(RNG.normal(size=(4, 4, 3))) for _ in range(11)]
STACKED = jnp.asarray(np.stack(IMAGES))


def network(weights, x):
    return jnp.tanh(x.reshape(len(x), -1)) @ weights


def job(store, *, method=jaxplain.gradient, source=IMAGES, apply=network, args=(WEIGHTS,), **options):
    return bulk.explain(method(apply), source, store, **{"args": args, "batch_size": 2, "every": 0.0, **options})


def arrays(store):
    group = zarr.open_group(store, mode="r")
    return {name: group[name][:] for name in group.attrs["jaxplain"]["arrays"]}


def texts(rows):
    return [text.decode() for text in rows.view(f"S{rows.shape[1]}")[:, 0]]


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "maps.zarr")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos/more").mkdir(parents=True)
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / ["", "more"][i % 2] / f"{i % 3}_{i}.png")
    (tmp_path / "photos/notes.txt").write_text("no picture")
    return tmp_path / "photos"


def preprocess(images):
    return np.stack([np.asarray(image.resize((4, 4)), np.float32) / 255 for image in images])


# ---------------------------------------------------------------------------------------------------- what is stored


@pytest.mark.parametrize("method", [jaxplain.gradient, jaxplain.smoothgrad, jaxplain.rise, jaxplain.deeplift])
def test_the_maps_are_those_of_one_call(store, method):
    made = {jaxplain.smoothgrad: {"samples": 3}, jaxplain.rise: {"masks": 5}}.get(method, {})
    method = lambda apply, method=method: method(apply, **made)
    assert job(store, method=method, seed=3) == bulk.Outcome(done=11, failed=0, images=11)
    found = arrays(store)
    close(found["maps"], method(network)(WEIGHTS, STACKED, key=jax.random.key(3)))
    outputs = network(WEIGHTS, STACKED)
    np.testing.assert_array_equal(found["target"], outputs.argmax(axis=1))
    close(found["score"], outputs.max(axis=1))
    close(found["probability"], jax.nn.softmax(outputs).max(axis=1))
    assert texts(found["name"]) == [str(i) for i in range(11)]
    assert (found["status"] == 1).all()


@pytest.mark.parametrize(
    "target", [1, "label", lambda outputs: outputs[:, 2] - outputs[:, 0]], ids=["int", "label", "f"]
)
def test_the_target(store, target):
    labels = np.arange(11) % 3
    job(store, source=[*zip(IMAGES, labels, strict=True)], target=target)
    found, asked = arrays(store), labels if isinstance(target, str) else target
    close(found["maps"], jaxplain.gradient(network)(WEIGHTS, STACKED, target=asked))
    close(found["score"], jaxplain.scores(lambda x: network(WEIGHTS, x), STACKED, asked)(STACKED))
    assert np.isnan(found["probability"]).all() == callable(target)
    np.testing.assert_array_equal(found["label"], labels)


def test_what_it_was_made_with(store):
    job(store, method=lambda f: jaxplain.heatmap(jaxplain.gradient(f)), dtype="float16")
    group = zarr.open_group(store, mode="r")
    about = group.attrs["jaxplain"]
    assert about["settings"]["dtype"] == group["maps"].dtype == "float16"
    assert about["settings"].keys() >= {"network", "method", "source", "preprocessing", "seed", "target", "images"}
    assert about["versions"]["jax"] == jax.__version__
    assert group["maps"].metadata.dimension_names == ("image", "y", "x")


def test_channels_are_named_where_they_are(store):
    kernel = np.float32(RNG.normal(size=(3, 4, 3, 3)))
    first = lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME").mean(axis=(2, 3)) @ WEIGHTS[:3]
    job(store, source=[x.transpose(2, 0, 1) for x in np.ones((3, 5, 5, 4), np.float32)], apply=first, args=())
    assert zarr.open_group(store)["maps"].metadata.dimension_names == ("image", "channel", "y", "x")


def test_tensorstore_opens_bfloat16(store):
    job(store, dtype="bfloat16")
    maps = ts.open({"driver": "zarr3", "kvstore": f"file://{store}/maps/"}).result().read().result()
    assert maps.dtype == jnp.bfloat16
    within(1e-2)(maps.astype(np.float32), jaxplain.gradient(network)(WEIGHTS, STACKED))


def test_files_hold_many_chunks_where_there_are_many():
    fields = {"maps": _store.Field("float16", (224, 224))}
    per_file = _store.images_per_file(1_200_000, 16, fields)
    assert per_file % 16 == 0
    assert per_file * 224 * 224 * 2 <= _store.FILE_BYTES < (per_file + 16) * 224 * 224 * 2
    assert _store.images_per_file(2_000, 16, fields) == 16


def test_a_batch_that_no_chunk_holds():
    with pytest.raises(ValueError, match=r"batch_size=4000 images of 602,112 bytes .*: pass 3566 at most"):
        _store.require_chunks(4000, {"maps": _store.Field("float32", (224, 224, 3))})


def test_nothing_is_compiled_again_for_the_last_batch(store):
    traced = []

    def counting(weights, x):
        traced.append(len(x))
        return network(weights, x)

    job(store, apply=counting)
    before = len(traced)
    shutil.rmtree(store)
    job(store, apply=counting, source=IMAGES * 4)
    assert len(traced) == 2 * before
    assert set(traced) == {1, 2}  # one image tells the shapes


def separable(weights, x):
    """As in EfficientNet-Lite0: a depthwise convolution between two products."""
    x = jax.nn.relu6(conv(x, weights["first"], 2))
    x = jax.nn.relu6(conv(x, weights["second"].mean(axis=3, keepdims=True).transpose(0, 1, 3, 2)))
    return x.mean(axis=(1, 2)) @ weights["head"][:8]


@pytest.mark.parametrize("apply", [convolutional, separable])
@pytest.mark.parametrize("name", ["gradient", "lrp", "grad_cam"])
def test_score_and_probability_cost_no_pass_of_their_own(name, apply):
    explain, batch = (
        METHODS[name](apply),
        {"image": jnp.ones((4, 16, 16, 3), jnp.float32), "label": jnp.zeros(4, int)},
    )
    flops = lambda f, *args: jax.jit(f).lower(*args).compile().cost_analysis()["flops"]
    forward = flops(jaxplain.accelerate(apply), FILTERS, batch["image"])
    alone = flops(lambda weights, x: explain(weights, x), FILTERS, batch["image"])
    step = flops(functools.partial(_explain.part_of, explain, None, 0, "float32"), (FILTERS,), batch)
    assert step < alone + 0.05 * forward


@pytest.mark.parametrize("call", ["explain", "evaluate", "batch_function"])
def test_an_option_that_there_is_not(call, store):
    explain = jaxplain.gradient(network)
    calls = {
        "explain": lambda **options: bulk.explain(explain, IMAGES, store, **options),
        "evaluate": lambda **options: bulk.evaluate(network, ["gradient"], ["sparseness"], IMAGES, store, **options),
        "batch_function": lambda **options: bulk.batch_function(explain, **options),
    }
    with pytest.raises(TypeError, match=f"^bulk.{call} has no option 'batchsize': did you mean batch_size?"):
        calls[call](batchsize=2)
    with pytest.raises(TypeError, match=f"^bulk.{call} has no option 'xyz': choose args, .*batch_size, preprocess"):
        calls[call](xyz=2)


def test_no_objects_are_kept_of_what_is_done(store):
    steps, objects = [], []

    def progress(done, failed, images):
        steps.append(done)
        if len(steps) in (20, 170):
            gc.collect()
            objects.append(len(gc.get_objects()))

    job(store, source=IMAGES * 130, progress=progress, every=0.0)  # what waits to be written comes and goes
    assert objects[1] - objects[0] < 300  # two a step


# ----------------------------------------------------------------------------------------------------------- sources


class FromTheFront:
    def __len__(self):
        return len(IMAGES)

    def __iter__(self):
        return iter(IMAGES)


SOURCES = {
    "a list": IMAGES,
    "a map dataset": grain.MapDataset.source(IMAGES).map(lambda x: {"image": x}),
    "an iterable with a length": FromTheFront(),
    "dicts": [{"image": x, "label": 0, "name": str(i)} for i, x in enumerate(IMAGES)],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_sources(store, source):
    job(store, source=source)
    close(arrays(store)["maps"], jaxplain.gradient(network)(WEIGHTS, STACKED))


@pytest.mark.parametrize("pattern", ["", "/**/*.png"])
def test_a_folder(store, folder, pattern):
    job(store, source=f"{folder}{pattern}", preprocess=preprocess)
    found = arrays(store)
    names = ["0_0.png", "1_4.png", "2_2.png", "more/0_3.png", "more/1_1.png", "more/2_5.png"]
    assert texts(found["name"]) == names
    assert found["label"].tolist() == [0, 1, 2, 0, 1, 2]
    x = preprocess([Image.open(folder / name) for name in names])
    close(found["maps"], jaxplain.gradient(network)(WEIGHTS, x))


def test_processes_read_ahead(store, folder):
    job(store, source=folder, preprocess=preprocess, processes=1)
    found = arrays(store)
    shutil.rmtree(store)
    job(store, source=folder, preprocess=preprocess)
    equal(found, arrays(store))


def test_what_is_prepared_is_not_indexed_on_the_device(store):
    class Prepared:
        def __init__(self, images):
            self.images = images

        def __array__(self, dtype=None, copy=None):
            return np.stack(self.images)

    job(store, preprocess=Prepared)
    close(arrays(store)["maps"], jaxplain.gradient(network)(WEIGHTS, STACKED))


def test_no_source(store, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, sentence in (
        (tmp_path / "empty", "holds no pictures"),
        ([], "source is empty"),
        (iter(IMAGES), "has no length"),
        (["a"] * 3, "none of the first 3 images can be read: 0: its input has dtype"),
    ):
        with pytest.raises((ValueError, TypeError), match=sentence):
            job(store, source=source)


# ------------------------------------------------------------------------------------------------------------ faults


def test_an_image_that_cannot_be_explained_keeps_no_other_from_it(store):
    def broken():
        raise OSError("the disk\nhas a hole")

    class Source(list):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            return found() if callable(found) else found

    bad = {
        1: (broken, "it cannot be read: OSError: the disk"),
        4: (np.full((4, 4, 3), np.nan, np.float32), "its input holds NaN or infinite values"),
        6: (np.zeros((2, 4, 3), np.float32), "its input has shape (2, 4, 3), that of the first image (4, 4, 3)"),
        9: ((IMAGES[9], 7), "its class 7 is out of range: the network has classes 0 to 2"),
        10: (IMAGES[10], "it has no label: the network has classes 0 to 2"),
    }
    images = Source(bad[i][0] if i in bad else (x, 0) for i, x in enumerate(IMAGES))
    assert job(store, source=images, target="label") == bulk.Outcome(done=11, failed=5, images=11)
    found, good = arrays(store), [i for i in range(11) if i not in bad]
    close(found["maps"][good], jaxplain.gradient(network)(WEIGHTS, STACKED[jnp.array(good)], target=0))
    assert np.isnan(found["maps"][[*bad]]).all()
    assert np.isnan(found["score"][[*bad]]).all()
    assert {i: text for i, text in enumerate(texts(found["problem"])) if text} == {i: t for i, (_, t) in bad.items()}
    assert found["status"].tolist() == [2 if i in bad else 1 for i in range(11)]


def test_a_map_that_is_not_finite_or_does_not_fit(store):
    images = [np.full((4, 4, 3), v, np.float32) for v in (1.0, 1e-6, 1e3, 3.0)]
    outcome = job(
        store, source=images, apply=lambda x: (x**2).sum(axis=(1, 2, 3))[:, None] ** 2, args=(), dtype="float16"
    )
    assert outcome.failed == 2
    problems = texts(arrays(store)["problem"])
    assert problems[0] == problems[3] == ""
    for i, reach in ((1, "1.9e-16"), (2, "1.9e+11")):
        assert problems[i] == f"its map reaches to {reach}, which float16 does not hold: store float32 or bfloat16"
    job(f"{store}2", source=images, apply=lambda x: jnp.log(x - 1e-6)[:, 0, 0], args=())
    assert texts(arrays(f"{store}2")["problem"]) == ["", "its map holds NaN or infinite values", "", ""]


def stopped(store, after, **options):
    """A job that is interrupted after so many steps."""
    steps = []

    def progress(done, failed, images):
        steps.append(done)
        if len(steps) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job(store, progress=progress, **options)


def test_what_is_done_is_not_done_again(store, tmp_path, monkeypatch):
    whole = str(tmp_path / "whole.zarr")
    images = IMAGES * 6
    job(whole, source=images)
    stopped(store, 4, source=images)
    before = (arrays(store)["status"] == 1).sum()
    assert 0 < before < 66
    pending, run = [], jaxplain.bulk._job.run
    monkeypatch.setattr(jaxplain.bulk._job, "run", lambda job, chunks: pending.append(len(chunks)) or run(job, chunks))
    assert job(store, source=images).finished
    assert 2 * pending[0] == 66 - before
    equal(arrays(store), arrays(whole))
    assert job(store, source=images) == bulk.Outcome(66, 0, 66)
    assert pending[1] == 0


def test_another_batch_size_goes_on(store):
    stopped(store, 1)
    assert job(store, batch_size=3).finished
    close(arrays(store)["maps"], jaxplain.gradient(network)(WEIGHTS, STACKED))


CHANGES = {
    "seed = 0, not 1": {"seed": 1},
    "target = None, not 2": {"target": 2},
    "another network or other weights": {"args": (WEIGHTS * 2,)},
    "another network": {"apply": lambda weights, x: network(weights, x) * 2},
    "another method, other options": {"method": lambda f: jaxplain.heatmap(jaxplain.gradient(f), "norm")},
    "other images": {"source": IMAGES[::-1]},
    "images that were preprocessed": {"preprocess": lambda images: np.stack(images) * 2},
}


@pytest.mark.parametrize(("sentence", "change"), CHANGES.items(), ids=CHANGES)
def test_a_store_of_something_else_is_refused(store, sentence, change):
    job(store)
    before = arrays(store)
    with pytest.raises(ValueError, match=rf"was made with {sentence}.*: name another store, or start this one over"):
        job(store, **change)
    equal(arrays(store), before)
    settings = zarr.open_group(store).attrs["jaxplain"]["settings"]
    assert job(store, **change, over=True).finished
    assert zarr.open_group(store).attrs["jaxplain"]["settings"] != settings
    assert "seed" in change or any(not np.array_equal(a, before[name]) for name, a in arrays(store).items())


def test_no_other_files_are_overwritten(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("...")
    zarr.create_group(tmp_path / "other.zarr")
    for name, sentence in (("letters", "holds dear.txt, which is no store"), ("other.zarr", "is no store")):
        with pytest.raises(ValueError, match=sentence):
            job(tmp_path / name, over=True)
    assert (tmp_path / "letters/dear.txt").read_text() == "..."


def test_a_damaged_chunk(store):
    job(store)
    before = arrays(store)
    file = Path(store) / "maps/c/2/0/0/0"
    raw = bytearray(file.read_bytes())
    raw[10] ^= 255
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=r"[cC]hecksum|crc32c"):
        arrays(store)
    assert job(store).finished
    assert job(store, check=True).finished
    equal(arrays(store), before)


def test_a_damaged_status(store):
    images = IMAGES * 30
    job(store, source=images)
    before = arrays(store)
    assert zarr.open_group(store).attrs["jaxplain"]["per_file"] == 4
    file = Path(store) / "status/c/5"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert job(store, source=images).finished
    equal(arrays(store), before)


@pytest.mark.parametrize("name", ["maps", "status", "score"])
def test_a_lost_file(store, name):
    job(store)
    before = arrays(store)
    (Path(store) / name / {"maps": "c/3/0/0/0"}.get(name, "c/3")).unlink()
    assert job(store).finished
    equal(arrays(store), before)


def test_two_jobs_on_one_store(store):
    with _lock.locked(_store.kvstore(store)), pytest.raises(BlockingIOError, match="another job writes to "):
        job(store)
    assert job(store).finished


# ----------------------------------------------------------------------------------------------------------- devices


def test_parameters_over_another_axis(store, tmp_path):
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    weights = jax.device_put(WEIGHTS.repeat(2, axis=0), jax.NamedSharding(mesh, jax.P("model")))
    twice = lambda weights, x: jnp.tanh(x.reshape(len(x), -1)).repeat(2, axis=1) @ weights
    job(store, apply=twice, args=(weights,), mesh=mesh)
    close(arrays(store)["maps"], jaxplain.gradient(twice)(WEIGHTS.repeat(2, axis=0), STACKED))
    with pytest.raises(ValueError, match="call that of the batch 'data'"):
        job(store, mesh=jax.make_mesh((4,), ("batch",)))


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_another_mesh_may_be_set(store, tmp_path, kind):
    labelled = [(image, i % 3) for i, image in enumerate(IMAGES)]
    with jax.set_mesh(jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind, kind))):
        job(store)
        bulk.evaluate(network, ["gradient"], ["sparseness"], labelled, tmp_path / "m", args=(WEIGHTS,), batch_size=2)
        maps = bulk.batch_function(jaxplain.gradient(network), (WEIGHTS,))({"image": np.stack(IMAGES)})["maps"]
    close(arrays(store)["maps"], jaxplain.gradient(network)(WEIGHTS, STACKED))
    close(maps, arrays(store)["maps"])


def test_a_model_among_the_arguments(store):
    model = {"activation": jnp.tanh, "weights": jnp.asarray(WEIGHTS)}
    job(store, apply=lambda model, x: model["activation"](x.reshape(len(x), -1)) @ model["weights"], args=(model,))
    close(arrays(store)["maps"], jaxplain.gradient(network)(WEIGHTS, STACKED))


def test_a_device_does_its_share_of_a_step():
    """Of four; `tests/test_parallel.py` asks eight, for every method."""
    steps = [flops_per_device.compiled_step(flops_per_device.explainer("gradient"), devices) for devices in (1, 4)]
    whole, part = (step.cost_analysis()["flops"] for step in steps)
    assert 0.8 < 4 * part / whole < 1.2


@pytest.mark.parametrize("pending", [[], [0], [*range(10)], [1, 4, 5, 9, 12]])
@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_every_chunk_has_a_device(pending, devices):
    dealt = _plan.shares(np.array(pending, np.int64), devices)
    assert sorted(dealt[dealt >= 0].tolist()) == pending
    assert len(dealt) == -(-len(pending) // devices)
    assert all((np.diff(run[run >= 0]) > 0).all() for run in dealt.T)


# -------------------------------------------------------------------------------------------------------- evaluation


def examples_for(images):
    return [Example(e["name"], e["image"][None], e["label"], {"mask": e["mask"][None]}) for e in images]


def test_metrics_are_those_of_one_image_at_a_time(store, tmp_path):
    images = [
        {"image": x, "label": i % 3, "name": f"{i}.png", "mask": RNG.random((4, 4)) < 0.5} for i, x in enumerate(IMAGES)
    ]
    methods = {"gradient": "gradient", "noisy": jaxplain.smoothgrad(network, samples=2)}
    metrics = {
        "deletion": functools.partial(jaxplain.metrics.deletion, steps=4),
        "pointing_game": "pointing_game",
        "max_sensitivity": functools.partial(jaxplain.metrics.max_sensitivity, samples=2),
    }
    outcome = bulk.evaluate(network, methods, metrics, images, store, args=(WEIGHTS,), batch_size=2)
    assert outcome == bulk.Outcome(11, 0, 11)
    records = open_records(tmp_path / "records.jsonl", {})
    list(evaluate(network, methods, metrics, examples_for(images), records, context=(WEIGHTS,)))
    group = zarr.open_group(store, mode="r")
    for name in metrics:
        one = [[records.done[e["name"], m]["metrics"][name] for m in methods] for e in images]
        np.testing.assert_allclose(group[name][:], np.array(one, float), rtol=1e-5, atol=1e-6)
    table, summary = bulk.summarize(store), summarize(records.done.values())
    for method in methods:
        for name in metrics:
            close(table[method][name].mean, summary[method][name].mean)
            assert table[method][name].n == summary[method][name].n == 11
    with pytest.raises(ValueError, match=r"was made with metrics = \['deletion', 'pointing_game', 'max_sensitivity'\]"):
        bulk.evaluate(network, methods, ["sparseness"], images, store, args=(WEIGHTS,))


def test_metrics_need_a_label(store):
    images = [(x, i if i < 3 else -1) for i, x in enumerate(IMAGES[:5])]
    assert bulk.evaluate(network, ["gradient"], ["sparseness"], images, store, args=(WEIGHTS,)).failed == 2
    found = arrays(store)
    assert texts(found["problem"])[3:] == ["it has no label: the network has classes 0 to 2"] * 2
    assert np.isfinite(found["sparseness"][:3]).all()
    assert np.isnan(found["sparseness"][3:]).all()
    assert bulk.summarize(store)["gradient"]["sparseness"].n == 3
