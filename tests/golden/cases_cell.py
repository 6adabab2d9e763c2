"""op_cell.c"""
import torch

from golden import case, real, seed


def lstm_gates(a, c):
    i, f, g, o = a.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.stack((torch.sigmoid(o) * torch.tanh(c), c))


seed("lstm_gates")
case("lstm_gates", lstm_gates, real(3, 8), real(3, 2))
case("lstm_gates", lstm_gates, real(2, 20), real(2, 5))
case("lstm_gates", lstm_gates, real(1, 12, low=-30.0, high=30.0), real(1, 3, low=-5.0, high=5.0))
case("lstm_gates", lstm_gates, torch.zeros(2, 4), torch.zeros(2, 1))
