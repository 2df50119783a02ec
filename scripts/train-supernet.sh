#!/bin/sh
# train-supernet.sh PYTHON OUT: trains the supernet that ships, step by step into var/, and writes the last mean to OUT.
# Environment: SALNAS_WEIGHTS, the folder of MobileNetV2's weights; TRAIN_ARGS, options added to every training, such as
# "--device cuda"; STATISTICS_ARGS, of the means that need good statistics. Run again, it goes on where it stopped.
# docs/training.md says what each step gained.
set -eu
python=$1
shipped=$2
weights=${SALNAS_WEIGHTS:-../shared/weights}
trap 'trap - TERM; kill 0' INT # what runs in the background hears no Ctrl-C

train() { # NAME OPTIONS...
    name=$1
    shift
    # shellcheck disable=SC2086 # several words
    "$python" -m supernet train --batch-size 10 --random-subnets 1 --largest-every 2 --optimizer adamw \
        --frozen-epochs 0 --statistics-subnets 2 "$@" ${TRAIN_ARGS:-} --out "var/$name.safetensors"
}

# Two trainings side by side, one thread each, that differ in seed and crops.
pair() { # NAME SEED CROP OTHER-CROP OPTIONS...
    pair=$1 seed=$2 crop=$3 other_crop=$4
    shift 4
    train "$pair-1" --threads 1 --seed "$seed" --smallest-crop "$crop" "$@" &
    first=$!
    train "$pair-2" --threads 1 --seed $((seed + 1)) --smallest-crop "$other_crop" "$@" || failed=yes
    wait $first
    [ -z "${failed:-}" ]
}

