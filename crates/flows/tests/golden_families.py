#!/usr/bin/env python3
"""Golden values of radial, Householder and Sylvester layers and of splines, from the papers' formulas as printed, at 60
digits.

    pip install mpmath && python3 golden_families.py > golden_families.json

Independent of the crate: determinants as printed or of the whole Jacobian, softplus and softmax as they are defined, Q by
Gram and Schmidt once.
"""
import json
from mpmath import mp, mpf, tanh, exp, log, sqrt, matrix, det, eye, diag

mp.dps = 60
LEAST, BOUND = mpf("0.001"), 5


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def softplus(x):
    return log(1 + exp(x))


def radial(z, raw):
    """Rezende & Mohamed (2015), eq. 14, and their constraint of appendix A.2."""
    d = len(z)
    z0, alpha = raw[:d], softplus(raw[d])
    beta = -alpha + softplus(raw[d + 1])
    out = [a - b for a, b in zip(z, z0)]
    r = sqrt(dot(out, out))
    h, h_slope = 1 / (alpha + r), -1 / (alpha + r) ** 2
    value = [a + beta * h * b for a, b in zip(z, out)]
    return value, log((1 + beta * h) ** (d - 1) * (1 + beta * h + beta * h_slope * r))


def householder(z, raw):
    """Tomczak & Welling (2016), eq. 8."""
    along = 2 * dot(raw, z) / dot(raw, raw)
    return [a - along * v for a, v in zip(z, raw)], mpf(0)


def sylvester(z, raw, basis, count):
    """van den Berg et al. (2018), eq. 13; the determinant is that of the Jacobian, d by d."""
    d = len(z)
    if basis == "orthogonal":
        vectors = [raw[i * d : (i + 1) * d] for i in range(count)]
        for i in range(count):
            for j in range(i):
                along = dot(vectors[i], vectors[j])
                vectors[i] = [a - along * b for a, b in zip(vectors[i], vectors[j])]
            length = sqrt(dot(vectors[i], vectors[i]))
            vectors[i] = [a / length for a in vectors[i]]
        q, raw = matrix(vectors).T, raw[count * d :]
    elif basis == "householder":
        q = eye(d)
        for i in range(count):
            v = matrix(raw[i * d : (i + 1) * d])
            q = q * (eye(d) - 2 * v * v.T / (v.T * v)[0])
        raw = raw[count * d :]
    else:
        q = eye(d)
    m = q.cols
    square = matrix([raw[i * m : (i + 1) * m] for i in range(m)])
    diagonal, b = raw[m * m : m * m + m], matrix(raw[m * m + m :])
    r, r_tilde = matrix(m, m), matrix(m, m)
    for i in range(m):
        r[i, i], r_tilde[i, i] = tanh(square[i, i]), tanh(diagonal[i])
        for j in range(i + 1, m):
            r[i, j], r_tilde[i, j] = square[i, j], square[j, i]
    p = r_tilde * q.T * matrix(z) + b
    t = matrix([tanh(x) for x in p])
    value = matrix(z) + q * r * t
    jacobian = eye(d) + q * r * diag([1 - x**2 for x in t]) * r_tilde * q.T
    return list(value), log(abs(det(jacobian)))


def spline(x, raw, bins):
    """Durkan et al. (2019), eq. 4 and 5."""
    if abs(x) >= BOUND:
        return x, mpf(0)

    def lengths(raw):
        total = sum(exp(a) for a in raw)
        return [2 * BOUND * (LEAST + (1 - LEAST * bins) * exp(a) / total) for a in raw]

    widths, heights = lengths(raw[:bins]), lengths(raw[bins : 2 * bins])
    shift = log(exp(1 - LEAST) - 1)
    slopes = [mpf(1), *(LEAST + softplus(a + shift) for a in raw[2 * bins :]), mpf(1)]
    x_k, y_k = mpf(-BOUND), mpf(-BOUND)
    for k in range(bins):
        if x < x_k + widths[k]:
            break
        x_k, y_k = x_k + widths[k], y_k + heights[k]
    s, xi = heights[k] / widths[k], (x - x_k) / widths[k]
    around, below = xi * (1 - xi), slopes[k] + slopes[k + 1] - 2 * heights[k] / widths[k]
    y = y_k + heights[k] * (s * xi**2 + slopes[k] * around) / (s + below * around)
    rise = slopes[k + 1] * xi**2 + 2 * s * around + slopes[k] * (1 - xi) ** 2
    return y, log(s**2 * rise / (s + below * around) ** 2)


def numbers(text):
    return [mpf(x) for x in text.split()]


VECTOR = {
    "radial": ("radial", 0, ["0.3 -1.2 0.8", "0.1 0.4 -0.7 0.5 1.2"]),
    "radial, beta at its bound": ("radial", 0, ["0.3 -1.2 0.8", "0.1 0.4 -0.7 2 -30"]),
    "radial, in its centre": ("radial", 0, ["0.5 -0.25", "0.5 -0.25 0.5 1.5"]),
    "radial, far": ("radial", 0, ["3e5 -2e5", "0.5 -0.25 0.5 1.5"]),
    "householder": ("reflection", 0, ["0.3 -1.2 0.8", "0.7 -0.4 2.5"]),
    "sylvester, orthogonal": (
        "orthogonal",
        2,
        ["0.3 -1.2 0.8", "0.7 -0.4 1.5  1.1 0.3 -0.2  0.8 -1.3 0.4 -0.6  1.7 -0.9  0.25 -0.5"],
    ),
    "sylvester, householder": (
        "householder",
        2,
        ["0.3 -1.2", "0.7 -0.4  1.1 0.3  -0.8 1.3 0.4 0.6  0.7 0.9  0.25 -0.5"],
    ),
    "sylvester, triangular": ("triangular", 0, ["0.3 -1.2", "0.8 1.3 0.4 -0.6  -0.7 0.9  0.25 -0.5"]),
    "sylvester, r r~ = -1 to the last digit of f32": (
        "triangular",
        0,
        ["0.01 -0.02", "12 0.5 0.25 9  -12 -9  0 0"],
    ),
}
WIDE = "0.5 -1 2  1 0.25 -0.75  0.4 -1.5"
SPLINES = {
    "spline, first bin": ("-3.5", WIDE),
    "spline, middle bin": ("-1.25", WIDE),
    "spline, last bin": ("4.5", WIDE),
    "spline, at the edge": ("4.9999", WIDE),
    "spline, beyond": ("-5.5", WIDE),
    "spline, steep": ("0.01", "-8 9 -8  9 -8 -8  12 -12"),
}

out = []
for name, (kind, count, (z, raw)) in VECTOR.items():
    z, raw = numbers(z), numbers(raw)
    if kind == "radial":
        value, log_det = radial(z, raw)
    elif kind == "reflection":
        value, log_det = householder(z, raw)
    else:
        value, log_det = sylvester(z, raw, kind, count)
    out.append({"name": name, "kind": kind, "count": count})
    out[-1] |= {"z": [float(x) for x in z], "raw": [float(x) for x in raw]}
    out[-1] |= {"value": [float(x) for x in value], "log_det": float(log_det)}
for name, (x, raw) in SPLINES.items():
    x, raw = mpf(x), numbers(raw)
    y, log_det = spline(x, raw, (len(raw) + 1) // 3)
    out.append({"name": name, "kind": "spline", "count": (len(raw) + 1) // 3, "z": [float(x)]})
    out[-1] |= {"raw": [float(a) for a in raw], "value": [float(y)], "log_det": float(log_det)}
print(json.dumps(out, indent=1))
