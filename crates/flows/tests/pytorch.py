#!/usr/bin/env python3
"""A planar flow, a RealNVP and a conditional MAF as PyTorch modules: their weights as float32, their log-densities as float64.

    pip install numpy safetensors torch && python3 pytorch.py

writes pytorch_planar.safetensors, pytorch_realnvp.safetensors, pytorch_maf.safetensors and pytorch.json, beside itself. Independent of the crate:
the log-determinants are those of the whole Jacobian, by autograd, and the planar layer's inverse is found by bisection.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import softplus

DIM = 3
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
    """Dinh et al. 2016, with log-scales that stay between -5 and 5."""

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

    def split(self, x):
        kept, other = x[..., : self.kept], x[..., self.kept :]
        # A log-scale and a shift for each of the others, in turn.
        a, shift = self.net(kept).unflatten(-1, (-1, 2)).unbind(-1)
        return kept, other, torch.exp(a / (1 + a.abs() / 5)), shift

    def forward(self, z):
        kept, other, scale, shift = self.split(z)
        return torch.cat([kept, other * scale + shift], -1)

    def inverse(self, y):
        kept, other, scale, shift = self.split(y)
        return torch.cat([kept, (other - shift) / scale], -1)


class MaskedLinear(nn.Linear):
    """Germain et al. 2015 (MADE): a weight that connects `sees[i]` with `to[j]` where the former is not above the latter."""

    def __init__(self, sees, to, bias=True):
        super().__init__(len(sees), len(to), bias=bias)
        mask = torch.tensor([[float(i <= j) for i in sees] for j in to])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


class Masked(nn.Module):
    """Papamakarios et al. 2017, with log-scales that stay between -5 and 5.

    Unit j of n in a hidden layer sees the first floor(j DIM / n) coordinates, and the context, which is the first layer's bias.
    """

    def __init__(self, hidden=(5, 7)):
        super().__init__()
        self.width = hidden[0]
        inputs = list(range(1, DIM + 1))
        outputs = [i for i in range(DIM) for _ in range(2)]
        sees = [inputs] + [[j * DIM // n for j in range(n)] for n in hidden] + [outputs]
        modules = []
        for i, (before, after) in enumerate(zip(sees, sees[1:])):
            modules += [MaskedLinear(before, after, bias=i > 0), nn.ReLU()]
        self.net = nn.Sequential(*modules[:-1])

    def scale_and_shift(self, x):
        first, *rest = self.net
        hidden = first(x) + self.of_context
        for module in rest:
            hidden = module(hidden)
        a, shift = hidden.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.exp(a / (1 + a.abs() / 5)), shift

    def forward(self, z):
        x = z
        for _ in range(DIM):  # One coordinate more is right after each.
            scale, shift = self.scale_and_shift(x)
            x = (z - shift) / scale
        return x

    def inverse(self, y):
        scale, shift = self.scale_and_shift(y)
        return y * scale + shift


class Permutation(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, z):
        return z[..., self.order]

    def inverse(self, y):
        return y[..., torch.argsort(self.order)]


class Flow(nn.Module):
    def __init__(self, layers, context=None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        if context is not None:
            widths = [layer.width for layer in layers if isinstance(layer, Masked)]
            self.context_layer = nn.Linear(len(context), sum(widths))

    def see(self, context):
        """Each network has columns of its own."""
        of_context = self.context_layer(context)
        for layer in self.layers:
            if isinstance(layer, Masked):
                layer.of_context, of_context = of_context[: layer.width], of_context[layer.width :]

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
    flows = {
        "planar": Flow([Planar() for _ in range(4)]),
        "realnvp": Flow([part() for _ in range(4) for part in (Coupling, lambda: Permutation(torch.randperm(DIM)))]),
    }
    context = torch.tensor([0.5, -1.25])
    reverse = torch.arange(DIM - 1, -1, -1)
    parts = [part for _ in range(3) for part in (Masked(), Permutation(reverse.clone()))]
    flows["maf"] = Flow(parts, context)
    for name, flow in flows.items():
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter *= 1.5  # away from the identity
        save_file(flow.state_dict(), HERE / f"pytorch_{name}.safetensors")
        flow.double()
        if name == "maf":
            with torch.no_grad():
                flow.see(context.double())
        golden[name] = flow.log_prob(points.double()).tolist()
    (HERE / "pytorch.json").write_text(json.dumps(golden, indent=1) + "\n")
