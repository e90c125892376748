#!/bin/sh
# Optimise a pretrained CIFAR-10 ResNet: run.sh DATA_DIR WEIGHTS.safetensors [OPTIONS OF hant-opt]
# DATA_DIR holds CIFAR-10 in one of its usual layouts; the weights expect ImageNet's normalisation.
set -eu
data=$1 weights=$2
shift 2
here=$(dirname "$0")
name=$(basename "$weights" .safetensors)
mkdir -p runs
python "$here/convert.py" "$weights" "runs/$name.pt"
hant-opt "runs/$name.pt" --data "cifar10:$data?normalize=imagenet" --target cpu-ort --budget 0.6 --output "runs/$name-0.6" "$@"
