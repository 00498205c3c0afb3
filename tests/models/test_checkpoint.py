"""The reader on files from PyTorch and safetensors, and on files made to do harm."""

import io
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxplain.models import load_checkpoint

DATA = Path(__file__).parent / "data"
BASE = np.arange(24, dtype=np.float32)

TENSORS = {  # as benchmarks/make_checkpoints.py saves them
    "contiguous": BASE.reshape(2, 3, 4),
    "transposed": BASE[:12].reshape(3, 4).T,
    "strided": BASE[3:20:4],
    "expanded": np.full((2, 3), 5, np.float32),
    "scalar": np.float32(1.5),
    "empty": np.zeros((0, 3), np.float32),
    "parameter": np.array([0.5, -0.5], np.float32),
    "float64": np.array([np.pi]),
    "float16": np.array([0.1, 65504.0], np.float16),
    "bfloat16": np.array([0.1, 3e38], jnp.bfloat16),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint8": np.array([0, 255], np.uint8),
    "bool": np.array([True, False]),
}


@pytest.mark.parametrize("file", ["zip.pth", "zip_protocol4.pth", "legacy.pth"])
def test_every_kind_of_tensor(file):
    arrays = load_checkpoint(DATA / file)
    assert list(arrays) == list(TENSORS)
    for name, expected in TENSORS.items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected, strict=False)
        assert arrays[name].shape == np.shape(expected)


def test_the_state_dict_of_a_training_script_is_unwrapped():
    arrays = load_checkpoint(DATA / "training.pth")
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert list(arrays) == ["0.weight", "0.bias", *(f"1.{name}" for name in names)]
    np.testing.assert_allclose(arrays["0.weight"], 0.25, atol=1e-3)


def test_safetensors(tmp_path):
    names = [name for name in TENSORS if name not in ("transposed", "strided")]  # it stores contiguous arrays only
    tensors = {f"_orig_mod.module.{name}": np.asarray(TENSORS[name]) for name in names}
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    arrays = load_checkpoint(str(tmp_path / "x.safetensors"))
    assert set(arrays) == set(names)
    for name in names:
        np.testing.assert_array_equal(arrays[name], TENSORS[name])


