"""Stored answers: what PyTorch computes for an op, in f64, written down for tests/test_golden.c.

Each cases_*.py calls case() for the ops of one op_*.c and becomes one .safetensors file:

    add/0/x0, add/0/x1      the operands
    add/0/y                 the value
    add/0/g                 a random gradient of y
    add/0/d0, add/0/d1      the gradients of the real operands for it
    metadata "add/0"        the op's constants as JSON, for tl_apply_named

    pip install torch==2.13.0 safetensors && python3 make.py [family ...]
"""
import json
import zlib

import torch
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)

tensors, constants_of, counts = {}, {}, {}
_random = torch.Generator().manual_seed(1)


def real(*shape, low=-2.0, high=2.0):
    """Uniform numbers; a fixed sequence, started anew for each op."""
    return low + (high - low) * torch.rand(shape, generator=_random)


def index(*shape, below):
    return torch.randint(0, below, shape, generator=_random)


def mask(*shape):
    return torch.randint(0, 2, shape, generator=_random, dtype=torch.uint8)


def seed(op):
    """Call before making the operands of an op: adding a case elsewhere then changes nothing here."""
    _random.manual_seed(zlib.crc32(op.encode()))


def case(op, function, *operands, **constants):
    """One case: `function` of the operands in PyTorch is what the op of that name must give."""
    name = f"{op}/{counts.setdefault(op, 0)}"
    counts[op] += 1
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in operands]
    y = function(*leaves)
    for k, x in enumerate(operands):
        tensors[f"{name}/x{k}"] = x.detach().clone().contiguous()
    stored = y.to(torch.uint8) if y.dtype == torch.bool else y
    tensors[f"{name}/y"] = stored.detach().clone().contiguous()
    reals = [k for k, x in enumerate(leaves) if x.requires_grad]
    if y.is_floating_point():
        g = torch.randn(y.shape, generator=_random)
        tensors[f"{name}/g"] = g
        grads = [torch.zeros_like(leaves[k]) for k in reals]
        if y.requires_grad:
            found = torch.autograd.grad(y, [leaves[k] for k in reals], g, allow_unused=True)
            grads = [zero if d is None else d for zero, d in zip(grads, found)]
        for k, d in zip(reals, grads):
            tensors[f"{name}/d{k}"] = d.detach().clone().contiguous()
    constants_of[name] = json.dumps(constants)


def write(path):
    save_file(tensors, path, metadata=dict(sorted(constants_of.items())))
    print(f"{path}: {len(counts)} ops, {len(constants_of)} cases")
    tensors.clear(), constants_of.clear(), counts.clear()
