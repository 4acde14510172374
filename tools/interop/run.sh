#!/bin/bash
# Proves that folders travel between dunlin and Hugging Face's transformers, both ways.
#
#     make interop
#
# The Python environment (PyTorch, transformers; some GB) is made once, in DUNLIN_INTEROP_ENV or below the user's cache
# folder, never in the repository.
set -euo pipefail
cd "$(dirname "$0")/../.."
env=${DUNLIN_INTEROP_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/dunlin/interop}
if ! "$env/bin/python" -c 'import numpy, safetensors, tokenizers, torch, transformers' 2>/dev/null; then
	echo "making a Python environment in $env"
	python3 -m venv "$env"
	"$env/bin/pip" install --quiet --requirement tools/interop/requirements.txt
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -o "$work/probe" ./tools/interop
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$env/bin/python" tools/interop/interop.py bin/dunlin "$work/probe" "$work"
