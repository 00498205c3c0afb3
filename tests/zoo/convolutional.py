"""Convolutional networks of the literature, true to their wiring, small in everything else."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxplain.models._layers import adaptive_average_pool
from tests.zoo.layers import ConvNormAct, SqueezeExcite, avg_pool, conv, flatten, max_pool, norm

CLASSES = 5


class VGG(nn.Module):
    """Convolutions with bias and BatchNorm, max-pooling, an adaptive pool whose cells overlap, three dense layers."""

    @nn.compact
    def __call__(self, x):
        for features in (4, 6):
            for _ in range(2):
                x = nn.relu(norm()(conv(features, bias=True)(x)))
            x = max_pool(x, 2, 2)
        x = nn.relu(nn.Dense(8)(flatten(adaptive_average_pool(x, 3))))
        return nn.Dense(CLASSES)(nn.relu(nn.Dense(8)(x)))


class BasicBlock(nn.Module):
    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        y = norm()(conv(self.features)(ConvNormAct(self.features, 3, self.stride)(x)))
        if x.shape != y.shape:
            x = norm()(conv(self.features, 1, self.stride)(x))
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """Also the block of ResNeXt and RegNet, with `groups` and a squeeze-excite gate before the last convolution."""

    features: int
    stride: int = 1
    groups: int = 1
    squeeze: int = 0

    @nn.compact
    def __call__(self, x):
        y = ConvNormAct(self.features, 1)(x)
        y = ConvNormAct(self.features, 3, self.stride, self.groups)(y)
        if self.squeeze:
            y = SqueezeExcite(self.squeeze)(y)
        y = norm()(conv(2 * self.features, 1)(y))
        if x.shape != y.shape:
            x = norm()(conv(2 * self.features, 1, self.stride)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    block: type[nn.Module]

    @nn.compact
    def __call__(self, x):
        x = max_pool(ConvNormAct(4, 7, 2)(x), 3, 2, padding=1)  # overlapping windows
        x = self.block(4)(x)
        x = self.block(6, stride=2)(self.block(4)(x))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


class PreActResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = conv(4)(x)
        for features, stride in ((4, 1), (6, 2)):
            y = nn.relu(norm()(x))
            if features != x.shape[-1]:
                x = conv(features, 1, stride)(y)
            y = conv(features, 3, stride)(y)
            x = x + conv(features)(nn.relu(norm()(y)))
        return nn.Dense(CLASSES)(nn.relu(norm()(x)).mean(axis=(1, 2)))


class DenseNet(nn.Module):
    """BN-ReLU-conv on a growing concatenation, average-pooled transitions."""

    growth: int = 3

    @nn.compact
    def __call__(self, x):
        x = max_pool(ConvNormAct(4, 3)(x), 3, 2, padding=1)
        for last in (False, True):
            for _ in range(2):
                y = conv(2 * self.growth, 1)(nn.relu(norm()(x)))
                x = jnp.concatenate([x, conv(self.growth)(nn.relu(norm()(y)))], axis=-1)
            x = nn.relu(norm()(x))
            if not last:
                x = avg_pool(conv(x.shape[-1] // 2, 1)(x), 2, 2)
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


class Inception(nn.Module):
    """Branches: 1 × 1, factorised 1 × 3 and 3 × 1, pooled; the average pool counts its padding or does not."""

    @nn.compact
    def __call__(self, x):
        x = ConvNormAct(4, 3, 2)(x)
        for count_include_pad in (True, False):
            wide = ConvNormAct(3, 1)(x)
            wide = nn.relu(norm()(nn.Conv(3, (1, 3), use_bias=False)(wide)))
            wide = nn.relu(norm()(nn.Conv(3, (3, 1), use_bias=False)(wide)))
            average = avg_pool(x, 3, 1, padding=1, count_include_pad=count_include_pad)
            branches = [ConvNormAct(2, 1)(x), wide, ConvNormAct(2, 1)(average)]
            x = jnp.concatenate(branches, axis=-1)
        reduced = [ConvNormAct(4, 3, 2)(x), max_pool(x, 3, 2, padding=1)]
        return nn.Dense(CLASSES)(jnp.concatenate(reduced, axis=-1).mean(axis=(1, 2)))


class InvertedResidual(nn.Module):
    """MobileNetV2's block; EfficientNet's MBConv with `squeeze`. Drop path is off at inference, so it is not there."""

    features: int
    stride: int = 1
    act: object = nn.relu6
    squeeze: int = 0

    @nn.compact
    def __call__(self, x):
        hidden = 3 * x.shape[-1]
        y = ConvNormAct(hidden, 1, act=self.act)(x)
        y = ConvNormAct(hidden, 3, self.stride, groups=hidden, act=self.act)(y)
        if self.squeeze:
            y = SqueezeExcite(self.squeeze, act=self.act)(y)
        y = norm()(conv(self.features, 1)(y))
        return x + y if x.shape == y.shape else y


class MobileNet(nn.Module):
    act: object = nn.relu6
    squeeze: int = 0

    @nn.compact
    def __call__(self, x):
        x = ConvNormAct(4, 3, 2, act=self.act)(x)
        for features, stride in ((4, 1), (6, 2)):
            x = InvertedResidual(features, stride, self.act, self.squeeze)(x)
        return nn.Dense(CLASSES)(ConvNormAct(10, 1, act=self.act)(x).mean(axis=(1, 2)))


class RegNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = ConvNormAct(4, 3, 2)(x)
        x = Bottleneck(4, 1, groups=2, squeeze=2)(x)
        x = Bottleneck(6, 2, groups=3, squeeze=2)(x)
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


class ConvNeXtBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        y = nn.LayerNorm()(conv(features, 7, groups=features, bias=True)(x))
        y = nn.Dense(features)(nn.gelu(nn.Dense(2 * features)(y), approximate=False))
        return x + y * self.param("layer_scale", nn.initializers.constant(1e-6), (1, 1, 1, features))


class ConvNeXt(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(conv(4, 2, 2, bias=True, padding=0)(x))
        x = conv(6, 2, 2, bias=True, padding=0)(nn.LayerNorm()(ConvNeXtBlock()(x)))
        return nn.Dense(CLASSES)(nn.LayerNorm()(ConvNeXtBlock()(x).mean(axis=(1, 2))))


def shuffle(x, groups):
    n, h, w, c = x.shape
    return x.reshape(n, h, w, groups, c // groups).swapaxes(3, 4).reshape(n, h, w, c)


class ShuffleNet(nn.Module):
    """Channels split, half of them transformed, shuffled (version 2); grouped 1 × 1 convolutions (version 1)."""

    @nn.compact
    def __call__(self, x):
        x = max_pool(ConvNormAct(8, 3)(x), 3, 2, padding=1)
        for _ in range(2):
            kept, y = jnp.split(x, 2, axis=-1)
            y = norm()(conv(4, 3, groups=4)(ConvNormAct(4, 1)(y)))
            x = shuffle(jnp.concatenate([kept, ConvNormAct(4, 1)(y)], axis=-1), 2)
        x = shuffle(ConvNormAct(8, 1, groups=2)(x), 2)
        return nn.Dense(CLASSES)(ConvNormAct(8, 3, 2, groups=8)(x).mean(axis=(1, 2)))


class StandardisedConv(nn.Module):
    """Scaled weight standardisation: the kernel is computed from parameters by the network itself."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.he_normal(), (3, 3, x.shape[-1], self.features))
        gain = self.param("scale", nn.initializers.ones, (1, 1, 1, self.features))
        bias = self.param("bias", nn.initializers.zeros, (1, 1, 1, self.features))
        mean, var = (s(kernel, axis=(0, 1, 2), keepdims=True) for s in (jnp.mean, jnp.var))
        kernel = gain * (kernel - mean) * jax.lax.rsqrt(var * kernel[..., 0].size + 1e-4)
        layout = ("NHWC", "HWIO", "NHWC")
        strides = (self.stride, self.stride)
        return jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=layout) + bias


