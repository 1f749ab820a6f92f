#!/usr/bin/env bash
# The paper's two stages on the frozen demo base, with three seeds, and the tables of each stage and of the bundled demo on the 200 held-out people.
#
#   FACES=runs/demo/faces PREPARED=runs/demo/prepared BASE=runs/demo/base WORK=runs/stages bash training/recipes/stages.sh
#
# FACES, PREPARED and BASE are what training/recipes/demo.sh leaves; DEMO is the demo whose own tables are made. The runs share the GPUS, or those of CUDA_VISIBLE_DEVICES, each on one of them; the output of a run is in its
# folder. Adapters that are there are not trained again.
set -euo pipefail
: "${FACES:?rendered people}" "${PREPARED:?their features}" "${WORK:=runs/stages}" "${BASE:?the demo before its joint stage}" "${DEMO:=demo}" "${GPUS:=1}" "${SEEDS:=0 1 2}" "${DEMO_FLAGS:=}" "${MEASURE_FLAGS:=--steps 12}" "${EVALUATE_FLAGS:=--steps 12 --identities 200 --targets 200 --count 500 --processes 3}"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"  # of each run: many that each take all processors spend their time waiting for each other
IFS=, read -ra cards <<<"${CUDA_VISIBLE_DEVICES-$(seq -s, 0 $((GPUS - 1)))}" || true
on() { export CUDA_VISIBLE_DEVICES="${cards[$(($1 % (${#cards[@]} > 0 ? ${#cards[@]} : 1)))]-}"; }  # of a run in the background
logged() { mkdir -p "$1"; "${@:2}" >"$1/output.txt" 2>&1 || { echo "failed: ${*:2}"; tail -n 20 "$1/output.txt"; return 1; }; }
run() { on $((2 * seed + $1)); logged "$out/$2" python -m "training.$3" "${@:4}" --out "$out/$2" --data "$PREPARED" --base "$BASE" --seed "$seed" $DEMO_FLAGS; }
measure() { on ${#jobs[@]}; logged "$1" python -m training.evaluate_demo --data "$FACES" --out "$1" $MEASURE_FLAGS "${@:2}"; }
evaluate() { on ${#jobs[@]}; logged "$2" python -m training.evaluate "$1" --source "$FACES" --out "$2" $EVALUATE_FLAGS "${@:3}"; }
jobs=()
finish() { for job in "${jobs[@]}"; do wait "$job"; done; jobs=(); }

train() {  # both modules apart, then together, with and without the AD loss
  local seed=$1 out="$WORK/seed$1" first
  if [[ -f $out/joint/adapter.safetensors && -f $out/joint_without_ad/adapter.safetensors ]]; then return; fi
  run 0 landmark pretrain --preset demo_pretrain --module landmark & first=$!
  run 1 emotion pretrain --preset demo_pretrain --module emotion & wait $first; wait $!
  run 0 joint train_joint --preset demo_joint --init "$out/landmark/adapter.safetensors" "$out/emotion/adapter.safetensors" & first=$!
  run 1 joint_without_ad train_joint --preset demo_joint --init "$out/landmark/adapter.safetensors" "$out/emotion/adapter.safetensors" --ad-weight 0 & wait $first; wait $!
  echo "seed $seed trained"
}

for seed in $SEEDS; do train "$seed" & jobs+=($!); done
finish
for benchmark in control identity; do
  evaluate "$benchmark" "$WORK/bundled/$benchmark" --models "$DEMO" & jobs+=($!)
  for seed in $SEEDS; do
    out="$WORK/seed$seed"
    methods=(--models "$BASE" --method "pretrained=$out/landmark/adapter.safetensors,$out/emotion/adapter.safetensors")
    methods+=(--method "joint=$out/joint/adapter.safetensors" --method "joint without AD=$out/joint_without_ad/adapter.safetensors")
    evaluate "$benchmark" "$out/$benchmark" "${methods[@]}" & jobs+=($!)
  done
  finish
done
measure "$WORK/bundled/demo" --models "$DEMO" & jobs+=($!)
measure "$WORK/base/demo" --models "$BASE" & jobs+=($!)
# What is lost by evaluating fewer rows of Eq. 6.
evaluate control "$WORK/approximations" --models "$DEMO" --steps 25 --count 200 --conditions "+ both" --approximate & jobs+=($!)
# What the weights of Eq. 6 do, and the alphas, on people for choosing settings: two pictures.
evaluate control "$WORK/weights" --models "$DEMO" --split validation --conditions "+ both" --count 50 --grid 0.5 1 2 3 4 & jobs+=($!)
evaluate control "$WORK/alphas" --models "$DEMO" --split validation --conditions "+ both" --count 50 --grid 0 0.5 1 1.5 --grid-over alpha & jobs+=($!)
finish
