"""op_conv.c"""
import torch
import torch.nn.functional as F

from golden import case, real, seed


def conv(function, x, w, b, **constants):
    operands = (x, w) if b is None else (x, w, b)
    case(function.__name__, lambda *in_: function(*in_, **constants), *operands, **constants)


seed("conv1d")
conv(F.conv1d, real(2, 3, 5), real(4, 3, 2), None, stride=1, padding=0, dilation=1, groups=1)
conv(F.conv1d, real(2, 3, 7), real(4, 3, 3), real(4), stride=2, padding=1, dilation=1, groups=1)
conv(F.conv1d, real(2, 4, 6), real(6, 2, 3), real(6), stride=1, padding=2, dilation=2, groups=2)
conv(F.conv1d, real(2, 3, 5), real(6, 1, 2), real(6), stride=3, padding=3, dilation=3, groups=3)  # depthwise
conv(F.conv1d, real(2, 3, 5), real(4, 3, 1), real(4), stride=1, padding=0, dilation=1, groups=1)
conv(F.conv1d, real(1, 2, 3), real(1, 2, 3), None, stride=5, padding=0, dilation=1, groups=1)

seed("conv2d")
conv(F.conv2d, real(2, 3, 4, 5), real(2, 3, 2, 3), None, stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1)
conv(F.conv2d, real(1, 2, 5, 4), real(3, 2, 3, 2), real(3), stride=[2, 1], padding=[1, 2], dilation=[1, 1],
     groups=1)
conv(F.conv2d, real(2, 4, 3, 4), real(2, 2, 2, 2), real(2), stride=[1, 2], padding=[1, 0], dilation=[2, 3],
     groups=2)
conv(F.conv2d, real(1, 3, 3, 4), real(3, 1, 2, 1), real(3), stride=[1, 1], padding=[0, 0], dilation=[1, 1],
     groups=3)

ties = torch.tensor([[0.0, 0, -1, 3, 3, 3, -2], [-1, -1, -1, -1, -1, -1, -1]])


def pool(name, function, x, kernel, stride, padding):
    case(name, lambda x: function(x, kernel, stride, padding), x, kernel=kernel, stride=stride, padding=padding)


for name, function in (("max_pool1d", F.max_pool1d), ("avg_pool1d", F.avg_pool1d)):
    seed(name)
    pool(name, function, real(2, 3, 6), 2, 2, 0)
    pool(name, function, real(3, 7), 3, 1, 1)
    pool(name, function, real(2, 1, 5), 2, 3, 1)
    pool(name, function, ties, 3, 1, 1)
    pool(name, function, ties[None], 2, 1, 0)

for name, function in (("max_pool2d", F.max_pool2d), ("avg_pool2d", F.avg_pool2d)):
    seed(name)
    pool(name, function, real(2, 3, 4, 5), [2, 2], [2, 2], [0, 0])
    pool(name, function, real(2, 5, 4), [3, 2], [1, 2], [1, 0])
    pool(name, function, real(1, 2, 3, 4), [2, 3], [1, 1], [1, 1])
    pool(name, function, ties.reshape(1, 1, 2, 7), [2, 3], [1, 1], [1, 1])