class NormaliserFree(nn.Module):
    """NFNet: scaled activations, residual branches scaled down before and up after, a learned skip gain."""

    @nn.compact
    def __call__(self, x):
        act = lambda x: nn.relu(x) * 1.7139588594436646
        x = StandardisedConv(4, 2)(x)
        for beta in (0.9, 0.8):
            y = StandardisedConv(4)(act(x) * beta)
            x = x + 0.2 * StandardisedConv(4)(act(y)) * self.param(f"scale_{beta}", nn.initializers.zeros, (1, 1, 1, 1))
        return nn.Dense(CLASSES)(act(x).mean(axis=(1, 2)))


class UNet(nn.Module):
    """Down, up by a transposed convolution and by nearest-neighbour resizing, skips concatenated, then a classifier."""

    @nn.compact
    def __call__(self, x):
        fine = ConvNormAct(4)(x)
        middle = ConvNormAct(6)(max_pool(fine, 2, 2))
        coarse = ConvNormAct(8)(max_pool(middle, 2, 2))
        up = nn.relu(nn.ConvTranspose(4, (2, 2), (2, 2), padding="VALID")(coarse))
        up = ConvNormAct(4)(jnp.concatenate([up, middle], axis=-1))
        up = up.repeat(2, axis=1).repeat(2, axis=2)
        return nn.Dense(CLASSES)(ConvNormAct(4)(jnp.concatenate([up, fine], axis=-1)).mean(axis=(1, 2)))


class Tied(nn.Module):
    """One convolution and one dense layer, each called twice."""

    tied: bool = True

    @nn.compact
    def __call__(self, x):
        twice = lambda make, name: [make(name=name)] * 2 if self.tied else [make(name=name), make(name=f"{name}_again")]
        x = nn.relu(nn.Conv(4, (3, 3), (2, 2), name="stem")(x))
        first, second = twice(lambda name: nn.Conv(4, (3, 3), name=name), "conv")
        x = nn.relu(second(nn.relu(first(x)))).mean(axis=(1, 2))
        first, second = twice(lambda name: nn.Dense(4, name=name), "dense")
        return nn.Dense(CLASSES, name="head")(nn.relu(second(nn.relu(first(x)))))

    @staticmethod
    def untie(variables):
        """The variables of the network with ``tied=False`` that computes the same."""
        params = variables["params"]
        return {"params": params | {f"{name}_again": params[name] for name in ("conv", "dense")}}


NETWORKS = {
    "vgg": VGG(),
    "resnet_basic": ResNet(BasicBlock),
    "resnet_bottleneck": ResNet(Bottleneck),
    "resnet_preactivation": PreActResNet(),
    "densenet": DenseNet(),
    "inception": Inception(),
    "mobilenet_v2": MobileNet(),
    "efficientnet": MobileNet(nn.silu, squeeze=2),
    "regnet": RegNet(),
    "convnext": ConvNeXt(),
    "shufflenet": ShuffleNet(),
    "normaliser_free": NormaliserFree(),
    "unet": UNet(),
    "tied": Tied(),
}
