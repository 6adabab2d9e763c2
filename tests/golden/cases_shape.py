"""op_shape.c, op_arrange.c, op_window.c"""
import torch
import torch.nn.functional as F
from golden import case, index, mask, real, seed

# ---- op_shape.c --------------------------------------------------------------------------------

seed("detach")
case("detach", lambda x: x.detach(), real(2, 3))
case("detach", lambda x: x.detach(), real())
case("detach", lambda x: x.detach(), index(4, below=9))

seed("contiguous")
case("contiguous", lambda x: x.contiguous(), real(2, 3))
case("contiguous", lambda x: x.contiguous(), real())
case("contiguous", lambda x: x.contiguous(), mask(3, 2))

seed("reshape")
case("reshape", lambda x: x.reshape(6, 4), real(2, 3, 4), shape=[6, 4])
case("reshape", lambda x: x.reshape(1, 1), real(), shape=[1, 1])
case("reshape", lambda x: x.reshape(()), real(1, 1), shape=[])
case("reshape", lambda x: x.reshape(2, 0, 5), real(0, 3), shape=[2, 0, 5])

seed("permute")
case("permute", lambda x: x.permute(2, 0, 1), real(2, 3, 4), order=[2, 0, 1])
case("permute", lambda x: x.permute(1, 0), real(5, 3), order=[1, 0])
case("permute", lambda x: x.permute(()), real(), order=[])

seed("expand")
case("expand", lambda x: x.expand(2, 3, 4), real(3, 1), shape=[2, 3, 4])
case("expand", lambda x: x.expand(3, 2), real(), shape=[3, 2])
case("expand", lambda x: x.expand(0, 3), real(1, 3), shape=[0, 3])

seed("slice")
case("slice", lambda x: x[:, 1:6:2], real(2, 7, 3), dim=1, start=1, stop=6, step=2)
case("slice", lambda x: x[2:4], real(5, 3), dim=0, start=2, stop=4, step=1)
case("slice", lambda x: x[:, 3:3], real(2, 3), dim=1, start=3, stop=3, step=1)


def unslice(x, dim, start, step, size):
    y = torch.zeros(*x.shape[:dim], size, *x.shape[dim + 1:])
    return y.slice_scatter(x, dim, start, start + (x.shape[dim] - 1) * step + 1, step)


seed("unslice")
case("unslice", lambda x: unslice(x, 1, 1, 2, 7), real(2, 3, 4), dim=1, start=1, step=2, size=7)
case("unslice", lambda x: unslice(x, 0, 3, 1, 5), real(2, 3), dim=0, start=3, step=1, size=5)
case("unslice", lambda x: unslice(x, 1, 0, 4, 9), real(2, 3), dim=1, start=0, step=4, size=9)

seed("select")
case("select", lambda x: x.select(1, 3), real(2, 5, 3), dim=1, index=3)
case("select", lambda x: x.select(0, 0), real(4), dim=0, index=0)
case("select", lambda x: x.select(2, 1), real(2, 0, 3), dim=2, index=1)

seed("concat")
case("concat", lambda *x: torch.cat(x, 1), real(2, 3), real(2, 1), real(2, 4), dim=1)
case("concat", lambda *x: torch.cat(x, 0), real(2, 3), real(0, 3), dim=0)
case("concat", lambda *x: torch.cat(x, 0), real(3), dim=0)

seed("stack")
case("stack", lambda *x: torch.stack(x, 1), real(2, 4), real(2, 4), real(2, 4), dim=1)
case("stack", lambda *x: torch.stack(x, 0), real(), real(), dim=0)
case("stack", lambda *x: torch.stack(x, 2), real(2, 3), real(2, 3), dim=2)

# ---- op_arrange.c ------------------------------------------------------------------------------

seed("transpose")
case("transpose", lambda x: x.transpose(0, 1), real(2, 3), dim0=0, dim1=1)
case("transpose", lambda x: x.transpose(2, 0), real(2, 3, 4), dim0=2, dim1=0)
case("transpose", lambda x: x.transpose(1, 1), real(2, 3), dim0=1, dim1=1)

seed("flatten")
case("flatten", lambda x: x.flatten(0, 2), real(2, 3, 4), start_dim=0, end_dim=2)
case("flatten", lambda x: x.flatten(1, 2), real(2, 3, 2, 2), start_dim=1, end_dim=2)
case("flatten", lambda x: x.flatten(1, 1), real(2, 3), start_dim=1, end_dim=1)
case("flatten", lambda x: x.flatten(), real(), start_dim=0, end_dim=0)
case("flatten", lambda x: x.flatten(), real(2, 0, 3), start_dim=0, end_dim=2)

seed("squeeze")
case("squeeze", lambda x: x.squeeze(1), real(2, 1, 3), dim=1)
case("squeeze", lambda x: x.squeeze(0), real(2, 3), dim=0)
case("squeeze", lambda x: x.squeeze(0), real(1), dim=0)
case("squeeze", lambda x: x.squeeze(0), real(), dim=0)

