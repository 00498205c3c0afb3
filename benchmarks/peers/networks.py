"""Small PyTorch networks that the peers are run on; `tests/networks.py` has their Linen twins, name by name."""

import torch
from torch import nn
from zennit.layer import Sum


class Chain(nn.Module):
    """Convolutions with BatchNorm, max-pooling and average pooling, dense layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc1, self.fc2 = nn.Linear(8 * 2 * 2, 10), nn.Linear(10, 4)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.max_pool, self.avg_pool, self.flatten = nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten()

    def forward(self, x):
        x = self.max_pool(self.relu1(self.bn1(self.conv1(x))))
        x = self.avg_pool(self.relu2(self.bn2(self.conv2(x))))
        return self.fc2(self.relu3(self.fc1(self.flatten(x))))


class Residual(nn.Module):
    """Two residual blocks, one with a projection, then global average pooling."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.skip, self.skip_bn = nn.Conv2d(6, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.relu0, self.relu1, self.relu2 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.sum1, self.sum2 = Sum(), Sum()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x):
        x = self.relu0(self.stem_bn(self.stem(x)))
        x = self.relu1(self.sum1(torch.stack([self.bn1(self.conv1(x)), x], dim=-1)))
        x = self.relu2(self.sum2(torch.stack([self.bn2(self.conv2(x)), self.skip_bn(self.skip(x))], dim=-1)))
        return self.head(self.flatten(self.pool(x)))


class Depthwise(nn.Module):
    """An inverted residual's parts in sequence: expand, depthwise, project."""

    def __init__(self):
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(3, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.depthwise, self.bn2 = nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12, bias=False), nn.BatchNorm2d(12)
        self.project, self.bn3 = nn.Conv2d(12, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, 4)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x):
        x = self.relu1(self.bn1(self.expand(x)))
        x = self.bn3(self.project(self.relu2(self.bn2(self.depthwise(x)))))
        return self.head(self.flatten(self.pool(self.relu3(self.grouped(x)))))


class Branches(nn.Module):
    """An inception block: branches, one behind a padded average pool, concatenated."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.branch1, self.bn1 = nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.branch2, self.bn2 = nn.Conv2d(6, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.branch3, self.bn3 = nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.avg_pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.head = nn.Linear(12, 4)
        self.relu0, self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x):
        x = self.relu0(self.stem(x))
        x1 = self.relu1(self.bn1(self.branch1(x)))
        x2 = self.relu2(self.bn2(self.branch2(x)))
        x3 = self.relu3(self.bn3(self.branch3(self.avg_pool(x))))
        return self.head(self.flatten(self.pool(torch.cat([x1, x2, x3], dim=1))))


class Smooth(nn.Module):
    """No kinks, so that path integrals converge fast: tanh, softplus, average pooling."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2)
        self.fc1, self.fc2 = nn.Linear(8, 10), nn.Linear(10, 4)
        self.tanh1, self.tanh2, self.softplus = nn.Tanh(), nn.Tanh(), nn.Softplus()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()

    def forward(self, x):
        x = self.softplus(self.conv2(self.tanh1(self.conv1(x))))
        return self.fc2(self.tanh2(self.fc1(self.flatten(self.pool(x)))))


NETWORKS = {"chain": Chain, "residual": Residual, "depthwise": Depthwise, "branches": Branches, "smooth": Smooth}


def build(name):
    """One of the networks in float64 and inference mode, BatchNorm and biases far from their initial values."""
    torch.manual_seed(sorted(NETWORKS).index(name))
    network = NETWORKS[name]().double().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.mul_(2)
                if module.bias is not None:
                    module.bias.uniform_(-0.3, 0.3)
    return network


def images():
    """Two 8x8 colour images, ``(N, C, H, W)``."""
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


TARGETS = [2, 1]
