#!/usr/bin/env bash
# Resolve setup.cfg's requirements into one lock per purpose, for every Python from the oldest that setup.cfg allows: where one
# release cannot serve all of them, the lock has a line for each, with a marker. Needs uv; run by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=docker/requirements
oldest=$(sed -nE 's/^python_requires = >=([0-9.]+).*/\1/p' setup.cfg)
# A folder of wheels for one Python alone would lead the resolver astray.
unset UV_FIND_LINKS PIP_FIND_LINKS

resolve() { # resolve PURPOSE [EXTRA…]: torch and its CUDA libraries are left to the installer, which knows the machine
  local purpose=$1 extras=()
  shift
  for extra in "$@"; do extras+=(--extra "$extra"); done
  uv pip compile setup.cfg "${extras[@]}" --universal --fork-strategy fewest --python-version "$oldest" \
    --override $here/overrides.txt --no-annotate --no-header --quiet |
    grep -Ev "^(torch==|nvidia-|cuda-|triton)|sys_platform == 'win32'" >"$here/$purpose.new"
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
  uv pip compile $here/torch.txt --python-version "$oldest" --no-annotate --no-header --quiet |
    grep -E '^(nvidia-|cuda-|triton)'
} >$here/cuda.txt
echo "cuda: $(grep -c == $here/cuda.txt) packages"
