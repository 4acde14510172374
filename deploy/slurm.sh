#!/bin/sh
# Slurm: each task is a worker, for as long as the queue lets it. Submit with:
#   INVITE='dunlin1:…' sbatch deploy/slurm.sh
# A worker that is stopped, preempted or out of time hands over its round and comes back with the next job of the same number. Each
# keeps a folder below DUNLIN_HOME, or else the home folder, which all nodes should see.
#SBATCH --job-name=dunlin
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --signal=INT@60
#SBATCH --requeue
##SBATCH --gres=gpu:1   # with one # less, where nodes have GPUs
set -eu
: "${INVITE:?set INVITE to the line that the organiser sent}"
folder="${DUNLIN_HOME:-$HOME/.local/share/dunlin}/slurm-${SLURM_ARRAY_TASK_ID:-0}"
exec srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" dunlin join "$INVITE" --data-dir "$folder" --threads "${SLURM_CPUS_PER_TASK:-1}" --log-format json
