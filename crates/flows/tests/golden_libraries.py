#!/usr/bin/env python3
"""Golden values, log-determinants and gradients of other libraries' layers, in float64 with PyTorch's autograd.

    pip install normflows nflows zuko && python3 golden_libraries.py > golden_libraries.json

Planar and radial layers and circular splines of normflows; reflections and rational-quadratic splines, in both directions, of nflows; affine maps of
zuko; and van den Berg et al. (2018), eq. 13, on the coordinates, with the determinant of autograd's own Jacobian. The gradients are
those of a weighted sum of values and log-determinants, in points and raw parameters.
"""
import json
import math

import torch
from nflows.transforms.orthogonal import HouseholderSequence
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline
from normflows.flows import PeriodicShift, Planar, Radial
from normflows.utils.splines import unconstrained_rational_quadratic_spline as circular_spline
from torch.func import functional_call
from torch.nn.functional import softplus
from zuko.transforms import MonotonicAffineTransform

torch.set_default_dtype(torch.float64)


def planar(z, raw):
    d = z.shape[1]
    parameters = {"u": raw[None, :d], "w": raw[None, d : 2 * d], "b": raw[2 * d :]}
    return functional_call(Planar((d,)), parameters, z)


def radial(z, raw):
    d = z.shape[1]
    parameters = {"z_0": raw[None, :d], "alpha": softplus(raw[d : d + 1]), "beta": raw[d + 1 :]}
    return functional_call(Radial((d,)), parameters, z)


def reflection(z, raw):
    return HouseholderSequence._apply_transforms(z, raw[None])


def affine(x, raw):
    map = MonotonicAffineTransform(shift=raw[1], scale=raw[0], slope=math.exp(-5))
    return map(x), map.log_abs_det_jacobian(x, map(x))[:, 0]


def spline(x, raw, inverse=False):
    bins = (len(raw) + 1) // 3
    widths, heights, slopes = torch.split(raw, [bins, bins, bins - 1])
    # Ours are 0 where nflows's are those of slope 1.
    slopes = slopes + math.log(math.exp(1 - 1e-3) - 1)
    parts = [part.expand(*x.shape, -1) for part in (widths, heights, slopes)]
    y, log_slope = unconstrained_rational_quadratic_spline(x, *parts, inverse=inverse, tail_bound=5.0)
    return y, log_slope[:, 0]


def inverse_spline(y, raw):
    return spline(y, raw, inverse=True)


def circular(x, raw, inverse=False):
    bins = len(raw) // 3
    widths, heights, slopes = torch.split(raw[:-1], [bins, bins, bins])
    slopes = slopes + math.log(math.exp(1 - 1e-3) - 1)
    parts = [part.expand(*x.shape, -1) for part in (widths, heights, slopes)]
    phase = PeriodicShift([0], bound=math.pi, shift=raw[-1])
    if inverse:
        x, _ = phase.inverse(x)
    y, log_slope = circular_spline(x, *parts, inverse=inverse, tails="circular", tail_bound=math.pi)
    if not inverse:
        y, _ = phase(y)
    return y, log_slope[:, 0]


def inverse_circular(y, raw):
    return circular(y, raw, inverse=True)


def triangular(z, raw):
    d = z.shape[1]
    square, diagonal, b = raw[: d * d].reshape(d, d), raw[d * d : d * d + d], raw[d * d + d :]
    r = torch.triu(square, 1) + torch.diag(torch.tanh(torch.diag(square)))
    r_tilde = torch.triu(square.T, 1) + torch.diag(torch.tanh(diagonal))

    def point(z):
        return z + r @ torch.tanh(r_tilde @ z + b)

    jacobians = torch.vmap(torch.func.jacrev(point))(z)
    return torch.vmap(point)(z), torch.log(torch.abs(torch.det(jacobians)))


def column(text):
    return [[float(x)] for x in text.split()]


PLANE = [[0.3, -1.2, 0.8], [-0.5, 0.25, 2.0], [0.0, 0.0, 0.0], [4.0, -3.0, 1.5]]
WIDE = "0.5 -1 2 -0.3  1 0.25 -0.75 0.6  0.4 -1.5 0.2"
ROUND = "0.5 -1 2 -0.3  1 0.25 -0.75 0.6  0.7 0.4 -1.5 0.2  2.5"
CASES = {
    "planar of normflows": ("planar", planar, PLANE, "0.9 -1.1 0.4  1.5 0.7 -0.6  0.2"),
    "planar of normflows, w·u < -1": ("planar", planar, PLANE, "-1.9 -1.1 1.4  1.5 0.7 -0.6  -0.4"),
    "radial of normflows": ("radial", radial, PLANE, "0.1 0.4 -0.7  0.5 1.2"),
    "radial of normflows, pulling": ("radial", radial, PLANE, "0.1 0.4 -0.7  1.5 -1.0"),
    "reflection of nflows": ("reflection", reflection, PLANE, "0.7 -0.4 2.5"),
    "affine of zuko": ("affine", affine, column("-2.5 -0.1 0.4 3"), "1.3 -0.7"),
    "affine of zuko, steep": ("affine", affine, column("-2.5 -0.1 0.4 3"), "-8 0.5"),
    "spline of nflows": ("spline", spline, column("-4.9 -3.5 -1.25 0.01 2.2 4.7 5.5 -7"), WIDE),
    "inverse spline of nflows": (
        "inverse-spline",
        inverse_spline,
        column("-4.9 -3.5 -1.25 0.01 2.2 4.7 5.5 -7"),
        WIDE,
    ),
    "circular spline of normflows": ("circular", circular, column("-3.1 -2.2 -1.25 0.01 0.7 2.9 3.14"), ROUND),
    "circular spline of normflows, inverse": (
        "inverse-circular",
        inverse_circular,
        column("-3.1 -2.2 -1.25 0.01 0.7 2.9 3.14"),
        ROUND,
    ),
    "circular spline of normflows, one bin": ("circular", circular, column("-3 -1 2.5"), "0 0 1.5 -4"),
    "Sylvester by autograd": (
        "triangular",
        triangular,
        PLANE,
        "0.8 1.3 0.4 -0.6 0.5 0.2 0.9 -1.1 -0.4  -0.7 0.9 0.3  0.25 -0.5 0.1",
    ),
}

out = []
for name, (kind, map, points, raw) in CASES.items():
    points = torch.tensor(points, requires_grad=True)
    raw = torch.tensor([float(x) for x in raw.split()], requires_grad=True)
    value, log_det = map(points, raw)
    log_det = log_det.expand(len(points))
    weights = torch.linspace(-1, 1.5, value.numel()).reshape(value.shape)
    of_log_det = torch.linspace(0.7, -0.4, len(points))
    ((value * weights).sum() + (log_det * of_log_det).sum()).backward()
    numbers = {
        "points": points,
        "raw": raw,
        "value": value,
        "log_det": log_det,
        "weights": weights,
        "weights_of_log_det": of_log_det,
        "of_points": points.grad,
        "of_raw": raw.grad,
    }
    flat = {key: tensor.detach().flatten().tolist() for key, tensor in numbers.items()}
    out.append({"name": name, "kind": kind, "dim": points.shape[1]} | flat)
print("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]")
