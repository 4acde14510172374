"""Compares training in dunlin with training in PyTorch on this machine's processors: speed and memory, in turns.

    python bench.py bin/dunlin out/bench-peers

Environment: ROUNDS (3), SHAPES and PRECISIONS (lists with blanks), THREADS (all), SECONDS_EACH (4) of a measurement.
Every measurement stands between two probes of the processors' peak; where one reads less than 0.75 of what all
threads should give, the measurement is dropped, since the machine was doing something else. Measurements are written to
samples.jsonl in the folder; with KEEP=1 those that it holds count too, so that a long comparison can be made in parts.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

SHAPES = {  # name: (batch, shape)
    "nano": (8, {"n_layer": 4, "n_head": 4, "n_embd": 128, "n_positions": 128, "vocab_size": 256}),
    "small": (4, {"n_layer": 6, "n_head": 6, "n_embd": 384, "n_positions": 256, "vocab_size": 256}),
    "gpt2": (4, {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 256, "vocab_size": 50257}),
}
MODES = ("eager", "compiled")
QUIET = 0.75  # least share of the peak that a probe must read

DUNLIN, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
ROUNDS = int(os.environ.get("ROUNDS") or 3)
SECONDS = float(os.environ.get("SECONDS_EACH") or 4)
THREADS = int(os.environ.get("THREADS") or os.cpu_count())


def chosen(name, known):
    picked = (os.environ.get(name) or " ".join(known)).split()
    if unknown := set(picked) - set(known):
        sys.exit(f"{name}: {', '.join(unknown)} is unknown; allowed are {', '.join(known)}")
    return picked


def dunlin(*args):
    return json.loads(subprocess.run([DUNLIN, "bench", *args, "--json"], check=True, stdout=subprocess.PIPE).stdout)


def peak(threads):
    return dunlin("peak", "--threads", str(threads))["fma_peak_gflops"]


def flop(shape):
    """Of a trained token, as in dunlin's share of the peak."""
    layers, width = shape["n_layer"], shape["n_embd"]
    return 6 * (12 * layers * width**2 + width * shape["vocab_size"]) + 6 * layers * shape["n_positions"] * width


class Dunlin:
    mode = "dunlin"

    def __init__(self, job):
        self.job = job
        self.path = FOLDER / f"{job['name']}.json"
        self.path.write_text(json.dumps({"model_type": "gpt2", **job["shape"]}))

    def measure(self):
        r = dunlin("train", "--preset", str(self.path), "--batch", str(self.job["batch"]), "--threads", str(THREADS),
                   "--precision", self.job["precision"], "--seconds", str(SECONDS))
        return {"tokens_per_second": r["tokens_per_second"], "memory": r["max_rss_bytes"] - r["start_rss_bytes"]}

    def close(self):
        pass


class PyTorch:
    def __init__(self, job, mode):
        self.mode = mode
        script = pathlib.Path(__file__).with_name("worker.py")
        self.process = subprocess.Popen(
            [sys.executable, script, json.dumps({**job, "mode": mode, "threads": THREADS})],
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS)}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.start = json.loads(self.process.stdout.readline() or "null")
        if self.start is None:
            raise RuntimeError(f"PyTorch, {mode}: it does not run here")

    def measure(self):
        print(SECONDS, file=self.process.stdin, flush=True)
        r = json.loads(self.process.stdout.readline())
        memory = r["max_rss_bytes"] - self.start["start_rss_bytes"]
        return {"tokens_per_second": r["tokens_per_second"], "memory": memory, "torch": self.start["torch"]}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def peers(job):
    found = [Dunlin(job)]
    for mode in MODES:
        try:
            found.append(PyTorch(job, mode))
        except RuntimeError as fault:
            print(fault, file=sys.stderr)
    return found