average() { # FILE STATISTICS-OPTIONS SHARE NAME [SHARE NAME]...
    file=$1 options=$2 parts=
    shift 2
    while [ $# -gt 0 ]; do
        parts="$parts var/$2.safetensors --share $1"
        shift 2
    done
    # shellcheck disable=SC2086
    "$python" -m supernet statistics $parts $options --out "$file"
}

mean() { # NAME and the rest of average
    name=$1
    shift
    [ -f "var/$name.safetensors" ] || average "var/$name.safetensors" "$@"
}

all="--data osie --data mit1003 --data crowd --data dut_omron"
mixture="$all --data-weight 3 --data-weight 2 --data-weight 1 --data-weight 3"
mostly_osie="--data osie --data mit1003 --data crowd --data-weight 3 --data-weight 1 --data-weight 1"
few="$mixture --subnets 2 --photos 48 --seed 0"
many="${STATISTICS_ARGS:---subnets 720 --photos 48 --seed 0}"
mkdir -p var

# shellcheck disable=SC2086
{
    # All photos twice, small; then mostly OSIE at full resolution; then with more subnets a step.
    broad="$mixture --epochs 1 --full-resolution-epochs 0 --statistics-subnets 1 --learning-rate 0.001 --precision fp32"
    train broad-1 $broad --warm-start "$weights/mobilenet_v2_1.0_imagenet.safetensors"
    train broad-2 $broad --epoch-photos 4200 --seed 1 --start-from var/broad-1.safetensors
    train first $mostly_osie --epoch-photos 500 --epochs 3 --full-resolution-epochs 3 --frozen-epochs 2 \
        --learning-rate 0.0003 --statistics-subnets 96 --precision fp32 --start-from var/broad-2.safetensors
    train long $mostly_osie --epoch-photos 500 --epochs 11 --full-resolution-epochs 11 --learning-rate 0.0004 \
        --statistics-subnets 8 --seed 3 --start-from var/first.safetensors
    train wide $all --data-weight 4 --data-weight 2 --data-weight 1 --data-weight 1 --epoch-photos 500 --epochs 13 \
        --full-resolution-epochs 13 --random-subnets 3 --learning-rate 0.0005 --statistics-subnets 8 --seed 5 \
        --start-from var/long.safetensors
    mean alone "--data osie $many" 0.6 long 0.4 wide

    # All photos again, taught by the largest subnet of that mean.
    taught="$mixture --alpha 0.4 --random-subnets 2 --teacher var/alone.safetensors"
    train once $taught --epoch-photos 1000 --epochs 8 --full-resolution-epochs 8 --learning-rate 0.001 \
        --statistics-subnets 8 --seed 7 --start-from var/alone.safetensors
    mean start "$few" 0.25 alone 0.75 once
    pair twice 21 0.8 0.8 $taught --epoch-photos 900 --epochs 6 --full-resolution-epochs 6 --learning-rate 0.0007 \
        --largest-every 3 --start-from var/start.safetensors
    mean teacher "$mixture $many" 0.25 start 0.375 twice-1 0.375 twice-2

    # Taught by two networks: all subnets and the smallest alone by turns, and means that keep some of both.
    two="--teacher var/teacher.safetensors --teacher results/models/efficientnet-lite2.safetensors"
    subnets="$mixture --alpha 0.3 --random-subnets 2 --learning-rate 0.0007"
    smallest="$mixture --random-subnets 0 --largest-every 0 --batch-size 16 --learning-rate 0.001 \
        --epochs 2 --full-resolution-epochs 2"
    pair both 31 0.8 0.8 $subnets $two --epoch-photos 1000 --epochs 8 --full-resolution-epochs 8 \
        --learning-rate 0.001 --largest-every 3 --start-from var/teacher.safetensors
    mean both "$few" 0.25 teacher 0.375 both-1 0.375 both-2
    pair small 41 0.8 0.6 $smallest $two --alpha 0.3 --epoch-photos 5000 --start-from var/teacher.safetensors
    mean half "$few" 0.5 both 0.25 small-1 0.25 small-2
    pair joint 61 0.7 0.85 $subnets $two --epoch-photos 900 --epochs 6 --full-resolution-epochs 6 \
        --start-from var/half.safetensors
    mean joint "$few" 0.0625 teacher 0.0625 both 0.275 half 0.3 joint-1 0.3 joint-2
    pair smaller 71 0.7 0.5 $smallest $two --alpha 0.2 --epoch-photos 5000 --start-from var/joint.safetensors
    mean lean "$few" 0.5 joint 0.25 smaller-1 0.25 smaller-2
    pair even 63 0.6 0.8 $subnets $two --epoch-photos 900 --epochs 4 --full-resolution-epochs 4 \
        --start-from var/lean.safetensors
    mean even "$few" 0.3 lean 0.35 even-1 0.35 even-2
    pair late 73 0.7 0.5 $smallest $two --alpha 0.2 --epoch-photos 4400 --start-from var/even.safetensors
    mean late "$few" 0.35 even 0.25 joint 0.2 late-1 0.2 late-2
    pair last 75 0.7 0.5 $smallest $two --alpha 0.2 --epoch-photos 4400 --start-from var/late.safetensors
    mean latest "$mixture $many" 0.6 late 0.2 last-1 0.2 last-2

    # Once more, taught by the largest subnet of that mean. The pair is not in what ships; two trainings began with it.
    now="--teacher var/latest.safetensors --teacher results/models/efficientnet-lite2.safetensors"
    smallest="$smallest $now --alpha 0.2"
    pair final 77 0.7 0.5 $smallest --epoch-photos 4400 --start-from var/latest.safetensors
    train close $smallest --epoch-photos 3000 --seed 93 --smallest-crop 0.85 --start-from var/latest.safetensors
    train whole $smallest --epoch-photos 3000 --seed 93 --smallest-crop 1 --start-from var/latest.safetensors
    mean nearly "$few" 0.5 latest 0.25 close 0.125 whole 0.125 final-1
    train again $smallest --epoch-photos 4400 --seed 96 --smallest-crop 0.9 --start-from var/nearly.safetensors
    mean leaner "$few" 0.5 latest 0.25 final-1 0.25 final-2
    train level $subnets $now --epoch-photos 750 --epochs 4 --full-resolution-epochs 4 --seed 65 --smallest-crop 0.7 \
        --start-from var/leaner.safetensors
}
average "$shipped" "$mixture $many" 0.45 latest 0.2 close 0.15 again 0.2 level
