#!/bin/bash
# Proves that folders travel between dunlin and Hugging Face's transformers, both ways.
#
#     make interop
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(tools/python)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -o "$work/probe" ./tools/interop
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$python" tools/interop/interop.py bin/dunlin "$work/probe" "$work"
