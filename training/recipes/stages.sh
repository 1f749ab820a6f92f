#!/usr/bin/env bash
# The paper's two stages on the frozen demo base, with three seeds, and a table of each stage on the held-out people.
#
#   FACES=runs/demo/faces PREPARED=runs/demo/prepared WORK=runs/stages bash training/recipes/stages.sh
#
# FACES and PREPARED are what training/recipes/demo.sh leaves. Two runs share the GPU at a time; their output is in the run's folder.
set -euo pipefail
: "${FACES:?rendered people}" "${PREPARED:?their features}" "${WORK:=runs/stages}" "${BASE:=demo}" "${GPUS:=1}" "${SEEDS:=0 1 2}" "${DEMO_FLAGS:=}" "${MEASURE_FLAGS:=--steps 12}" "${EVALUATE_FLAGS:=--steps 12 --count 500 --processes 3}"

logged() { mkdir -p "$1"; "${@:2}" >"$1/output.txt" 2>&1 || { echo "failed: ${*:2}"; tail -n 20 "$1/output.txt"; return 1; }; }
run() { logged "$out/$1" torchrun --standalone --nproc-per-node "$GPUS" -m "training.$2" "${@:3}" --out "$out/$1" --data "$PREPARED" --base "$BASE" --seed "$seed" $DEMO_FLAGS; }
measure() { logged "$1" python -m training.evaluate_demo --data "$FACES" --models "$BASE" --out "$1" $MEASURE_FLAGS "${@:2}"; }
evaluate() { logged "$2" python -m training.evaluate "$1" --source "$FACES" --models "$BASE" --out "$2" $EVALUATE_FLAGS "${@:3}"; }
both() { wait "$1" && wait "$2"; }

measured=()
measure "$WORK/bundled" & measured+=($!)
for seed in $SEEDS; do
  out="$WORK/seed$seed"
  run landmark pretrain --preset demo_pretrain --module landmark & first=$!
  run emotion pretrain --preset demo_pretrain --module emotion & both $first $!
  pretrained=("$out/landmark/adapter.safetensors" "$out/emotion/adapter.safetensors")
  measure "$out/evaluation/pretrained" --adapter "${pretrained[@]}" & measured+=($!)
  run joint train_joint --preset demo_joint --init "${pretrained[@]}" & first=$!
  run joint_without_ad train_joint --preset demo_joint --init "${pretrained[@]}" --ad-weight 0 & both $first $!
  for stage in joint joint_without_ad; do
    measure "$out/evaluation/$stage" --adapter "$out/$stage/adapter.safetensors" --text-encoder "$out/$stage/text_encoder" & measured+=($!)
  done
  methods=(--method "pretrained=${pretrained[0]},${pretrained[1]}" --method "joint=$out/joint/adapter.safetensors" --method "joint without AD=$out/joint_without_ad/adapter.safetensors")
  for benchmark in control identity; do
    evaluate "$benchmark" "$out/$benchmark" "${methods[@]}" & measured+=($!)
  done
  echo "seed $seed trained"
done
# What the weights of Eq. 6 do, on people for choosing settings: a picture.
evaluate control "$WORK/weights" --split validation --conditions "+ both" --count 50 --grid 0.5 1 2 3 4 & measured+=($!)
for job in "${measured[@]}"; do wait "$job"; done
