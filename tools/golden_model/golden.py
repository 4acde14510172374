"""Writes the golden files of package model with PyTorch and transformers.

    python tools/golden_model/golden.py model/testdata

A tiny GPT2LMHeadModel, and two LlamaForCausalLM, with random float32 parameters run
in float64: logits, loss and gradients of one batch, then the losses of ten AdamW steps
on that batch. Arrays are float32, little-endian, tensors one after the other in the
order of golden.json.
Needs torch 2.x and a transformers that supports it (written with 2.5.1 and 4.46.3).
"""

import json
import pathlib
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

BATCH, STEPS = 2, 10
ADAMW = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def gpt2():
    config = GPT2Config(
        vocab_size=32, n_positions=8, n_embd=16, n_layer=2, n_head=2, activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None)
    config._attn_implementation = "eager"
    return config, GPT2LMHeadModel(config)


def llama(**changes):
    config = LlamaConfig(**{
        "vocab_size": 32, "max_position_embeddings": 8, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 100.0,
        "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": None} | changes)
    config._attn_implementation = "eager"
    return config, LlamaForCausalLM(config)


def randomise(model, gen):
    with torch.no_grad():  # norms and biases random too, so that no gradient is trivial
        for name, p in model.named_parameters():
            centre = 1.0 if (".ln_" in name or "norm" in name) and name.endswith("weight") else 0.0
            p.copy_(centre + 0.2 * torch.randn(p.shape, generator=gen))
    return model.double().eval()


def write(path, tensors):
    flat = torch.cat([t.detach().reshape(-1) for t in tensors])
    path.write_bytes(flat.to(torch.float32).numpy().astype("<f4").tobytes())


def golden(out, config, model):
    out.mkdir(exist_ok=True)
    gen = torch.Generator().manual_seed(20240502)
    model = randomise(model, gen)
    named = list(model.named_parameters())
    params = [p for _, p in named]
    tokens, targets = torch.randint(0, config.vocab_size, (2, BATCH, config.max_position_embeddings), generator=gen)
    write(out / "weights.bin", params)

    def loss_of(logits):
        return torch.nn.functional.cross_entropy(logits.reshape(-1, config.vocab_size), targets.reshape(-1))

    logits = model(tokens).logits
    loss = loss_of(logits)
    loss.backward()
    write(out / "logits.bin", [logits])
    write(out / "grads.bin", [p.grad for p in params])

    decay = [p for p in params if p.dim() > 1]
    rest = [p for p in params if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}], **ADAMW)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        step_loss = loss_of(model(tokens).logits)
        losses.append(step_loss.item())
        step_loss.backward()
        optimizer.step()

    (out / "config.json").write_text(config.to_json_string(use_diff=False))
    (out / "golden.json").write_text(json.dumps({
        "torch": torch.__version__, "batch": BATCH,
        "tokens": tokens.reshape(-1).tolist(), "targets": targets.reshape(-1).tolist(),
        "tensors": [{"name": n, "shape": list(p.shape)} for n, p in named],
        "loss": loss.item(), "adamw": ADAMW, "losses": losses,
    }, indent=1) + "\n")


def main(out):
    golden(out / "gpt2", *gpt2())
    golden(out / "llama", *llama())
    golden(out / "llama_tied", *llama(num_key_value_heads=4, tie_word_embeddings=True, rms_norm_eps=1e-6, rope_theta=10000.0))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
