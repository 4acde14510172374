"""Trains one shape with PyTorch and answers each line of its standard input with a measurement.

    python worker.py '{"shape": {…}, "batch": 4, "threads": 2, "precision": "fp32", "mode": "eager"}'

A line is a number of seconds; the answer is one JSON object. The first object, before any line, says that it is ready.
It lives on between measurements, so that others can be made in between. bench.py starts it.
"""

import contextlib
import gc
import json
import re
import sys
import time

import torch

from gpt2 import GPT2, adamw

LEAST = 2  # steps of a measurement


def resident(key):
    """Bytes of VmRSS, resident now, or VmHWM, the most since forget()."""
    with open("/proc/self/status") as status:
        return int(re.search(key + r":\s+(\d+)", status.read())[1]) << 10


def forget():
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")


class Trainer:
    def __init__(self, job, shape):
        self.model = GPT2(shape)
        self.loss = torch.compile(self.model) if job["mode"] == "compiled" else self.model
        self.optimizer = adamw(self.model, 1e-3, fused=True)
        self.precision = (
            torch.autocast("cpu", dtype=torch.bfloat16) if job["precision"] == "bf16" else contextlib.nullcontext())
        size = (job["batch"], shape["n_positions"])
        self.tokens, self.targets = (torch.randint(0, shape["vocab_size"], size) for _ in range(2))

    def step(self):
        with self.precision:
            loss = self.loss(self.tokens, self.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    # What PyTorch loads on first use, its compiler above all, counts as start-up and not as the model's memory.
    small = dict(job["shape"], n_layer=1, n_embd=64, n_head=1, vocab_size=256, n_positions=32)
    Trainer(job, small).step()
    gc.collect()
    torch.compiler.reset()
    start = resident("VmRSS")
    trainer = Trainer(job, job["shape"])
    began = time.perf_counter()
    for _ in range(2):
        trainer.step()
    forget()
    say(torch=torch.__version__, start_rss_bytes=start, warm_up_seconds=time.perf_counter() - began)
    for line in sys.stdin:
        trainer.step()  # caches are cold after the others' turn
        steps, began = 0, time.perf_counter()
        while steps < LEAST or time.perf_counter() - began < float(line):
            trainer.step()
            steps += 1
        took = time.perf_counter() - began
        say(tokens_per_second=steps * trainer.tokens.numel() / took, max_rss_bytes=resident("VmHWM"))


if __name__ == "__main__":
    main()
