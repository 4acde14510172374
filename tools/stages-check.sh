#!/bin/sh
# Trains the same shape on the same number of tokens, with as many in an inner step, in one
# process and in stages × peers processes on loopback, none of which changes its stage, and compares
# the losses on held-out text. Both make their inner steps by the same optimizer at the same rate.
#   RECIPE=default SEEDS="1 2 3" TOKENS=2000000 WORKERS=6 STAGES=3 MODE=--synchronous sh tools/stages-check.sh
set -eu
dunlin=${DUNLIN:-bin/dunlin}
out=${OUT:-out/stages}
seeds=${SEEDS:-1 2 3}
tokens=${TOKENS:-2000000}
workers=${WORKERS:-6}
stages=${STAGES:-3}
mode=${MODE:-}
recipe=${RECIPE:-default}
batch=${BATCH:-8}
activations=${ACTIVATIONS:-int8}
each=$batch # windows in an inner step of a peer: of all together, or its share
case $mode in *--synchronous*) ;; *) each=$((batch * stages / workers)) ;; esac
case $recipe,$mode in
default,*--synchronous*) inner="--lr 0.002" ;; # the default is int8 there
default,* | muloco,*) inner="--optimizer muon --lr 0.003" ;;
*) inner="--lr 0.002" ;;
esac
mkdir -p "$out"
shape=$out/shape.json
cat > "$shape" <<JSON
{"model_type":"gpt2","n_layer":4,"n_head":4,"n_embd":128,"n_positions":128,"vocab_size":256,"tie_word_embeddings":false}
JSON
# Text to train on, and to measure on: the standard library of Go but its package net, and that.
src=$(go env GOROOT)/src
find "$src" -type f -name '*.go' ! -path "$src/net/*" ! -path "$src/cmd/*" | sort | xargs cat > "$out/train.txt"
find "$src/net" -name '*.go' | sort | head -60 | xargs cat | head -c 400000 > "$out/held.txt"
first() { grep -o '"'"$1"'": *[0-9.]*' | head -n 1 | tr -dc '0-9.'; } # what a report says of the whole stands before what it says of workers
for seed in $seeds; do
  rm -rf "$out/one-$seed" # of an earlier check
  # shellcheck disable=SC2086 # MODE may be several words, or none
  "$dunlin" demo --preset "$shape" --recipe "$recipe" --workers "$workers" --stages "$stages" --worker-batch "$each" --micro-batch 1 --activations "$activations" --rebalance 0 \
    --tokens "$tokens" --seconds 3600 --seed "$seed" --data "$out/train.txt" --out "$out/swarm-$seed" --json $mode > "$out/swarm-$seed.json"
  trained=$(first tokens < "$out/swarm-$seed.json")
  # shellcheck disable=SC2086 # several words
  "$dunlin" train --preset "$shape" --batch "$batch" --steps $((trained / (batch * 128))) $inner --seed "$seed" --save-every 0 --data "$out/train.txt" --out "$out/one-$seed" > /dev/null
  a=$("$dunlin" eval "$out/swarm-$seed/model" "$out/held.txt" --json | first loss)
  b=$("$dunlin" eval "$out/one-$seed" "$out/held.txt" --json | first loss)
  awk -v s="$seed" -v t="$trained" -v a="$a" -v b="$b" 'BEGIN { printf "seed %d, %d tokens: in stages %.4f, on one machine %.4f, %+.2f %%\n", s, t, a, b, 100 * (a / b - 1) }'
done
