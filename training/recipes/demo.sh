#!/usr/bin/env bash
# From rendered people to the demo's weights, as the bundled ones were made (two H200; any number of GPUs works).
#
#   ASSETS=assets WORK=runs/demo GPUS=2 PROCESSES=28 MINUTES=21 bash training/recipes/demo.sh
#
# ASSETS is the folder that training/synthetic/pack.py makes. MINUTES is the time for the denoiser; the networks before it take about five more.
# The bundled autoencoder, evaluators and emotion estimator were trained on the first 1,600 of these people, while the others were still being rendered;
# its features came from an earlier, equal script (training/prepare.py has taken its place), with the latents encoded in bf16.
set -euo pipefail
: "${ASSETS:?the folder made by training/synthetic/pack.py}" "${WORK:=runs/demo}" "${GPUS:=1}" "${PROCESSES:=8}" "${MINUTES:=21}" "${DEVICE:=cuda}"
faces="$WORK/faces"

python -m training.synthetic.generate --assets "$ASSETS" --out "$faces" --people 7600 --images-per-person 8 --processes "$PROCESSES"
python -m training.train_autoencoder --data "$faces" --out "$WORK" --steps 2300
python -m training.train_identity --data "$faces" --out "$WORK/identity/model.safetensors" --steps 5000
python -m training.train_identity --data "$faces" --out "$WORK/evaluators/identity.safetensors" --widths 24 32 64 96 --seed 1 --steps 2000
python -m training.train_identity --data "$faces" --out "$WORK/evaluators/emotion.safetensors" --widths 24 32 64 96 --seed 2 --steps 2000 --task emotion
python -m training.train_emotion --data "$faces" --out "$WORK/emotion/model.safetensors"
python -m training.prepare --source "$faces" --out "$WORK/prepared" --family demo --models "$WORK" --drawings --processes "$PROCESSES" --device "$DEVICE"
torchrun --nproc-per-node "$GPUS" -m training.train_base --data "$WORK/prepared" --models "$WORK" --out "$WORK" --minutes "$MINUTES" --batch 512 --compile --report-every 2500
python -m training.export_demo --models "$WORK" --out "$WORK/base"

# The paper's two stages on that base, the modules starting as they came with it. The bundled ones saw the first 3,200 of these people.
for module in landmark emotion; do
  python -m training.pretrain --preset demo_pretrain --module "$module" --data "$WORK/prepared" --base "$WORK/base" --init "$WORK/base/adapter.safetensors" --steps 1000 --learning-rate 3e-4 --out "$WORK/stages/$module"
done
python -m training.train_joint --preset demo_joint --data "$WORK/prepared" --base "$WORK/base" --init "$WORK/stages/landmark/adapter.safetensors" "$WORK/stages/emotion/adapter.safetensors" --out "$WORK/stages/joint"
python -m training.export_demo --models "$WORK" --run "$WORK/stages/joint" --out demo
python -m training.evaluate_demo --data "$faces" --models demo --out "$WORK/evaluation"
