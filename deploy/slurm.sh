#!/bin/bash
# Workers as a Slurm array, from the folder of the project:
#
#   install -m 600 /dev/null ~/.mapgrove-store && echo 'mongodb://USER:PASSWORD@host:27017/mapgrove' > ~/.mapgrove-store
#   sbatch deploy/slurm.sh my_study
#
# The master needs no GPU, and may run on the login node:
#   MAPGROVE_STORE="$(cat ~/.mapgrove-store)" python run_search.py search --study my_study.toml
#
#SBATCH --job-name=mapgrove
#SBATCH --array=0-15
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
# Two minutes before the time is over a worker hands its trial back; another one goes on from its last epoch.
#SBATCH --signal=B:TERM@120
set -euo pipefail
MAPGROVE_STORE="$(cat "$HOME/.mapgrove-store")"
export MAPGROVE_STORE
# In place of this shell, so that the signal reaches it.
exec .venv/bin/python run_search.py worker --study "$1" --idle-exit-s 900 \
  --name "slurm-$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID"
