"""Writes the golden sequences of package optimizer with PyTorch.

    python tools/golden_optimizer/golden.py optimizer/testdata

AdamW runs in float64 (the arithmetic oracle) with clip_grad_norm_ and a learning
rate that changes at every step; SGD-Nesterov runs in float32 and float64. Values
are written with enough digits to be read back exactly. Needs torch 2.x.
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


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in {"adamw": adamw(), "nesterov32": nesterov(torch.float32), "nesterov64": nesterov(torch.float64)}.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=None, separators=(",", ":")) + "\n")


main()
