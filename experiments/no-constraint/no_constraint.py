#!/usr/bin/env python3
"""What a planar posterior reports where nothing keeps its layers invertible, and what its density is.

Trains the paper's VAE (784 - 400 maxout(4) - 40, Adam 1e-3, batch 100, dynamic binarisation) with K planar layers
z + u tanh(w.z + b) whose u is taken as it comes, and log |1 + w.u h'| as the log-determinant, as several public
implementations do; or with the paper's u-hat (--constraint). Where w.u < -1 a layer folds: several points go to the same
one, and the density there is the sum over all of them. `honest_log_q` finds them, layer by layer from the last to the
first, by bisection along w.

    no_constraint.py MNIST_FOLDER --layers 20 --epochs 20
    no_constraint.py --check          the honest density of folding layers beside the shares of samples
"""

import argparse
import gzip
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

PIXELS, UNITS, WINDOW, LATENT = 784, 400, 4, 40
TRAINING = 50_000
# Of the gradient, which is of this size: without a limit the bound fell to -17,812 in epoch 16.
NORM = 100
LN_2_PI = math.log(2 * math.pi)


def images(folder, name):
    """The images of an IDX file, gzipped or not, as grey levels from 0 to 1."""
    for path in [folder / name, folder / f"{name}.gz"]:
        if path.is_file():
            data = path.read_bytes()
            data = gzip.decompress(data) if path.suffix == ".gz" else data
            if data[:4] != b"\0\0\x08\x03":
                raise SystemExit(f"{path} is no IDX file of images")
            pixels = np.frombuffer(data, np.uint8, offset=16).astype(np.float32)
            return torch.from_numpy(pixels.reshape(-1, PIXELS) / 255)
    raise SystemExit(f"found neither {name} nor {name}.gz in {folder}: name the folder of MNIST's IDX files")