def test_the_content_decides_and_not_the_name(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes((DATA / "legacy.pth").read_bytes())
    assert list(load_checkpoint(path)) == list(TENSORS)


# Pickles written by hand: `literal` is any value, `tensor` and `state_dict` are what torch.save writes.


def literal(value):
    return pickle.dumps(value, 2)[2:-1]


def tensor(offset=0, shape=(4,), strides=(1,), kind=b"torch\nFloatStorage", view=None):
    view = b"" if view is None else literal(view)
    storage = (
        b"(" + literal("storage") + b"c" + kind + b"\n" + literal("0") + literal("cpu") + literal(4) + view + b"tQ"
    )
    arguments = storage + literal(offset) + literal(shape) + literal(strides) + b"\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def state_dict(value, name=b"X\x06\0\0\0weight"):
    return b"\x80\x02}" + name + value + b"s."


STORAGE = np.arange(4, dtype=np.float32).tobytes()


def write_zip(path, program, storage=STORAGE, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", storage)
    return path


def write_legacy(path, program, storage=STORAGE, count=4, little_endian=True):
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": little_endian})
    parts = [pickle.dumps(value, 2) for value in head]
    path.write_bytes(b"".join([*parts, program, pickle.dumps(["0"], 2), struct.pack("<q", count), storage]))
    return path


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_the_hand_written_pickle_is_read(tmp_path, write):
    arrays = load_checkpoint(write(tmp_path / "x.pth", state_dict(tensor(1, (2,), (2,)))))
    np.testing.assert_array_equal(arrays["weight"], np.float32([1, 3]))


def test_legacy_view_of_a_storage(tmp_path):
    path = write_legacy(tmp_path / "x.pth", state_dict(tensor(1, (2,), (1,), view=("v", 1, 3))))
    np.testing.assert_array_equal(load_checkpoint(path)["weight"], np.float32([2, 3]))
    path = write_legacy(tmp_path / "x.pth", state_dict(tensor(2, (2,), (1,), view=("v", 1, 3))))
    with pytest.raises(ValueError, match="outside its storage"):
        load_checkpoint(path)


def test_python_2_wrote_ordered_dicts_from_lists(tmp_path):
    pair = b"](U\x06weight" + tensor() + b"e"
    program = b"\x80\x02ccollections\nOrderedDict\n](" + pair + b"e\x85R."
    assert load_checkpoint(write_zip(tmp_path / "x.pth", program))["weight"].shape == (4,)


HARMFUL = {
    "os.system": b"cos\nsystem\n" + literal("touch owned") + b"\x85R",
    "posix.system": b"cposix\nsystem\n" + literal("touch owned") + b"\x85R",
    "builtins.eval": b"cbuiltins\neval\n" + literal("open('owned', 'w')") + b"\x85R",
    "builtins.getattr": b"cbuiltins\ngetattr\n" + literal("x") + literal("format") + b"\x86R",
    "builtins.exec": b"(" + literal("open('owned', 'w').close()") + b"ibuiltins\nexec\n",
    "numpy.load": b"cnumpy\nload\n" + literal("x.npy") + b"\x85R",
    "numpy.core.multiarray._reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n)R",
    "torch.load": b"ctorch\nload\n)R",
    "torch._utils._rebuild_tensor_v2.__globals__": b"\x8c\x0ctorch._utils\x8c\x1e_rebuild_tensor_v2.__globals__\x93",
    "jaxplain.models._checkpoint._find": b"cjaxplain.models._checkpoint\n_find\n)R",
    "collections.OrderedDict.fromkeys": b"ccollections\nOrderedDict.fromkeys\n)R",
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("name", HARMFUL)
def test_no_code_runs(tmp_path, monkeypatch, name, write):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    path = write(tmp_path / "x.pth", state_dict(HARMFUL[name]))
    with pytest.raises(ValueError, match=r"cannot read .*x\.pth: its pickle .*; save the state dict again") as caught:
        load_checkpoint(path)
    assert name in str(caught.value) or "INST" in str(caught.value)
    assert not Path("owned").exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["os.system", "builtins.exec"])
def test_the_harmful_pickles_are_harmful(tmp_path, monkeypatch, name):
    """Python's own unpickler does run them: the test above tests something."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(state_dict(HARMFUL[name]))
    assert Path("owned").exists()


def test_a_whole_module_is_refused_by_name():
    with pytest.raises(ValueError, match=r"asks for `torch\.nn\.modules\.container\.Sequential`.*state_dict\(\)"):
        load_checkpoint(DATA / "module.pth")


@pytest.mark.parametrize(
    "program",
    [
        b"ccollections\nOrderedDict\n(" + literal("x") + b"tR",  # not pairs
        b"ccollections\nOrderedDict\n" + literal({"__call__": 1}) + b"b)R" + literal(1) + b"\x85R",  # call the result
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + literal((None, {"__new__": 1}))
        + b"b)R",  # set attributes of a builder
        b"ctorch\nFloatStorage\n)R",  # call a storage type
        b"ctorch._utils\n_rebuild_tensor_v2\n)\x81",  # NEWOBJ
        literal(("storage", "os.system", "0", "cpu", 4)) + b"Q",  # a storage of another type
        literal("storage") + b"Q",
        literal(("module", "a", "b", "c")) + b"Q",
        literal((("storage",), [1], {}, None, 4)) + b"Q",
        b"Pstorage\n",  # a persistent id in text
        b"\x82\x01",  # EXT1
        b"h\x07",  # an entry of the memo that was never made
        b"t",  # no mark
        b"0000",  # pop an empty stack
        b"\x97",  # an out-of-band buffer
    ],
)
def test_other_tricks_of_pickles_end_in_a_value_error(tmp_path, program):
    with pytest.raises(ValueError, match="cannot read"):
        load_checkpoint(write_zip(tmp_path / "x.pth", state_dict(program)))
    assert load_checkpoint(DATA / "zip.pth").keys() == TENSORS.keys()  # and nothing has changed


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (4,), (1,)),
        (0, (5,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (2, 2), (4, 1)),
        (-1, (2,), (1,)),
        (3, (2,), (-1,)),
        (0, (-1,), (1,)),
        (2**62, (1,), (1,)),
        (0, (2,), (2**62,)),
        (0, (17,), (2**58,)),  # 2^58 · 4 bytes · 16 is 0 in 64 bits
        (0, (2,), ()),
        (0, (), (1,)),
        (0, (2.0,), (1,)),
        (0, ("2",), (1,)),
        (0, None, None),
        ("0", (2,), (1,)),
        (0, (1,) * 100, (1,) * 100),
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_outside_their_storage(tmp_path, write, offset, shape, strides):
    with pytest.raises(ValueError, match="cannot read"):
        load_checkpoint(write(tmp_path / "x.pth", state_dict(tensor(offset, shape, strides))))


def test_a_huge_expanded_tensor_takes_no_memory(tmp_path):
    path = write_zip(tmp_path / "x.pth", state_dict(tensor(3, (2**20, 2**20), (0, 0))))
    array = load_checkpoint(path)["weight"]
    assert array.shape == (2**20, 2**20)
    assert array[-1, -1] == 3
    assert not array.flags.writeable


def test_bombs(tmp_path):
    compressed = write_zip(tmp_path / "a.pth", state_dict(tensor()), bytes(10**7), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="more than its own size"):
        load_checkpoint(compressed)
    doubling = b")" + b"2\x86" * 100  # not an instruction of state dicts: DUP
    with pytest.raises(ValueError, match="instruction DUP"):
        load_checkpoint(write_zip(tmp_path / "b.pth", state_dict(tensor(), name=doubling)))
    doubling = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))  # a key that takes 2^60 steps to hash
    for program in (state_dict(tensor(), doubling), b"\x80\x02}(" + doubling + tensor() + b"u."):
        with pytest.raises(ValueError, match="keys are not names"):
            load_checkpoint(write_zip(tmp_path / "c.pth", program))
    for program in (doubling + b"N\x93", doubling + b"Q", doubling):  # as a name, as a storage, as a tensor
        with pytest.raises(ValueError, match="cannot read"):
            load_checkpoint(write_zip(tmp_path / "d.pth", state_dict(program)))
    long_list = b"](" + b"](U\x01aNe" * 1000 + b"eq\x00"
    many = b"0(" + b"ccollections\nOrderedDict\nh\x00\x85R" * 1000 + b"t"
    with pytest.raises(ValueError, match="cannot read"):
        load_checkpoint(write_zip(tmp_path / "e.pth", state_dict(long_list + many)))


@pytest.mark.parametrize("file", ["zip.pth", "legacy.pth", "x.safetensors"])
def test_truncated_and_damaged_files(tmp_path, file):
    safetensors.numpy.save_file({"a": BASE, "b": BASE}, tmp_path / "x.safetensors")
    content = ((DATA if file.endswith("pth") else tmp_path) / file).read_bytes()
    path = tmp_path / "cut.pth"
    for length in (0, 1, 8, 9, 20, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cannot read .*cut\.pth"):
            load_checkpoint(path)
    random = np.random.default_rng(0)
    for _ in range(100):  # flipped bytes are read, or refused with a ValueError
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 5):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            arrays = load_checkpoint(path)
        except ValueError as error:
            assert "cannot read" in str(error)  # noqa: PT017
        else:
            assert all(array.copy().shape == array.shape for array in arrays.values() if array.size < 10**6)


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "x"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    cases = {
        "neither a PyTorch checkpoint nor a safetensors file": b"<html>not found</html>",
        "a pickle, but not one that torch.save wrote": pickle.dumps(3),
        "a zip archive, but not one that torch.save wrote": buffer.getvalue(),
    }
    for reason, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            load_checkpoint(path)
    with pytest.raises(ValueError, match="no state dict"):
        load_checkpoint(write_zip(path, b"\x80\x02" + literal({"epoch": 3}) + b"."))
    with pytest.raises(ValueError, match="no state dict"):
        load_checkpoint(write_zip(path, b"\x80\x02" + tensor() + b"."))
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "missing.pth")


def test_legacy_files_with_wrong_numbers(tmp_path):
    program = state_dict(tensor())
    for count in (5, -1, 2**62, -(2**63)):
        with pytest.raises(ValueError, match="cannot read"):
            load_checkpoint(write_legacy(tmp_path / "x.pth", program, count=count))
    with pytest.raises(ValueError, match="big-endian"):
        load_checkpoint(write_legacy(tmp_path / "x.pth", program, little_endian=False))
    path = write_zip(tmp_path / "y.pth", program)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(ValueError, match="big-endian"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 32]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
        {"dtype": "F32", "shape": [4], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2, -1], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 15]},
        {"dtype": "O", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]},
        {"shape": [4]},
        [],
    ],
)
def test_safetensors_with_wrong_numbers(tmp_path, entry):
    header = json.dumps({"weight": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(ValueError, match="cannot read"):
        load_checkpoint(path)


F32 = {"dtype": "F32", "shape": [2]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ([F32 | {"data_offsets": [0, 8]}, F32 | {"data_offsets": [4, 12]}], "the bytes of a0 and a1 overlap"),
        ([F32 | {"data_offsets": [0, 8]}, F32 | {"data_offsets": [0, 8]}], "the bytes of a0 and a1 overlap"),
        ([F32 | {"data_offsets": [8, 16]}, F32 | {"data_offsets": [0, 8]}] * 2, "the bytes of a1 and a3 overlap"),
        ([F32 | {"data_offsets": [8, 16]}], "bytes between the beginning and a0"),
        ([F32 | {"data_offsets": [0, 8]}], "bytes between a0 and the end of the file"),
        ([F32 | {"data_offsets": [0, 8]}, F32 | {"shape": [1], "data_offsets": [12, 16]}], "bytes between a0 and a1"),
        ([F32 | {"data_offsets": [8, 24]}], "the bytes of a0 lie outside the file"),
    ],
)
def test_safetensors_that_overlap_or_leave_gaps(tmp_path, header, reason):
    write_safetensors(tmp_path / "x", json.dumps({f"a{i}": entry for i, entry in enumerate(header)}))
    with pytest.raises(ValueError, match=rf"cannot read .*x: (there are )?{reason}.*; save the state dict again"):
        load_checkpoint(tmp_path / "x")


def write_safetensors(path, header):
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + np.arange(4, dtype=np.float32).tobytes())


def test_safetensors_in_any_order_and_empty_ones(tmp_path):
    entries = {"b": F32 | {"data_offsets": [8, 16]}, "a": F32 | {"data_offsets": [0, 8]}}
    entries |= {"empty": {"dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8]}}
    write_safetensors(tmp_path / "x", json.dumps(entries) + "   ")
    arrays = load_checkpoint(tmp_path / "x")
    assert list(arrays) == ["b", "a", "empty"]
    np.testing.assert_array_equal(arrays["b"], [2, 3])
    np.testing.assert_array_equal(arrays["a"], [0, 1])


def test_safetensors_with_a_name_twice(tmp_path):
    entry = json.dumps(F32 | {"shape": [4], "data_offsets": [0, 16]})
    write_safetensors(tmp_path / "x", f'{{"a": {entry}, "a": {entry}}}')
    with pytest.raises(ValueError, match="its header has a name twice"):
        load_checkpoint(tmp_path / "x")


def test_deep_json(tmp_path):
    header = b'{"a":' * 100_000
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match="cannot read"):
        load_checkpoint(path)
