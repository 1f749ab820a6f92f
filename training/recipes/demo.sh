#!/usr/bin/env bash
# From rendered people to the demo's weights, as the bundled ones were made (two H200; any number of GPUs works).
#
#   ASSETS=assets WORK=runs/demo GPUS=2 PROCESSES=30 MINUTES=3 bash training/recipes/demo.sh
#
# ASSETS is the folder that training/synthetic/pack.py makes. MINUTES is the time for the denoiser: 3 made the bundled weights and is
# far too short (docs/training-log.md); the networks before it take about 3 more. The bundled autoencoder, evaluators and emotion
# estimator were trained on the first 1,550 of these people, while the others were still being rendered.
set -euo pipefail
: "${ASSETS:?the folder made by training/synthetic/pack.py}" "${WORK:=runs/demo}" "${GPUS:=1}" "${PROCESSES:=8}" "${MINUTES:=3}"
faces="$WORK/faces"

python -m training.synthetic.generate --assets "$ASSETS" --out "$faces" --people 6400 --images-per-person 6 --processes "$PROCESSES"
python -m training.train_autoencoder --data "$faces" --out "$WORK" --steps 1500 --learning-rate 2e-3
python -m training.train_identity --data "$faces" --out "$WORK/identity/model.safetensors" --steps 3000
python -m training.train_identity --data "$faces" --out "$WORK/evaluators/identity.safetensors" --widths 24 32 64 96 --seed 1 --steps 1200
python -m training.train_identity --data "$faces" --out "$WORK/evaluators/emotion.safetensors" --widths 24 32 64 96 --seed 2 --steps 1500 --task emotion
python -m training.train_emotion --data "$faces" --out "$WORK/emotion/model.safetensors"
python -m training.encode_features --data "$faces" --models "$WORK" --processes "$PROCESSES"
torchrun --nproc-per-node "$GPUS" -m training.train_control --data "$faces" --out "$WORK" --train-base --shares 0.42 0.16 0.2 \
  --steps 100000 --minutes "$MINUTES" --batch 640 --learning-rate 8e-4 --report-every 400
python -m training.export_demo --models "$WORK" --out demo
python -m training.evaluate_demo --data "$faces" --models demo --out "$WORK/evaluation"
