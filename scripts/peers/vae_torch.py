"""The paper's VAE in PyTorch, as its users write it: modules, autograd, torch.optim."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from timing import LATENT, LN_2_PI, PIXELS, UNITS, WINDOW, arguments, run


class Maxout(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.linear = nn.Linear(inputs, units * WINDOW)

    def forward(self, x):
        return self.linear(x).unflatten(-1, (-1, WINDOW)).amax(-1)


class Vae(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers
        self.encoder = Maxout(PIXELS, UNITS)
        self.base = nn.Linear(UNITS, 2 * LATENT)
        self.head = nn.Linear(UNITS, layers * (2 * LATENT + 1)) if layers else None
        self.decoder = Maxout(LATENT, UNITS)
        self.logits = nn.Linear(UNITS, PIXELS)

    def posterior(self, x):
        """Mean, log-variance, and û, w, b and w·û of each layer."""
        h = self.encoder(x)
        flow = ()
        if self.layers:
            raw = self.head(h).view(-1, self.layers, 2 * LATENT + 1)
            u, w, b = raw.split([LATENT, LATENT, 1], dim=-1)
            wu = (w * u).sum(-1, keepdim=True)
            wu_hat = F.softplus(wu) - 1
            u_hat = u + (wu_hat - wu) * w / (w * w).sum(-1, keepdim=True)
            flow = (u_hat, w, b.squeeze(-1), wu_hat.squeeze(-1))
        return *self.base(h).chunk(2, dim=-1), flow

    def sample(self, posterior, eps):
        """z and ln q(z | x) at `eps: [..., batch, latent]`."""
        mean, log_var, flow = posterior
        z = mean + (0.5 * log_var).exp() * eps
        log_q = -0.5 * (LN_2_PI + log_var + eps * eps).sum(-1)
        if flow:
            u_hat, w, b, wu_hat = flow
            for k in range(self.layers):
                t = torch.tanh((z * w[:, k]).sum(-1) + b[:, k])
                z = z + u_hat[:, k] * t.unsqueeze(-1)
                log_q = log_q - torch.log1p(wu_hat[:, k] * (1 - t * t))
        return z, log_q

    def elbo(self, x, posterior, eps):
        z, log_q = self.sample(posterior, eps)
        logits = self.logits(self.decoder(z))
        log_x = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        log_z = -0.5 * (LN_2_PI + z * z).sum(-1)
        return log_x + log_z - log_q

    def loss(self, x):
        eps = torch.randn(x.shape[0], LATENT, device=x.device)
        return -self.elbo(x, self.posterior(x), eps).mean()


args = arguments()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
device = torch.device(args.device)
images = (torch.rand(args.batch, PIXELS, device=device) < 0.2).float()


def synchronized(work):
    def and_wait():
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return and_wait


def step(layers):
    model = Vae(layers).to(device)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-5, alpha=0.99, eps=1e-5, momentum=0.9)
    loss = torch.compile(model.loss) if args.compile else model.loss

    def work():
        optimizer.zero_grad(set_to_none=True)
        loss(images).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1e3)
        optimizer.step()

    return synchronized(work)


def nll(layers):
    model = Vae(layers).to(device)
    at_once = max(1, 5000 // args.batch)

    def weights(posterior, n):
        return model.elbo(images, posterior, torch.randn(n, args.batch, LATENT, device=device)).logsumexp(0)

    weights = torch.compile(weights) if args.compile else weights

    @torch.no_grad()
    def work():
        posterior = model.posterior(images)
        done, parts = 0, []
        while done < args.samples:
            n = min(at_once, args.samples - done)
            parts.append(weights(posterior, n))
            done += n
        return torch.stack(parts).logsumexp(0) - math.log(args.samples)

    return synchronized(work)


run(args, f"torch-{'compile' if args.compile else 'eager'}", step, nll)
