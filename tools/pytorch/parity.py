"""Trains the same small GPT-2 with dunlin and with PyTorch and compares the losses, step by step.

    python parity.py bin/dunlin windows out/check-parity

Both start from the weights that transformers draws and read the same windows in the same order, which the program
windows (main.go beside this file) writes down. TEXT names the text; without it, it is 1 MB of Go's own source. Exit
code 1 says that the losses part: more than 1e-4 within the first 50 steps, or 1 % on held-out text at the end.
"""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2 import adamw

DUNLIN, WINDOWS, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
CONTEXT, BATCH, STEPS, HELD_OUT = 64, 12, 2000, 512
RATE, WARM_UP, FINAL = 1e-3, 0.04, 0.1
FIRST, FIRST_MOST, END_MOST = 50, 1e-4, 0.01


def text():
    if os.environ.get("TEXT"):
        return pathlib.Path(os.environ["TEXT"])
    root = pathlib.Path(subprocess.run(["go", "env", "GOROOT"], check=True, capture_output=True, text=True).stdout.strip())
    source = b"".join(p.read_bytes() for p in sorted((root / "src/net").rglob("*.go")) if not p.name.endswith("_test.go"))
    path = FOLDER / "text.txt"
    path.write_bytes(source[:1_000_000])
    return path


def draw():
    """A model with transformers' own initial weights, also written as its folder."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=256, n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4, activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
    model.save_pretrained(FOLDER / "initial")
    return model


def rate(step):
    """Linear rise, then half a cosine; dunlin's clock is the progress at the end of a step."""
    progress = step / STEPS
    if progress < WARM_UP:
        return RATE * progress / WARM_UP
    return RATE * (FINAL + (1 - FINAL) * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2)


def loss_of(model, windows):
    logits = model(windows[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def pytorch(model, path):
    windows = torch.from_numpy(np.fromfile(path, "<i4").astype(np.int64)).view(-1, CONTEXT + 1)
    training, held_out = windows[:STEPS * BATCH].view(STEPS, BATCH, -1), windows[STEPS * BATCH:]
    optimizer = adamw(model, RATE)
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step + 1)
        loss = loss_of(model, training[step])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        parts = held_out.split(64)
        return losses, sum(loss_of(model, p).item() * len(p) for p in parts) / len(held_out), len(held_out)


def dunlin(path):
    done = subprocess.run([
        DUNLIN, "train", "--data", path, "--weights", FOLDER / "initial", "--out", FOLDER / "trained", "--seed", "1",
        "--steps", str(STEPS), "--batch", str(BATCH), "--lr", str(RATE), "--warmup", str(WARM_UP), "--save-every", "0",
        "--eval-windows", str(HELD_OUT), "--log-every", "1", "--log-format", "json", "--json",
    ], check=True, capture_output=True, text=True)
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    return [entry["loss"] for entry in logged if "loss" in entry], json.loads(done.stdout)["val_loss"]


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    torch.set_num_threads(1)  # so small a model gains little from more, and loses much beside other work
    path, model = text(), draw()
    subprocess.run([
        WINDOWS, "-data", path, "-context", str(CONTEXT), "-windows", str(STEPS * BATCH), "-eval-windows", str(HELD_OUT),
        "-out", FOLDER / "windows.bin"], check=True)
    began = time.perf_counter()
    ours, our_end = dunlin(path)
    print(f"dunlin: {len(ours)} steps in {time.perf_counter() - began:.0f} s", flush=True)
    began = time.perf_counter()
    theirs, their_end, windows = pytorch(model, FOLDER / "windows.bin")
    print(f"PyTorch {torch.__version__}: {len(theirs)} steps in {time.perf_counter() - began:.0f} s")
    if len(ours) != STEPS:
        sys.exit(f"dunlin logged {len(ours)} losses of {STEPS} steps")

    apart = [abs(a - b) for a, b in zip(ours, theirs)]
    for first, last in ((1, FIRST), (FIRST + 1, 200), (201, 1000), (1001, STEPS)):
        print(f"steps {first:4} to {last:4}: loss {ours[first - 1]:.4f} to {ours[last - 1]:.4f}, at most {max(apart[first - 1:last]):.2e} apart")
    relative = abs(our_end / their_end - 1)
    print(f"held out, {windows} windows: {our_end:.4f} against {their_end:.4f}, {relative:.3%} apart")
    good = max(apart[:FIRST]) <= FIRST_MOST and relative <= END_MOST
    print(f"{'ok' if good else 'FAIL'}: allowed are {FIRST_MOST:g} apart in the first {FIRST} steps, and {END_MOST:.0%} at the end")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