class Maxout(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.linear = nn.Linear(inputs, units * WINDOW)

    def forward(self, x):
        return self.linear(x).unflatten(-1, (-1, WINDOW)).amax(-1)


class Vae(nn.Module):
    def __init__(self, layers, constraint):
        super().__init__()
        self.layers, self.constraint = layers, constraint
        self.encoder = Maxout(PIXELS, UNITS)
        self.base = nn.Linear(UNITS, 2 * LATENT)
        self.head = nn.Linear(UNITS, layers * (2 * LATENT + 1))
        self.decoder = Maxout(LATENT, UNITS)
        self.logits = nn.Linear(UNITS, PIXELS)

    def posterior(self, x):
        """Mean and log-variance of z_0, and u, w, b and w.u of the layers: [batch, layers, ...]."""
        h = self.encoder(x)
        mean, log_var = self.base(h).chunk(2, dim=-1)
        raw = self.head(h).view(-1, self.layers, 2 * LATENT + 1)
        u, w, b = raw.split([LATENT, LATENT, 1], dim=-1)
        wu = (w * u).sum(-1)
        if self.constraint:
            wu_hat = F.softplus(wu) - 1
            u = u + ((wu_hat - wu) / (w * w).sum(-1)).unsqueeze(-1) * w
            wu = wu_hat
        return mean, log_var, u, w, b.squeeze(-1), wu

    def log_joint(self, x, z):
        logits = self.logits(self.decoder(z))
        log_x = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return log_x - 0.5 * (LN_2_PI + z * z).sum(-1)


def log_base(posterior, z):
    mean, log_var = posterior[:2]
    return -0.5 * (LN_2_PI + log_var + (z - mean) ** 2 * (-log_var).exp()).sum(-1)


def sample(posterior, eps):
    """z_K and the ln q that is reported of it."""
    mean, log_var, u, w, b, wu = posterior
    z = mean + (0.5 * log_var).exp() * eps
    log_q = -0.5 * (LN_2_PI + log_var + eps * eps).sum(-1)
    for k in range(u.shape[1]):
        t = torch.tanh((z * w[:, k]).sum(-1) + b[:, k])
        z = z + u[:, k] * t.unsqueeze(-1)
        log_q = log_q - (1 + wu[:, k] * (1 - t * t)).abs().log()
    return z, log_q


def roots(s, b, target):
    """All a with a + s tanh(a + b) = target, as [3, n] with NaN where there are fewer: one on each piece of the line on which
    the left side is monotone."""
    folds = s < -1
    # 1 + s (1 - tanh^2) = 0 at the ends of the pieces.
    turn = torch.where(folds, torch.atanh((1 + 1 / s.clamp(max=-1 - 1e-12)).clamp(0, 1 - 1e-15).sqrt()), 0.0)
    left, right = -turn - b, turn - b
    low, high = target - s.abs() - 1, target + s.abs() + 1
    ends = [(low, torch.where(folds, left, high)), (left, right), (right, high)]
    found = []
    for i, (low, high) in enumerate(ends):
        side = lambda a: a + s * torch.tanh(a + b) - target
        from_, to = side(low), side(high)
        there = (from_ * to <= 0) & (low <= high) & (folds if i else torch.ones_like(folds))
        rising = from_ < to
        for _ in range(80):
            middle = (low + high) / 2
            below = (side(middle) < 0) == rising
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        found.append(torch.where(there, (low + high) / 2, torch.nan))
    return torch.stack(found)


def honest_log_q(posterior, z, most):
    """ln q(z) of one image's posterior, summed over the points that the layers take to z, and how many these are.

    In f64. When there are more than `most`, those stay whose determinants are smallest: the sum is too low then, and so is
    what it says of the reported bound's excess.
    """
    _, _, u, w, b, wu = posterior
    points, log_det = z.reshape(1, -1), torch.zeros(1, dtype=z.dtype)
    for k in reversed(range(u.shape[1])):
        s, bias, n = wu[0, k], b[0, k], len(points)
        a = roots(s.expand(n), bias.expand(n), points @ w[0, k])
        t = torch.tanh(a + bias)
        before = points.unsqueeze(0) - t.unsqueeze(-1) * u[0, k]
        dets = log_det + (1 + s * (1 - t * t)).abs().log()
        there = a.isfinite()
        points, log_det = before[there], dets[there]
        if len(points) > most:
            keep = log_det.argsort()[:most]
            points, log_det = points[keep], log_det[keep]
    return torch.logsumexp(log_base([p[:1] for p in posterior], points) - log_det, 0), len(points)


def check():
    """Three layers in two dimensions, two of which fold: the share of many samples in small boxes, and the mean of the honest
    density over random points of each. Four and a half standard errors are allowed to each of five boxes."""
    n, inside, half, generator = 4_000_000, 400, 0.15, torch.Generator().manual_seed(0)
    w = torch.tensor([[[1.0, 0.5], [-0.4, 1.2], [0.8, -0.6]]], dtype=torch.float64)
    b = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
    wu = torch.tensor([[-3.0, -2.5, 0.5]], dtype=torch.float64)
    u = w * (wu / (w * w).sum(-1)).unsqueeze(-1)
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    posterior = [zeros, zeros, u, w, b, wu]
    eps = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    z, reported = sample(posterior, eps)
    for middle, own in zip(z[:5], reported[:5]):
        assert honest_log_q(posterior, middle, 99)[0] > own - 1e-6, "a sample's own way was not found"
        share = float(((z - middle).abs() < half).all(1).double().mean())
        places = middle + half * (2 * torch.rand(inside, 2, generator=generator, dtype=torch.float64) - 1)
        found = [honest_log_q(posterior, place, 99) for place in places]
        masses = torch.stack([log for log, _ in found]).exp() * (2 * half) ** 2
        error = math.hypot(float(masses.std()) / math.sqrt(inside), math.sqrt(share / n))
        print(f"share {share:.5f}, by the density {float(masses.mean()):.5f} ± {error:.5f}, "
              f"points before a point {sorted({m for _, m in found})}")
        assert abs(share - float(masses.mean())) < 4.5 * error


def train(vae, data, epochs, seed, save):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        total, order = 0.0, torch.randperm(len(data), generator=generator)
        for batch in order.split(100):
            x = torch.bernoulli(data[batch], generator=generator)
            eps = torch.randn(len(x), LATENT, generator=generator)
            z, log_q = sample(vae.posterior(x), eps)
            bound = vae.log_joint(x, z) - log_q
            optimizer.zero_grad()
            (-bound.mean()).backward()
            nn.utils.clip_grad_norm_(vae.parameters(), NORM)
            optimizer.step()
            total += float(bound.detach().sum())
        print(f"epoch {epoch}/{epochs}  reported bound {total / len(data):.2f}", flush=True)
        if save:
            torch.save(vae.state_dict(), save)


def mean(values):
    values = torch.as_tensor(values, dtype=torch.float64)
    return f"{values.mean():.3f} ± {values.std() / math.sqrt(len(values)):.3f}"


@torch.no_grad()
def evaluate(vae, data, count, samples, most, seed):
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.bernoulli(data, generator=generator)
    posterior = vae.posterior(x)
    eps = torch.randn(len(x), LATENT, generator=generator)
    z, log_q = sample(posterior, eps)
    wu = posterior[-1]
    folding = wu < -1
    print(f"{len(x)} test images: reported bound {mean(vae.log_joint(x, z) - log_q)}")
    print(f"layers x images with w.u < -1: {int(folding.sum())} of {folding.numel()}; "
          f"images with one at least: {int(folding.any(1).sum())}; least w.u {float(wu.min()):.2f}")
    print(f"by layer: {folding.sum(0).tolist()}")
    vae = vae.double()
    reported, honest, numbers, weights = [], [], [], [[], []]
    for i in range(count):
        one = x[i : i + 1].double()
        posterior = vae.posterior(one)
        eps = torch.randn(samples, LATENT, generator=generator).double()
        z, log_q = sample([p.expand(samples, *p.shape[1:]) for p in posterior], eps)
        found = [honest_log_q(posterior, point, most) for point in z]
        truth = torch.stack([log for log, _ in found])
        if not (truth - log_q > -1e-4).all() and all(n < most for _, n in found):
            raise SystemExit(f"image {i}: a sample's own way was not found")
        joint = vae.log_joint(one.expand(samples, -1), z)
        reported.append(float((joint - log_q).mean()))
        honest.append(float((joint - truth).mean()))
        numbers += [n for _, n in found]
        for log, q in zip(weights, [log_q, truth]):
            log.append(float(torch.logsumexp(joint - q, 0) - math.log(samples)))
    difference = [a - b for a, b in zip(reported, honest)]
    print(f"first {count} of them, {samples} samples each:")
    print(f"  bound      reported {mean(reported)}, honest {mean(honest)}, reported - honest {mean(difference)}, "
          f"largest {max(difference):.2f}")
    print(f"  NLL({samples})  reported {mean([-w for w in weights[0]])}, honest {mean([-w for w in weights[1]])}, "
          f"honest - reported {mean([a - b for a, b in zip(*weights)])}")
    numbers = torch.tensor(numbers, dtype=torch.float64)
    print(f"  points that lead to a sample: mean {numbers.mean():.2f}, most {int(numbers.max())}; "
          f"more than one in {float((numbers > 1).double().mean()):.3f} of all samples; cut off at {most}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path, nargs="?")
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--constraint", action="store_true", help="with the paper's u-hat")
    parser.add_argument("--images", type=int, default=100, help="test images whose honest density is computed")
    parser.add_argument("--samples", type=int, default=20, help="samples of each of them")
    parser.add_argument("--most", type=int, default=2000, help="points before a sample that are followed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="file for the weights after each epoch")
    parser.add_argument("--load", type=Path, help="weights of an earlier training, not to train again")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    if args.check:
        return check()
    if args.mnist is None:
        parser.error("name the folder of MNIST's IDX files")
    test = images(args.mnist, "t10k-images-idx3-ubyte")
    vae = Vae(args.layers, args.constraint)
    if args.load:
        vae.load_state_dict(torch.load(args.load))
    else:
        train(vae, images(args.mnist, "train-images-idx3-ubyte")[:TRAINING], args.epochs, args.seed, args.save)
    evaluate(vae, test, args.images, args.samples, args.most, args.seed)


if __name__ == "__main__":
    main()
