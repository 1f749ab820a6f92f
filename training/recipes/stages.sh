#!/usr/bin/env bash
# The paper's two stages on the frozen demo base, with three seeds, and a table of each stage on the held-out people.
#
#   FACES=runs/demo/faces PREPARED=runs/demo/prepared WORK=runs/stages GPUS=1 bash training/recipes/stages.sh
#
# FACES and PREPARED are what training/recipes/demo.sh leaves.
set -euo pipefail
: "${FACES:?rendered people}" "${PREPARED:?their features}" "${WORK:=runs/stages}" "${BASE:=demo}" "${GPUS:=1}" "${SEEDS:=0 1 2}" "${DEMO_FLAGS:=}"

run() { torchrun --standalone --nproc-per-node "$GPUS" -m "training.$1" "${@:2}" --data "$PREPARED" --base "$BASE" --seed "$seed" $DEMO_FLAGS; }
measure() { python -m training.evaluate_demo --data "$FACES" --models "$BASE" --out "$out/evaluation/$1" "${@:2}"; }

for seed in $SEEDS; do
  out="$WORK/seed$seed"
  run pretrain --preset demo_pretrain --module landmark --out "$out/landmark"
  run pretrain --preset demo_pretrain --module emotion --out "$out/emotion"
  pretrained=("$out/landmark/adapter.safetensors" "$out/emotion/adapter.safetensors")
  run train_joint --preset demo_joint --init "${pretrained[@]}" --out "$out/joint"
  run train_joint --preset demo_joint --init "${pretrained[@]}" --out "$out/joint_without_ad" --ad-weight 0
  measure pretrained --adapter "${pretrained[@]}"
  for stage in joint joint_without_ad; do
    measure "$stage" --adapter "$out/$stage/adapter.safetensors" --text-encoder "$out/$stage/text_encoder"
  done
done
