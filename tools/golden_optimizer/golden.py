"""Writes the golden sequences of package optimizer with PyTorch.

    python tools/golden_optimizer/golden.py optimizer/testdata [name ...]

Inner optimizers run in float64 (the arithmetic oracle) with clip_grad_norm_ and a
learning rate that changes at every step. AdamW, SGD and RMSprop are PyTorch's own,
the last two behind a decoupled weight decay; LAMB, AdaGrad-Norm and Muon, which
PyTorch 2.5 lacks, are written from their papers, and Muon's matrix iteration as a
polynomial on singular values, which is another way to the same matrix. The outer
SGD-Nesterov runs in float32 and float64. Values are written with enough digits to
be read back exactly. Needs torch 2.x.
"""

import json
import math
import pathlib
import sys

import torch


def adamw():
    gen = torch.Generator().manual_seed(20240501)
    shapes = {"w": [3, 4], "gain": [5], "v": [2, 2], "bias": [1]}
    start = {k: torch.randn(s, generator=gen, dtype=torch.float32) for k, s in shapes.items()}
    params = {k: torch.nn.Parameter(t.to(torch.float64)) for k, t in start.items()}
    decay, clip = 0.1, 1.0
    opt = torch.optim.AdamW(
        [
            {"params": [params[k] for k in shapes if len(shapes[k]) > 1], "weight_decay": decay},
            {"params": [params[k] for k in shapes if len(shapes[k]) == 1], "weight_decay": 0.0},
        ],
        lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    steps = []
    for i in range(12):
        lr = 2e-3 * (0.5 + 0.5 * math.cos(math.pi * i / 12))
        size = [0.05, 1.0, 3.0][i % 3]  # below the clip, near it, above it
        grads = {k: torch.randn(s, generator=gen, dtype=torch.float32) * size for k, s in shapes.items()}
        for k, p in params.items():
            p.grad = grads[k].to(torch.float64)
        norm = torch.nn.utils.clip_grad_norm_(list(params.values()), clip)
        for group in opt.param_groups:
            group["lr"] = lr
        opt.step()
        steps.append({
            "lr": lr,
            "grads": [x for k in shapes for x in grads[k].flatten().tolist()],
            "norm": norm.item(),
            "params": [x for k in shapes for x in params[k].detach().flatten().tolist()],
        })
    return {
        "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": decay, "clip": clip,
        "tensors": [{"name": k, "shape": s} for k, s in shapes.items()],
        "start": [x for k in shapes for x in start[k].flatten().tolist()],
        "steps": steps,
    }


class Decoupled:
    """Weight decay of matrices before each step of one of PyTorch's optimizers."""

    def __init__(self, params, decay, make):
        self.params, self.decay, self.opt = params, decay, make(list(params.values()))

    def step(self, lr):
        with torch.no_grad():
            for p in self.params.values():
                if p.dim() > 1:
                    p.mul_(1 - lr * self.decay)
        for group in self.opt.param_groups:
            group["lr"] = lr
        self.opt.step()


class LAMB:
    """You et al., arXiv 1904.00962, algorithm 2, with bias corrections."""

    def __init__(self, params, decay, beta1, beta2, eps):
        self.params, self.decay, self.beta1, self.beta2, self.eps, self.t = params, decay, beta1, beta2, eps, 0
        self.m = {k: torch.zeros_like(p) for k, p in params.items()}
        self.v = {k: torch.zeros_like(p) for k, p in params.items()}

    @torch.no_grad()
    def step(self, lr):
        self.t += 1
        for k, p in self.params.items():
            self.m[k].mul_(self.beta1).add_(p.grad, alpha=1 - self.beta1)
            self.v[k].mul_(self.beta2).addcmul_(p.grad, p.grad, value=1 - self.beta2)
            r = (self.m[k] / (1 - self.beta1**self.t)) / ((self.v[k] / (1 - self.beta2**self.t)).sqrt() + self.eps)
            ratio = 1.0
            if p.dim() > 1:
                r = r + self.decay * p
                if p.norm() > 0 and r.norm() > 0:
                    ratio = (p.norm() / r.norm()).item()
            p.sub_(r, alpha=lr * ratio)


class AdaGradNorm:
    """Ward, Wu and Bottou, arXiv 1806.01811, algorithm 1."""

    def __init__(self, params, decay, start):
        self.params, self.decay, self.sum = params, decay, start * start

    @torch.no_grad()
    def step(self, lr):
        self.sum += sum(p.grad.pow(2).sum().item() for p in self.params.values())
        rate = lr / math.sqrt(self.sum)
        for p in self.params.values():
            if p.dim() > 1:
                p.mul_(1 - rate * self.decay)
            p.sub_(p.grad, alpha=rate)


# Of optimizer/orthogonal.go.
POLYNOMIALS = [
    (7.857639, -21.616040, 15.049204),
    (3.530666, -2.490949, 0.462830),
    (2.583786, -1.809376, 0.390431),
]


class Muon:
    """Jordan et al. 2024 with the scale of Liu et al., arXiv 2502.16982; AdamW for the rest.

    Hidden matrices move in one of every steps, as many times as far."""

    def __init__(self, params, decay, momentum, every, hidden, betas, eps):
        self.params, self.decay, self.momentum, self.hidden = params, decay, momentum, hidden
        self.every, self.steps = every, 0
        self.m = {k: torch.zeros_like(params[k]) for k in hidden}
        rest = [p for k, p in params.items() if k not in hidden]
        self.opt = torch.optim.AdamW(
            [{"params": [p for p in rest if p.dim() > 1], "weight_decay": decay},
             {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0}],
            lr=1.0, betas=betas, eps=eps)

    @torch.no_grad()
    def step(self, lr):
        for group in self.opt.param_groups:
            group["lr"] = lr
        self.opt.step()
        self.steps += 1
        for k in self.hidden:
            p, m = self.params[k], self.m[k]
            m.lerp_(p.grad, 1 - self.momentum)
            if self.steps % self.every:
                continue
            rate = lr * self.every
            u = p.grad.lerp(m, self.momentum)
            left, s, right = torch.linalg.svd(u, full_matrices=False)
            s = s / s.pow(8).sum().pow(1 / 8)
            for a, b, c in POLYNOMIALS:
                s = a * s + b * s**3 + c * s**5
            p.mul_(1 - rate * self.decay).sub_(left @ torch.diag(s) @ right, alpha=rate * 0.2 * math.sqrt(max(p.shape)))


def inner(seed, shapes, make, clip=1.0, count=8):
    """Runs make(params) over random gradients of sizes below, near and above the clip."""
    gen = torch.Generator().manual_seed(seed)
    start = {k: torch.randn(s, generator=gen, dtype=torch.float32) for k, s in shapes.items()}
    params = {k: torch.nn.Parameter(t.to(torch.float64)) for k, t in start.items()}
    opt = make(params)
    steps = []
    for i in range(count):
        lr = 0.02 * (0.5 + 0.5 * math.cos(math.pi * i / count))
        size = [0.02, 0.3, 2.0][i % 3]
        grads = {k: torch.randn(s, generator=gen, dtype=torch.float32) * size for k, s in shapes.items()}
        for k, p in params.items():
            p.grad = grads[k].to(torch.float64)
        norm = torch.nn.utils.clip_grad_norm_(list(params.values()), clip)
        opt.step(lr)
        steps.append({
            "lr": lr,
            "grads": [x for k in shapes for x in grads[k].flatten().tolist()],
            "norm": norm.item(),
            "params": [x for k in shapes for x in params[k].detach().flatten().tolist()],
        })
    return {
        "clip": clip, "weight_decay": 0.1,
        "tensors": [{"name": k, "shape": s} for k, s in shapes.items()],
        "start": [x for k in shapes for x in start[k].flatten().tolist()],
        "steps": steps,
    }


SMALL = {"w": [3, 4], "gain": [5], "v": [2, 2], "bias": [1]}
MATRICES = {"table": [6, 4], "wide": [4, 10], "gain": [4], "tall": [9, 4], "square": [5, 5], "bias": [3]}


def sgd(**how):
    return inner(11, SMALL, lambda p: Decoupled(p, 0.1, lambda all: torch.optim.SGD(all, lr=1.0, **how)))


def rmsprop():
    return inner(12, SMALL, lambda p: Decoupled(p, 0.1, lambda all: torch.optim.RMSprop(all, lr=1.0, alpha=0.95, eps=1e-8)))


def lamb():
    return inner(13, SMALL, lambda p: LAMB(p, 0.1, 0.9, 0.999, 1e-6))


def adagrad():
    return inner(14, SMALL, lambda p: AdaGradNorm(p, 0.1, 0.25))


def muon(every):
    return inner(15, MATRICES, lambda p: Muon(p, 0.1, 0.95, every, ["wide", "tall", "square"], (0.9, 0.95), 1e-8))


def nesterov(dtype):
    gen = torch.Generator().manual_seed(7)
    n, lr, mu = 33, 0.7, 0.9
    start = torch.randn(n, generator=gen, dtype=torch.float32)
    p = torch.nn.Parameter(start.to(dtype).clone())
    opt = torch.optim.SGD([p], lr=lr, momentum=mu, nesterov=True, foreach=False)
    steps = []
    for i in range(10):
        g = torch.randn(n, generator=gen, dtype=torch.float32) * 0.01 * (i + 1)
        p.grad = g.to(dtype)
        opt.step()
        steps.append({"gradient": g.tolist(), "weights": p.detach().tolist(),
                      "momentum": opt.state[p]["momentum_buffer"].tolist()})
    return {"lr": lr, "momentum": mu, "start": start.tolist(), "steps": steps}


GOLDEN = {
    "adamw": adamw,
    "sgd": lambda: sgd(),
    "sgd_momentum": lambda: sgd(momentum=0.9),
    "sgd_nesterov": lambda: sgd(momentum=0.9, nesterov=True),
    "rmsprop": rmsprop,
    "lamb": lamb,
    "adagrad": adagrad,
    "muon": lambda: muon(1),
    "muon_every2": lambda: muon(2),
    "nesterov32": lambda: nesterov(torch.float32),
    "nesterov64": lambda: nesterov(torch.float64),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or GOLDEN:
        (folder / f"{name}.json").write_text(json.dumps(GOLDEN[name](), indent=None, separators=(",", ":")) + "\n")


main()
