"""Explanations in Ray Data and in Hugging Face datasets, and explainers in other processes."""

import json
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxplain
from jaxplain import composites
from tests import flops_per_device
from tests.bulk_job import METHODS, WEIGHTS, network
from tests.close import within

pytest.importorskip("cloudpickle")
pytest.importorskip("grain")
pytest.importorskip("tensorstore")
zarr = pytest.importorskip("zarr")

from jaxplain import bulk  # noqa: E402

close = within(1e-5)
IMAGES = np.float32(np.random.default_rng(1).random((7, 16, 16, 3)))


@pytest.fixture
def maps(tmp_path):
    """What `bulk.explain` stores."""

    def stored(name):
        store = str(tmp_path / "maps.zarr")
        bulk.explain(METHODS[name](network), list(IMAGES), store, args=(WEIGHTS,), batch_size=2)
        return zarr.open_group(store)["maps"][:]

    return stored


# ---------------------------------------------------------------------------------------------------------- pickling


def test_every_explainer_pickles():
    for name in (*jaxplain._taxonomy.METHODS, *flops_per_device.TRANSFORMS):
        explain = flops_per_device.explainer(name)
        again = pickle.loads(pickle.dumps(explain))
        assert (again.__name__, again.__doc__) == (explain.__name__, explain.__doc__)


def test_in_another_process_it_explains_the_same(tmp_path):
    weights = np.float32(np.random.default_rng(0).normal(size=(3, 2)))
    explain = jaxplain.lrp(lambda x: jax.nn.relu(x @ weights), composites.epsilon_gamma_box(0.0, 1.0))
    x = np.ones((1, 3), np.float32)
    (tmp_path / "explainer.pickle").write_bytes(pickle.dumps((explain, x)))
    code = f"import pickle; explain, x = pickle.load(open({str(tmp_path / 'explainer.pickle')!r}, 'rb'))\n"
    code += "print(explain(x, target=1).tolist())"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    close(np.array(json.loads(done.stdout)), explain(x, target=1))


def test_without_cloudpickle_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(pickle.PicklingError, match=r"pip install 'jaxplain\[bulk\]'"):
        pickle.dumps(jaxplain.gradient(network))


# ----------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("name", ["lrp", "smoothgrad"])
def test_a_batch_function_has_the_maps_of_the_store(name, maps):
    function = pickle.loads(pickle.dumps(bulk.batch_function(METHODS[name](network), (WEIGHTS,), batch_size=2)))
    batches = [{"image": IMAGES[a:b], "index": np.arange(a, b)} for a, b in ((0, 3), (3, 4), (4, 7))]
    results = [function(batch) for batch in batches]
    close(np.concatenate([result["maps"] for result in results]), maps(name))
    assert [set(result) for result in results] == [{"maps", "target", "score", "probability", "problem", "index"}] * 3


def test_what_goes_wrong_in_a_batch():
    function = bulk.batch_function(METHODS["smoothgrad"](network), (WEIGHTS,), batch_size=2)
    images = [*IMAGES[:2], np.zeros((3, 3, 3), np.float32)]
    result = function({"image": images, "index": [0, 1, 2]})
    assert result["problem"].tolist()[:2] == ["", ""]
    assert "its input has shape (3, 3, 3)" in result["problem"][2]
    assert np.isnan(result["maps"][2]).all()
    with pytest.raises(ValueError, match="call that of the images 'image'"):
        function({"pixels": IMAGES})
    with pytest.raises(ValueError, match="draws random numbers"):
        bulk.batch_function(METHODS["smoothgrad"](network), (WEIGHTS,))({"image": IMAGES})


def test_hugging_face_datasets(tmp_path, maps):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Array3D((16, 16, 3), "float32"), "index": datasets.Value("int64")})
    columns = {"image": list(IMAGES), "index": list(range(len(IMAGES)))}
    dataset = datasets.Dataset.from_dict(columns, features=features).with_format("numpy")
    function = bulk.batch_function(METHODS["smoothgrad"](network), (WEIGHTS,), batch_size=2)
    done = dataset.map(function, batched=True, batch_size=3)
    close(np.stack(done["maps"][:]), maps("smoothgrad"))


def test_ray_data(maps):
    ray = pytest.importorskip("ray")
    done = subprocess.run([sys.executable, "-m", "tests.bulk_ray"], capture_output=True, check=True).stdout
    close(np.frombuffer(done[-IMAGES.nbytes :], np.float32).reshape(IMAGES.shape), maps("smoothgrad"))
    assert ray.__version__
