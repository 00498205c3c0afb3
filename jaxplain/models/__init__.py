"""Reference networks, and weights from PyTorch checkpoints without PyTorch."""

from .checkpoint import load_checkpoint as load_checkpoint
from .densenet import densenet121 as densenet121
from .efficientnet import efficientnet_lite0 as efficientnet_lite0
from .imagenet import imagenet_classes as imagenet_classes
from .mobilenet import mobilenet_v2 as mobilenet_v2
from .preprocess import Preprocess as Preprocess
from .preprocess import to_rgb as to_rgb
from .pretrained import Pretrained as Pretrained
from .pretrained import load_state_dict as load_state_dict
from .resnet import resnet18 as resnet18
from .resnet import resnet50 as resnet50
from .vgg import vgg16 as vgg16