seed("unsqueeze")
case("unsqueeze", lambda x: x.unsqueeze(1), real(2, 3), dim=1)
case("unsqueeze", lambda x: x.unsqueeze(2), real(2, 3), dim=2)
case("unsqueeze", lambda x: x.unsqueeze(0), real(), dim=0)

seed("flip")
case("flip", lambda x: x.flip(0), real(5), dims=[0])
case("flip", lambda x: x.flip(2, 0), real(2, 3, 4), dims=[2, 0])
case("flip", lambda x: x.flip(()), real(2, 3), dims=[])
case("flip", lambda x: x.flip(1), real(2, 0), dims=[1])
case("flip", lambda x: x.flip(0), real(), dims=[0])
case("flip", lambda x: x.flip(0, 1), mask(3, 4), dims=[0, 1])

seed("roll")
case("roll", lambda x: x.roll(2, 0), real(5), shift=2, dim=0)
case("roll", lambda x: x.roll(-1, 1), real(2, 5, 3), shift=-1, dim=1)
case("roll", lambda x: x.roll(-11, 1), real(3, 4), shift=-11, dim=1)
case("roll", lambda x: x.roll(8, 1), real(3, 4), shift=8, dim=1)
case("roll", lambda x: x.roll(1, 0), real(0, 4), shift=1, dim=0)

seed("repeat")
case("repeat", lambda x: x.repeat(2), real(3), repeats=[2])
case("repeat", lambda x: x.repeat(2, 1, 3), real(2, 3), repeats=[2, 1, 3])
case("repeat", lambda x: x.repeat(2, 3), real(), repeats=[2, 3])
case("repeat", lambda x: x.repeat(2, 0), real(2, 3), repeats=[2, 0])
case("repeat", lambda x: x.repeat(1, 1, 1), real(2, 3), repeats=[1, 1, 1])
case("repeat", lambda x: x.repeat(1, 2, 2, 2, 1), real(1, 2, 1, 2, 2), repeats=[1, 2, 2, 2, 1])

# ---- op_window.c -------------------------------------------------------------------------------


def unfold(x, dim, size, step, dilation):
    last = x.shape[dim] - (size - 1) * dilation
    parts = [x.narrow(dim, k * dilation, last) for k in range(size)]
    return torch.stack(parts, -1).index_select(dim, torch.arange(0, last, step))


seed("unfold")
case("unfold", lambda x: x.unfold(0, 3, 2), real(8), dim=0, size=3, step=2, dilation=1)
case("unfold", lambda x: x.unfold(1, 4, 1), real(2, 6, 3), dim=1, size=4, step=1, dilation=1)
case("unfold", lambda x: x.unfold(1, 2, 5), real(2, 9), dim=1, size=2, step=5, dilation=1)
case("unfold", lambda x: unfold(x, 0, 3, 2, 2), real(8, 2), dim=0, size=3, step=2, dilation=2)
case("unfold", lambda x: x.unfold(1, 3, 1), real(0, 3), dim=1, size=3, step=1, dilation=1)
# The columns of torch.nn.functional.unfold, two windows one after the other.
case("unfold", lambda x: F.unfold(x[None, None, :, None], (3, 1), dilation=(3, 1), stride=(2, 1))[0].T,
     real(11), dim=0, size=3, step=2, dilation=3)


def fold(x, length, size, step, dilation):
    """x: [count,size]"""
    return F.fold(x.T[None], (length, 1), (size, 1), dilation=(dilation, 1), stride=(step, 1)).reshape(length)


seed("fold")
case("fold", lambda x: fold(x, 9, 4, 2, 1), real(3, 4), dim=0, length=9, step=2, dilation=1)
case("fold", lambda x: fold(x, 12, 2, 1, 3), real(9, 2), dim=0, length=12, step=1, dilation=3)
case("fold", lambda x: fold(x, 10, 2, 3, 1), real(3, 2), dim=0, length=10, step=3, dilation=1)
case("fold", lambda x: torch.stack([fold(x[:, k], 6, 2, 2, 2) for k in range(3)], 1), real(2, 3, 2),
     dim=0, length=6, step=2, dilation=2)

seed("pad")
case("pad", lambda x: F.pad(x, (1, 2)), real(2, 3), pads=[1, 2], value=0)
case("pad", lambda x: F.pad(x, (0, 1, 3, 2), value=0.5), real(2, 3, 2), pads=[0, 1, 3, 2], value=0.5)
case("pad", lambda x: F.pad(x, (0, 0, 1, 0, 0, 2), value=float("-inf")), real(2, 1, 3), pads=[0, 0, 1, 0, 0, 2],
     value="-inf")
case("pad", lambda x: F.pad(x, (2, 1), value=3.0), real(2, 0), pads=[2, 1], value=3)
case("pad", lambda x: F.pad(x, (1, 1), value=1), mask(2, 3), pads=[1, 1], value=1)
