"""Sends models between dunlin and transformers, both ways, and compares what they compute.

    python tools/interop/interop.py bin/dunlin probe WORK

For every case: logits within 1e-4, losses within 1e-5, weights bit for bit, tokens one for one.
Run by tools/interop/run.sh.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast)

DUNLIN, PROBE, WORK = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
LOGITS, LOSS = 1e-4, 1e-5
TEXT = "".join(p.read_text() for p in sorted(pathlib.Path("peer").glob("*.go")))[:24_000]
END = "<|endoftext|>"
failures = []


def dunlin(*args):
    done = subprocess.run([DUNLIN, *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"dunlin {' '.join(map(str, args))}: {done.stderr.strip()}")
    return done.stdout


def probe(what, folder, text):
    done = subprocess.run([PROBE, what, str(folder)], input=text.encode(), capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode().strip())
    return done.stdout


def check(case, what, value, most):
    good = value <= most
    print(f"  {'ok  ' if good else 'FAIL'} {case:28} {what:34} {value:.3g} (at most {most:g})", flush=True)
    if not good:
        failures.append(f"{case}: {what}")


def theirs(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def logits_of(model, windows):
    with torch.no_grad():
        return model(torch.tensor(windows)).logits.numpy()


def loss_of(logits, targets):
    scores = torch.log_softmax(torch.tensor(logits, dtype=torch.float64), -1)
    return -scores.gather(-1, torch.tensor(targets)[..., None]).mean().item()


def compare(case, what, model, folder, vocab, length):
    """Compares transformers' model with dunlin's reading of a folder."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, vocab, (3, length + 1))
    windows = tokens[:, :-1].tolist()
    own = np.frombuffer(probe("logits", folder, json.dumps(windows)), "<f4").reshape(3, length, -1)
    other = logits_of(model, windows)
    check(case, f"{what}: logits", np.abs(own - other).max(), LOGITS)
    check(case, f"{what}: loss", abs(loss_of(own, tokens[:, 1:]) - loss_of(other, tokens[:, 1:])), LOSS)


def same_weights(case, what, a, b):
    """Counts values with other bits; b may lack a tied head."""
    a, b = a.state_dict(), b.state_dict()
    check(case, f"{what}: values that differ", sum(int((a[k] != b[k]).sum()) for k in a) + len(set(a) ^ set(b)), 0)


def randomise(model):
    """Weights as uneven as trained ones, norms and biases too."""
    gen = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            one = 1.0 if ("norm" in name or "ln_" in name) and name.endswith("weight") else 0.0
            p.copy_(one + 0.08 * noise)
    return model


def gpt2(width, heads, layers, length, vocab, **other):
    return randomise(GPT2LMHeadModel(GPT2Config(
        vocab_size=vocab, n_positions=length, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=None, eos_token_id=None,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **other))).eval()


def llama(width, heads, keys, hidden, layers, length, vocab, **other):
    return randomise(LlamaForCausalLM(LlamaConfig(
        vocab_size=vocab, max_position_embeddings=length, hidden_size=width, intermediate_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=keys, bos_token_id=None, eos_token_id=None, **other))).eval()


def there_and_back(case, model, save=None):
    """transformers -> import -> compare -> export -> transformers -> compare."""
    config = model.config
    vocab, length = config.vocab_size, config.max_position_embeddings
    given, held, back = (WORK / case / part for part in ("given", "held", "back"))
    given.mkdir(parents=True)
    model = (save or whole)(model, given) or model
    dunlin("import", given, held)
    compare(case, "imported", model, held, vocab, length)
    dunlin("export", held, back)
    again = theirs(back)
    compare(case, "exported again", again, held, vocab, length)
    same_weights(case, "there and back", model, again)


def whole(model, folder):
    model.save_pretrained(folder)


def rounded(dtype):
    """Saves in fewer bits; dunlin must widen them exactly, so the model compared with is the rounded one."""
    def save(model, folder):
        model.to(dtype).save_pretrained(folder)
        return theirs(folder)
    return save


