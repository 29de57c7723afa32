#!/usr/bin/env python3
"""A planar flow and a RealNVP as PyTorch modules: their weights as float32, their log-densities as float64.

    pip install numpy safetensors torch && python3 pytorch.py

writes pytorch_planar.safetensors, pytorch_realnvp.safetensors and pytorch.json, beside itself. Independent of the crate:
the log-determinants are those of the whole Jacobian, by autograd, and the planar layer's inverse is found by bisection.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import softplus

DIM, LAYERS = 3, 4
HERE = Path(__file__).parent


class Planar(nn.Module):
    """Rezende & Mohamed 2015, eq. 10 and appendix A.1."""

    def __init__(self):
        super().__init__()
        self.u = nn.Parameter(torch.randn(DIM))
        self.w = nn.Parameter(torch.randn(DIM))
        self.b = nn.Parameter(torch.randn(1))

    def u_hat(self):
        wu = self.w @ self.u
        return self.u + (softplus(wu) - 1 - wu) * self.w / (self.w @ self.w)

    def forward(self, z):
        return z + torch.tanh(z @ self.w + self.b[0])[..., None] * self.u_hat()

    def inverse(self, y):
        c, s = y @ self.w, self.w @ self.u_hat()
        low, high = c - s.abs() - 1, c + s.abs() + 1
        for _ in range(200):
            middle = (low + high) / 2
            above = middle + s * torch.tanh(middle + self.b[0]) > c
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return y - torch.tanh(low + self.b[0])[..., None] * self.u_hat()


class Coupling(nn.Module):
    """An affine coupling (Dinh et al. 2016) whose log-scales stay in (-5, 5), and a permutation."""

    def __init__(self, hidden=16):
        super().__init__()
        self.kept = DIM // 2
        self.net = nn.Sequential(
            nn.Linear(self.kept, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * (DIM - self.kept)),
        )
        self.register_buffer("order", torch.randperm(DIM))

    def scale_and_shift(self, kept):
        # A log-scale and a shift for each of the other coordinates, in turn.
        a, shift = self.net(kept).unflatten(-1, (-1, 2)).unbind(-1)
        return torch.exp(a / (1 + a.abs() / 5)), shift

    def forward(self, z):
        kept, changed = z[..., : self.kept], z[..., self.kept :]
        scale, shift = self.scale_and_shift(kept)
        return torch.cat([kept, changed * scale + shift], -1)[..., self.order]

    def inverse(self, y):
        y = y[..., torch.argsort(self.order)]
        kept, changed = y[..., : self.kept], y[..., self.kept :]
        scale, shift = self.scale_and_shift(kept)
        return torch.cat([kept, (changed - shift) / scale], -1)


class Flow(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, z):
        for layer in self.layers:
            z = layer(z)
        return z

    @torch.no_grad()
    def log_prob(self, y):
        z = y
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        assert (self(z) - y).abs().max() < 1e-12
        jacobian = torch.stack([torch.autograd.functional.jacobian(self, point) for point in z])
        base = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return base - torch.linalg.slogdet(jacobian).logabsdet


if __name__ == "__main__":
    torch.manual_seed(0)
    points = 2 * torch.randn(16, DIM)
    golden = {"points": points.tolist()}
    for name, layer in (("planar", Planar), ("realnvp", Coupling)):
        flow = Flow([layer() for _ in range(LAYERS)])
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter *= 1.5  # away from the identity
        save_file(flow.state_dict(), HERE / f"pytorch_{name}.safetensors")
        golden[name] = flow.double().log_prob(points.double()).tolist()
    (HERE / "pytorch.json").write_text(json.dumps(golden, indent=1) + "\n")
