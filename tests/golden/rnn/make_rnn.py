"""Stored answers: what PyTorch's recurrent modules compute, in f64, written down for tests/test_pytorch.c.

modules.safetensors is the state_dict of one ModuleDict with all modules: its names ("7.weight_ih_l0_reverse") are
PyTorch's own, and so are shapes and gate order. cases.safetensors has, for module 7,

    7/x                     the input, [T,B,I] or [B,T,I]
    7/h0, 7/c0              the initial states, where they are given; [L D,B,..]
    7/lengths               where the rows differ
    7/y, 7/h, 7/c           outputs and last states
    7/gy, 7/gh, 7/gc        random gradients of these
    7/dx, 7/dh0, 7/dc0      gradients of the input and the initial states for them
    7/d/weight_ih_l0 ...    and of the parameters
    metadata "7"            the configuration as JSON

    pip install torch==2.13.0 safetensors && python3 make_rnn.py
"""
import json

import torch
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

torch.set_default_dtype(torch.float64)
torch.manual_seed(1)

TIME, BATCH, INPUT, HIDDEN, PROJECTION = 5, 3, 2, 4, 3
KINDS = ["tanh", "relu", "lstm", "projected", "gru"]
ROUNDS = 3  # of the six pairs of depth and direction: 18 cases a kind, the 16 sets of options among them

modules, tensors, configurations = torch.nn.ModuleDict(), {}, {}


def module(kind, layers, bidirectional, bias, batch_first):
    same = dict(num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first)
    if kind in ("tanh", "relu"):
        return torch.nn.RNN(INPUT, HIDDEN, nonlinearity=kind, **same)
    if kind == "gru":
        return torch.nn.GRU(INPUT, HIDDEN, **same)
    return torch.nn.LSTM(INPUT, HIDDEN, proj_size=PROJECTION if kind == "projected" else 0, **same)


def draw_lengths():
    """1..T, in any order, not all the same; the longest is often less than T."""
    lengths = torch.randint(1, TIME + 1, (BATCH,))
    return lengths if lengths.min() < lengths.max() else draw_lengths()


def evaluate(net, x, initial, lengths):
    """Outputs and last states; rows of different lengths go through a packed sequence."""
    if lengths is None:
        y, last = net(x, initial)
    else:
        packed = pack_padded_sequence(x, lengths, batch_first=net.batch_first, enforce_sorted=False)
        y, last = net(packed, initial)
        y, _ = pad_packed_sequence(y, batch_first=net.batch_first, total_length=TIME)
    return y, last if isinstance(last, tuple) else (last,)


def add_case(kind, layers, bidirectional, bias, batch_first, with_initial, with_lengths):
    name = str(len(modules))
    net = module(kind, layers, bidirectional, bias, batch_first)
    modules[name] = net
    cells = layers * (2 if bidirectional else 1)
    x = torch.randn((BATCH, TIME, INPUT) if batch_first else (TIME, BATCH, INPUT), requires_grad=True)
    initial = [torch.randn(cells, BATCH, PROJECTION if kind == "projected" else HIDDEN, requires_grad=True)]
    if kind in ("lstm", "projected"):
        initial.append(torch.randn(cells, BATCH, HIDDEN, requires_grad=True))
    lengths = draw_lengths() if with_lengths else None
    given = (tuple(initial) if len(initial) > 1 else initial[0]) if with_initial else None
    y, last = evaluate(net, x, given, lengths)
    results = dict(zip(("y", "h", "c"), (y, *last)))
    leaves = {"x": x, **(dict(zip(("h0", "c0"), initial)) if with_initial else {})}
    found = {key: torch.randn_like(value) for key, value in results.items()}
    torch.autograd.backward(list(results.values()), list(found.values()))
    store = {**leaves, **results, **{f"g{key}": g for key, g in found.items()},
             **{f"d{key}": leaf.grad for key, leaf in leaves.items()},
             **{f"d/{key}": p.grad for key, p in net.named_parameters()}}
    if with_lengths:
        store["lengths"] = lengths
    for key, value in store.items():
        tensors[f"{name}/{key}"] = value.detach().clone().contiguous()
    configurations[name] = json.dumps(dict(kind=kind, layers=layers, bidirectional=int(bidirectional),
                                           bias=int(bias), batch_first=int(batch_first)))


for kind in KINDS:
    order = torch.randperm(16).tolist()
    for number in range(6 * ROUNDS):
        options = order[number % 16]
        add_case(kind, number // 2 % 3 + 1, bool(number % 2), *(bool(options >> bit & 1) for bit in range(4)))

save_file(modules.state_dict(), "modules.safetensors")
save_file(tensors, "cases.safetensors", metadata=dict(sorted(configurations.items(), key=lambda c: int(c[0]))))
print(f"{len(modules)} modules, {sum(p.numel() for p in modules.parameters())} parameters")