def base_only(model, folder):
    """Like GPT-2's release: no name of the whole in front, and the causal mask beside the weights."""
    model.config.save_pretrained(folder)
    weights = {k.removeprefix("transformer.").removeprefix("model."): v.contiguous().clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    if "h.0.attn.c_attn.weight" in weights:
        weights["h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def out_in(model, folder):
    """GPT-2's products the way torch.nn.Linear keeps them."""
    model.config.save_pretrained(folder)
    turn = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    weights = {k: (v.T if k.endswith(turn) else v).contiguous().clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def shards(model, folder):
    model.save_pretrained(folder, max_shard_size="300KB")
    files = list(folder.glob("model-*.safetensors"))
    if len(files) < 2:
        raise RuntimeError(f"{folder} is not in several files")


def foreign_tokenizer():
    """A tokenizer that transformers keeps, its vocabulary smaller than the model's."""
    case = "gpt2, their tokenizer"
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=t, bos_token=END, eos_token=END)
    vocab = (len(fast) + 127) // 128 * 128
    model = gpt2(64, 4, 2, 32, vocab)
    model.config.bos_token_id = model.config.eos_token_id = fast.eos_token_id

    def save(m, folder):
        m.save_pretrained(folder)
        fast.save_pretrained(folder)
    there_and_back(case, model, save)
    born_text(case, WORK / case / "held", WORK / case / "back", fast)


def born_text(case, held, exported, tokenizer=None):
    """Text through both: tokens and the loss that `dunlin eval` prints."""
    auto = AutoTokenizer.from_pretrained(exported)
    ids = auto(TEXT)["input_ids"]
    own = json.loads(probe("tokens", held, TEXT))
    check(case, "tokens that differ", sum(a != b for a, b in zip(ids, own)) + abs(len(ids) - len(own)), 0)
    if tokenizer is not None:
        other = tokenizer(TEXT)["input_ids"]
        check(case, "tokens that changed on the way", sum(a != b for a, b in zip(ids, other)) + abs(len(ids) - len(other)), 0)
    check(case, "characters that do not come back", int(auto.decode(ids) != TEXT), 0)
    model = theirs(exported)
    length = model.config.max_position_embeddings
    (WORK / "text.txt").write_text(TEXT)
    result = json.loads(dunlin("eval", held, WORK / "text.txt", "--json"))
    whole = (len(ids) - 1) // length * length
    nats = loss_of(logits_of(model, np.reshape(ids[:whole], (-1, length))), np.reshape(ids[1:whole + 1], (-1, length))) * whole
    if rest := len(ids) - 1 - whole:
        nats += loss_of(logits_of(model, [ids[whole:-1]]), [ids[whole + 1:]]) * rest
    check(case, "loss on text", abs(nats / (len(ids) - 1) - result["loss"]), LOSS)
    # generate works with nothing but what the folder says
    prompt = auto("func ", return_tensors="pt")["input_ids"]
    out = model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
    if out.shape[1] <= prompt.shape[1]:
        failures.append(f"{case}: generate")


def born_here(case, *how):
    """dunlin trains, transformers opens."""
    out, exported = WORK / case / "out", WORK / case / "exported"
    dunlin("train", "--steps", 20, "--batch", 2, "--out", out, *how)
    dunlin("export", out, exported)
    model = theirs(exported)
    compare(case, "exported", model, out, model.config.vocab_size, model.config.max_position_embeddings)
    born_text(case, out, exported)
    for word, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        small = WORK / case / word
        dunlin("export", out, small, "--dtype", word)
        want = {k: v.to(dtype) for k, v in load_file(exported / "model.safetensors").items()}
        got = load_file(small / "model.safetensors")
        check(case, f"{word}: values that differ", sum(int((want[k] != got[k]).sum()) for k in want) + len(set(want) ^ set(got)), 0)


def main():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    there_and_back("gpt2 tiny", gpt2(16, 2, 2, 8, 32))
    there_and_back("gpt2 medium", gpt2(256, 8, 6, 128, 5003))
    there_and_back("gpt2 fp16", gpt2(32, 4, 2, 16, 96), rounded(torch.float16))
    there_and_back("gpt2 bf16", gpt2(32, 4, 2, 16, 96), rounded(torch.bfloat16))
    there_and_back("gpt2 in several files", gpt2(96, 4, 3, 32, 501), shards)
    there_and_back("gpt2 base alone, with mask", gpt2(32, 4, 2, 16, 96), base_only)
    there_and_back("gpt2 [out, in]", gpt2(32, 4, 2, 16, 96), out_in)
    there_and_back("llama tiny, tied", llama(16, 4, 4, 40, 2, 8, 32, tie_word_embeddings=True))
    there_and_back("llama tiny, untied, grouped", llama(16, 4, 2, 40, 2, 8, 32, tie_word_embeddings=False, rms_norm_eps=1e-5))
    there_and_back("llama medium, untied, grouped", llama(256, 8, 2, 688, 6, 128, 5003, tie_word_embeddings=False))
    there_and_back("llama medium, tied, one key", llama(256, 8, 1, 688, 6, 128, 5003, tie_word_embeddings=True))
    there_and_back("llama bf16, untied", llama(32, 4, 2, 96, 2, 16, 96, tie_word_embeddings=False), rounded(torch.bfloat16))
    there_and_back("llama in several files", llama(96, 4, 2, 256, 3, 32, 501, tie_word_embeddings=False), shards)
    there_and_back("llama base alone, tied", llama(32, 4, 2, 96, 2, 16, 96, tie_word_embeddings=True), base_only)
    foreign_tokenizer()
    (WORK / "train.txt").write_text(TEXT)
    born_here("born here, bytes", "--preset", "pico", "--data", WORK / "train.txt")
    born_here("born here, llama, bytes", "--preset", "pico-llama", "--data", WORK / "train.txt")
    dunlin("data", "train-bpe", WORK / "train.txt", "--vocab", 600, "--out", WORK / "own.json")
    dunlin("data", "prepare", WORK / "train.txt", "--tokenizer", WORK / "own.json", "--out", WORK / "prepared")
    born_here("born here, own tokenizer", "--preset", "pico-llama", "--data", WORK / "prepared")
    if failures:
        sys.exit("not proven: " + "; ".join(failures))
    print("all agree")


main()
