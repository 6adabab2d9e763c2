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


def gru_gates(a, u, h):
    (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3, 1), u.chunk(3, 1)
    n = torch.tanh(a_n + torch.sigmoid(a_r + u_r) * u_n)
    z = torch.sigmoid(a_z + u_z)
    return (1 - z) * n + z * h


def gru_cell(a, u, h):
    """PyTorch's own, its weights such that a and u reach the gates as they are."""
    one, zero = torch.eye(a.shape[1]), torch.zeros(a.shape[1])
    w_hh = torch.zeros(a.shape[1], h.shape[1])
    return torch.gru_cell(a, h, one, w_hh, zero, u[0])


seed("gru_gates")
case("gru_gates", gru_gates, real(3, 6), real(3, 6), real(3, 2))
case("gru_gates", gru_gates, real(2, 15), real(2, 15), real(2, 5))
case("gru_gates", gru_gates, real(1, 9, low=-30.0, high=30.0), real(1, 9, low=-30.0, high=30.0),
     real(1, 3, low=-5.0, high=5.0))
case("gru_gates", gru_gates, torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))
case("gru_gates", gru_cell, real(1, 12), real(1, 12), real(1, 4))
