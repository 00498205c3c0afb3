"""Reference networks, and weights from PyTorch checkpoints without PyTorch."""

from ._checkpoint import load_checkpoint
from ._convnext import convnext_tiny
from ._densenet import densenet121
from ._efficientnet import efficientnet_lite0, efficientnet_lite1, efficientnet_lite2
from ._efficientnet_b0 import efficientnet_b0
from ._imagenet import imagenet_classes
from ._mobilenet import mobilenet_v2
from ._preprocess import Preprocess, to_rgb
from ._pretrained import Pretrained, load_state_dict
from ._resnet import resnet18, resnet34, resnet50
from ._squeezenet import squeezenet1_1
from ._vgg import vgg16
from ._vit import vit_b_16

__all__ = [
    "Preprocess",
    "Pretrained",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "imagenet_classes",
    "load_checkpoint",
    "load_state_dict",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "squeezenet1_1",
    "to_rgb",
    "vgg16",
    "vit_b_16",
]
