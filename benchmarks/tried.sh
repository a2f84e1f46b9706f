#!/usr/bin/env bash
# The trainings of fold 0 that the choices of the `hippocampus` recipe come from: bash benchmarks/tried.sh DATA OUT
# DATA is the hippocampus of the Decathlon (Task04). Each line of the lists is a run OUT/NAME with these settings; one that
# was broken off is gone on with, and a finished one is not done again. About 15 hours on 2 cores.
set -euof pipefail
data=$1 out=$2
mkdir -p "$out"

train() { # NAME SETTING...
    local name=$1 settings=()
    shift
    for setting in "$@"; do settings+=(--set "$setting"); done
    medseg train hippocampus --data "$data" --fold 0 --out "$out/$name" --cache "$out/prepared" --resume "${settings[@]}"
}

# What each began with, before the rates were tried.
first="training.learning_rate=1.5e-3 training.weight_decay=0.01"
fours="training.learning_rate=2e-3 training.weight_decay=0.01 training.batch=4 training.steps_per_epoch=50 prediction.margin=0"
less="augment.affine=0.3 augment.scale=0.2 augment.elastic=0.1 augment.gamma=0.2 augment.blur=0.1 augment.bias_field=0.1
    augment.noise=0.1"
wide="model.options.filters=[32,64,128,256] training.epochs=1 training.steps_per_epoch=150"
sides='augment.flip=0.5 augment.flip_axes=["I"] prediction.flips=["I"]'
every='augment.flip=0.5 prediction.flips=["I","J","K"]'

while read -r name settings; do
    # shellcheck disable=SC2086
    [ -z "$name" ] || train "$name" $settings
done <<END
rate_1.5e-3_short $first training.epochs=2
rate_3e-3_short $first training.epochs=2 training.learning_rate=3e-3
rate_5e-3_short $first training.epochs=2 training.learning_rate=5e-3
rate_1e-2_short $first training.epochs=2 training.learning_rate=1e-2
rate_1e-2_decay_short $first training.epochs=2 training.learning_rate=1e-2 training.weight_decay=0.1
rate_2e-2_short $first training.epochs=2 training.learning_rate=2e-2
wide_1e-3_short $wide training.learning_rate=1e-3 training.weight_decay=0.01
wide_5e-3_short $wide

rate_1.5e-3 $first training.epochs=30
rate_1.5e-3_decay $first training.epochs=30 training.weight_decay=0.3
rate_5e-3 $first training.epochs=30 training.learning_rate=5e-3
rate_5e-3_decay training.epochs=30
residual $first training.epochs=30 model.options.res_block=true
shifted $first training.epochs=30 augment.shift_voxels=4 prediction.margin=0
sides $first training.epochs=30 $sides prediction.margin=0
long $first prediction.margin=0

fours $fours training.epochs=30
fours_less $fours $(echo $less) training.epochs=30
fours_800 $fours $(echo $less) training.epochs=16
fours_800_sides $fours $(echo $less) $sides training.epochs=16
fours_800_every $fours $(echo $less) $every training.epochs=16
fours_3000_every $fours $(echo $less) $every training.epochs=60
END

# The same weights, seen from places further apart: scored again.
for run in long rate_1.5e-3 shifted fours; do
    case $run in
        long) settings="$first" ;;
        rate_1.5e-3) settings="$first training.epochs=30" ;;
        shifted) settings="$first training.epochs=30 augment.shift_voxels=4" ;;
        fours) settings="$fours training.epochs=30" ;;
    esac
    for margin in 0 1 2 4; do
        # shellcheck disable=SC2086
        train "$run" $settings prediction.margin=$margin | tee "$out/${run}_margin_$margin.txt"
    done
done
