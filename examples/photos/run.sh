#!/bin/sh
# EfficientNet-Lite2 under the latency of a smaller sibling: run.sh PHOTOS [SIBLING (0 or 1)] [OPTIONS OF hant-opt]
# PHOTOS holds train/CLASS/* and val/CLASS/*. Give the same command again to go on after a stop.
set -eu
photos=$1 sibling=${2:-0}
shift; [ $# -eq 0 ] || shift
here=$(dirname "$0")
mkdir -p runs
for lite in 2 "$sibling"; do
    [ -e "runs/lite$lite.pt" ] || python "$here/teacher.py" "$lite" "$photos" "runs/lite$lite.pt"
done
run="runs/lite2-under-lite$sibling"
[ -e "$run.budget" ] || python "$here/ratio.py" runs/lite2.pt "runs/lite$sibling.pt" > "$run.budget"
hant-opt runs/lite2.pt --data "imagefolder:$photos?normalize=half" --target cpu-ort --budget "$(cat "$run.budget")" --output "$run" "$@"
python "$here/ratio.py" runs/lite2.pt "$run/student.pt" "runs/lite$sibling.pt"