def compare(job, one, samples):
    """Measures all sides in turns, each between two probes."""
    sides = peers(job)
    before = peak(THREADS)
    for number in range(ROUNDS):
        for side in sides:
            result = side.measure()
            after = peak(THREADS)
            quiet = min(before, after) >= QUIET * THREADS * one
            sample = {"shape": job["name"], "precision": job["precision"], "threads": THREADS, "mode": side.mode,
                      "peak": max(before, after), "quiet": quiet, **result}
            samples.append(sample)
            with open(FOLDER / "samples.jsonl", "a") as file:
                print(json.dumps(sample), file=file)
            print(f"{job['name']} {job['precision']} round {number + 1} of {ROUNDS}: {side.mode} "
                  f"{result['tokens_per_second']:.0f} tokens/s, {result['memory'] / 1e6:.0f} MB, probes {before:.0f} and "
                  f"{after:.0f} GFLOP/s{'' if quiet else ': dropped, the machine was busy'}", file=sys.stderr)
            before = after
    for side in sides:
        side.close()


def table(samples):
    """Markdown of the medians of what was kept."""
    lines = ["| shape | precision | dunlin, tokens/s | PyTorch eager | PyTorch compiled | dunlin ÷ best | dunlin, MB | eager | compiled | dunlin ÷ least |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, precision in dict.fromkeys((s["shape"], s["precision"]) for s in samples):
        batch, shape = SHAPES[name]
        sides = {}
        for mode in ("dunlin", *MODES):
            kept = [s for s in samples if (s["shape"], s["precision"], s["mode"]) == (name, precision, mode) and s["quiet"]]
            if kept:
                speed, top, memory = (statistics.median(s[key] for s in kept) for key in ("tokens_per_second", "peak", "memory"))
                sides[mode] = {"speed": speed, "share": speed * flop(shape) / top / 1e9, "memory": memory, "count": len(kept)}
        speeds = [f"{s['speed']:,.0f} ({s['share']:.0%}, {s['count']}×)" if (s := sides.get(m)) else "–" for m in ("dunlin", *MODES)]
        memories = [f"{s['memory'] / 1e6:,.0f}" if (s := sides.get(m)) else "–" for m in ("dunlin", *MODES)]
        faster = less = "–"
        if "dunlin" in sides and len(sides) > 1:
            others = [sides[m] for m in MODES if m in sides]
            faster = f"**{sides['dunlin']['speed'] / max(o['speed'] for o in others):.2f}**"
            less = f"**{sides['dunlin']['memory'] / min(o['memory'] for o in others):.2f}**"
        lines.append(f"| `{name}`, {batch} windows of {shape['n_positions']} | {precision} | {' | '.join(speeds)} | {faster} | {' | '.join(memories)} | {less} |")
    return "\n".join(lines)


def has(precision):
    """Whether this build of dunlin trains in a precision."""
    done = subprocess.run([DUNLIN, "bench", "train", "--preset", "pico", "--seconds", "0.1", "--precision", precision],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return True
    if done.returncode == 2:
        print(f"{precision} left out: {done.stderr.splitlines()[0]}", file=sys.stderr)
        return False
    sys.exit(done.stderr)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "samples.jsonl"
    keep = bool(os.environ.get("KEEP")) and path.exists()
    samples = [json.loads(line) for line in path.read_text().splitlines()] if keep else []
    if not keep:
        path.unlink(missing_ok=True)
    one = peak(1)
    print(f"{THREADS} threads; one reads {one:.0f} GFLOP/s", file=sys.stderr)
    for precision in filter(has, chosen("PRECISIONS", ("fp32", "bf16"))):
        for name in chosen("SHAPES", SHAPES):
            batch, shape = SHAPES[name]
            compare({"name": name, "shape": shape, "batch": batch, "precision": precision}, one, samples)
    kept = [s for s in samples if s["threads"] == THREADS]
    versions = {s["torch"] for s in kept if "torch" in s}
    print(f"\n{THREADS} threads, PyTorch {', '.join(sorted(versions))}. Medians; in brackets the share of the fp32 peak beside it and the "
          f"measurements kept; memory above start-up.\n\n{table(kept)}")


if __name__ == "__main__":
    main()
