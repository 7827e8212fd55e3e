#!/usr/bin/env bash
# Pascal VOC2007 + VOC2012: download, check, train with the settings of the article and of the original, score.
set -euo pipefail

usage() {
    cat <<'END'
usage: recipes/voc0712.sh [--help] [--data DIR] [--run DIR] [--only-data] [TRAINING...]

Downloads VOC2007 trainval and test and VOC2012 trainval (2.9 GB), verifies and unpacks them, checks the data, trains
on the two trainval splits, and scores each training on VOC2007 test. Called again, it continues where it stopped.
It needs a GPU: on two CPU cores one training would take weeks.

TRAINING: any of (default: all but quick300)
  article300 article512    train.py --recipe article: Adam, epsilon 0.1, rate 1e-3 × 0.97 per epoch, batch 8,
                           200 epochs, the article's presets
  original300 original512  train.py --recipe original: momentum, batch 32 as 4 × 8, rate 1e-3, × 0.1 after 80,000 and
                           100,000 of 120,000 steps, twice the rate for biases, weight decay 5e-4
  quick300                 train.py's own settings, but batch 32 and a moving average of the weights (--ema 0.999),
                           60 epochs of VOC2007 trainval alone, conv1 and conv2 kept as they are; alone it downloads
                           only VOC2007 (0.9 GB)

Time, estimated from figures of docs/gpu.md; no training has been run to its end:
  quick300                     5 to 10 minutes: 300,660 images, at 694 (H100) to 1,674 images/s (H200, XLA), and the score
on one H100, at 352 to 720 images/s at batch 8, in bfloat16, a third of that at 512:
  article300, original300      1.3 to 3 hours each: 3.3 and 3.8 million images
  article512, original512      4 to 9 hours each

  --data DIR    folder for VOCdevkit (default: runs/voc0712/data)
  --run DIR     folder for trainings and scores (default: runs/voc0712)
  --only-data   stop after checking the data

environment:
  PYTHON        interpreter (default: the project's .venv/bin/python if there is one, python3 otherwise)
  VGG           VGG-16 weights, as for train.py --vgg-weights (default: auto)
  TRAIN_FLAGS   further flags for train.py, which override the recipe's
  VOC_BASE_URL  address of the archives (default: http://host.robots.ox.ac.uk/pascal/VOC)
  VOC2007_TRAINVAL_MD5 VOC2007_TEST_MD5 VOC2012_TRAINVAL_MD5   checksums of other archives
  VOC_NEED_MB   disk space required for each archive, with what of it is there (default: twice its size)
END
}

die() {
    echo "error: $*" >&2
    exit 1
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BASE_URL=${VOC_BASE_URL:-http://host.robots.ox.ac.uk/pascal/VOC}
DATA=runs/voc0712/data RUN=runs/voc0712 ONLY_DATA=""
TRAININGS=(article300 article512 original300 original512)
QUICK=quick300 # on VOC2007 alone
# path below the base URL, MD5, size in MB
ARCHIVES=(
    "voc2007/VOCtrainval_06-Nov-2007.tar ${VOC2007_TRAINVAL_MD5:-c52e279531787c972589f7e41ab4ae64} 460"
    "voc2007/VOCtest_06-Nov-2007.tar ${VOC2007_TEST_MD5:-b6e924de25625d8de591ea690078ad9f} 451"
    "voc2012/VOCtrainval_11-May-2012.tar ${VOC2012_TRAINVAL_MD5:-6cd6e144f989b92b3379bac3b3de84fd} 2000"
)
TRAIN_2007=2007:trainval
TRAIN=$TRAIN_2007,2012:trainval
TEST=2007:test

main() {
    parse "$@"
    find_tools
    mkdir -p "$DATA" "$RUN" || die "--data $DATA, --run $RUN: cannot be created; choose other folders"
    local archive
    for archive in "${ARCHIVES[@]}"; do
        if is_only_quick && [[ $archive != voc2007/* ]]; then continue; fi
        # shellcheck disable=SC2086 # three words
        provide $archive
    done
    check_data
    [ -z "$ONLY_DATA" ] || return 0
    local name
    for name in "${CHOSEN[@]}"; do
        train "$name"
        score "$name"
    done
    print_scores
}

parse() {
    CHOSEN=()
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
            --data | --run)
                [ $# -ge 2 ] || die "$1: give a folder after it (see --help)"
                [ "$1" = --data ] && DATA=$2 || RUN=$2
                shift
                ;;
            --only-data) ONLY_DATA=1 ;;
            -*) die "$1: no such argument (see --help)" ;;
            *)
                is_training "$1" || die "$1: no such training; choose from ${TRAININGS[*]} $QUICK"
                CHOSEN+=("$1")
                ;;
        esac
        shift
    done
    [ ${#CHOSEN[@]} -gt 0 ] || CHOSEN=("${TRAININGS[@]}")
}

is_training() {
    local name
    for name in "${TRAININGS[@]}" "$QUICK"; do
        [ "$name" != "$1" ] || return 0
    done
    return 1
}

is_only_quick() {
    local name
    for name in "${CHOSEN[@]}"; do
        [ "$name" = "$QUICK" ] || return 1
    done
}

find_tools() {
    local tool
    for tool in curl tar md5sum df awk; do
        command -v "$tool" >/dev/null || die "$tool is missing; install it, for example: apt-get install $tool"
    done
    if [ -z "${PYTHON:-}" ]; then
        PYTHON=python3
        [ ! -x "$HERE/.venv/bin/python" ] || PYTHON=$HERE/.venv/bin/python
    fi
    "$PYTHON" -c "import tensorflow" 2>/dev/null ||
        die "$PYTHON has no TensorFlow; run make demo once, or set PYTHON to an interpreter with the packages of requirements.txt"
}

# provide PATH MD5 MEGABYTES: download, verify and unpack an archive
provide() {
    local name=${1##*/}
    local file=$DATA/$name mark=$DATA/.unpacked-$name
    if [ -e "$mark" ]; then
        echo "$name: already unpacked"
        return
    fi
    if [ ! -e "$file" ]; then
        check_space "$3" "$file.part"
        download "$BASE_URL/$1" "$file.part" "$2"
        mv "$file.part" "$file"
    fi
    echo "$name: verifying"
    matches "$file" "$2" || die "$file: its MD5 is not $2; delete the file and call again, or set its own MD5 (see --help)"
    echo "$name: unpacking"
    tar -xf "$file" -C "$DATA" || die "$file: cannot be unpacked, see above; check the disk space of $DATA"
    : >"$mark"
}

# check_space MEGABYTES PART: of what is needed, PART is there already
check_space() {
    local need=${VOC_NEED_MB:-$((2 * $1))} free
    [ ! -e "$2" ] || need=$((need - $(wc -c <"$2") / 1048576))
    free=$(df -Pk "$DATA" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge "$need" ] || die "--data $DATA: $need MB are needed for the next archive, $free MB are free"
}

# download URL PART MD5: download into PART, continuing an earlier call
download() {
    local status=0 answer show=(--silent)
    [ ! -t 2 ] || show=(--progress-bar)
    if [ -e "$2" ] && matches "$2" "$3"; then
        return
    fi
    echo "$1: downloading"
    answer=$(curl --fail --location "${show[@]}" --retry 3 --connect-timeout 30 --speed-time 60 --speed-limit 1 \
        --continue-at - --write-out '%{http_code}' --output "$2" "$1") || status=$?
    if [ $status -eq 33 ] || [ "$answer" = 416 ]; then # the server cannot send the rest: it has no ranges, or no more data
        rm -f "$2"
        die "$1: the server cannot continue the download; the part is deleted, call again"
    fi
    [ $status -eq 0 ] ||
        die "$1: cannot be downloaded (curl $status, HTTP $answer); call again to continue, or set VOC_BASE_URL"
    if ! matches "$2" "$3"; then
        rm -f "$2"
        die "$1: the download does not have the MD5 $3; it is deleted, call again"
    fi
}

matches() {
    [ "$(md5sum <"$1" | awk '{ print $1 }')" = "$2" ]
}

run() {
    echo "\$ python $*"
    "$PYTHON" "$HERE/$1" "${@:2}"
}

check_data() {
    local page=$RUN/check.html splits=$TRAIN
    if is_only_quick; then page=$RUN/check-2007.html splits=$TRAIN_2007; fi
    [ ! -e "$page" ] || return 0
    run check_dataset.py --data "$DATA/VOCdevkit" --split "$splits,$TEST" --html "$page"
}

# same_settings RUN: fail unless a later call has the settings that the training was started with
same_settings() {
    local now="TRAIN_FLAGS='${TRAIN_FLAGS:-}' VGG='${VGG:-auto}'" note=$1.settings
    [ -e "$1/config.json" ] || echo "$now" >"$note"
    [ -e "$note" ] || die "--run $RUN: $note, the settings of that training, is missing; choose another --run"
    [ "$(cat "$note")" = "$now" ] ||
        die "--run $RUN: ${note##*/} says $(cat "$note"), not $now; set them as before, or choose another --run"
}

train() {
    local into=$RUN/$1
    same_settings "$into"
    [ ! -e "$into.trained" ] || return 0
    if [ -e "$into/config.json" ]; then
        run train.py --run "$into" --resume
    else
        local splits=$TRAIN recipe
        case $1 in
            article*) recipe=(--recipe article --preset "vgg${1#article}-article") ;;
            original*) recipe=(--recipe original --preset "vgg${1#original}") ;;
            "$QUICK")
                splits=$TRAIN_2007
                recipe=(--recipe default --batch-size 32 --epochs 60 --ema 0.999 --freeze "conv1,conv2")
                ;;
        esac
        # shellcheck disable=SC2086 # TRAIN_FLAGS are several words
        run train.py --data "$DATA/VOCdevkit" --train "$splits" --run "$into" --vgg-weights "${VGG:-auto}" \
            "${recipe[@]}" --precision auto ${TRAIN_FLAGS:-}
    fi
    : >"$into.trained"
}

score() {
    local out=$RUN/$1-score
    [ ! -e "$out/ap.json" ] || return 0
    local data=(--data "$DATA/VOCdevkit" --split "$TEST")
    run infer.py "$RUN/$1@last" "${data[@]}" --output "$out" --overwrite --no-draw
    run average_precision.py "$out/detections.json" "${data[@]}" --json "$out/ap.json" --plots "$out/plots"
}

print_scores() {
    local name
    echo "VOC07 mean AP at IoU 0.5 on VOC2007 test"
    for name in "${CHOSEN[@]}"; do
        "$PYTHON" -c '
import json, sys
mean = json.load(open(sys.argv[2]))["voc07"]["mean"]
print(f"  {sys.argv[1]:12}", "n/a" if mean is None else f"{mean:.4f}", " see", sys.argv[3])
' "$name" "$RUN/$name-score/ap.json" "$RUN/$name-score/plots/errors.html"
    done
}

trap 'exit 130' INT # after the running program has saved its work
main "$@"
