#!/usr/bin/env bash
# Resolve setup.cfg's requirements into one lock per purpose. Needs uv; run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=docker/requirements
python=$(command -v python3.11)

resolve() { # resolve PURPOSE [EXTRA…]: torch and its CUDA libraries are left to the installer, which knows the machine
  local purpose=$1 extras=()
  shift
  for extra in "$@"; do extras+=(--extra "$extra"); done
  uv pip compile setup.cfg "${extras[@]}" --python "$python" --override $here/overrides.txt --no-annotate --no-header --quiet |
    grep -Ev '^(torch==|nvidia-|cuda-|triton)' >"$here/$purpose.new"
  { echo "# Made by \`make lock\` from setup.cfg (${*:-no extra}). Do not edit."; cat "$here/$purpose.new"; } >"$here/$purpose.txt"
  rm "$here/$purpose.new"
  echo "$purpose: $(grep -c == "$here/$purpose.txt") packages"
}

resolve submit submit watch
resolve data data
resolve train train
resolve dev data train watch test
resolve annotate annotate
{
  echo "# Made by \`make lock\` from setup.cfg: its build for the machine is the installers' business. Do not edit."
  sed -nE 's/^ +(torch) *== */\1==/p' setup.cfg
} >$here/torch.txt
echo "torch: $(grep == $here/torch.txt)"
{
  echo "# Made by \`make lock\`: what the CUDA build of torch needs besides the train lock. Do not edit."
  env -u UV_FIND_LINKS -u PIP_FIND_LINKS uv pip compile $here/torch.txt --python "$python" --no-annotate --no-header --quiet |
    grep -E '^(nvidia-|cuda-|triton)'
} >$here/cuda.txt
echo "cuda: $(grep -c == $here/cuda.txt) packages"
