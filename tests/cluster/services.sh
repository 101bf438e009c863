#!/usr/bin/env bash
# A container engine and a Kubernetes of one's own for tests/cluster: `eval "$(tests/cluster/services.sh up)"`, later `… down`.
# Prints the variables to export. As root, where the tools that start them lie beside the checkout; elsewhere set the
# variables by hand: docs/development.md. `up` again finds what runs; several runs of the tests may share it. What takes
# minutes to make (base image, layers) is kept in /var/tmp/sightline-tests.
set -euo pipefail
shared=$(realpath -m "$(dirname "$0")/../../../shared")
kept=/var/tmp/sightline-tests
cluster=/run/sightline-tests

keep_images() {
  # A kubelet removes every image that no pod uses once 85 % of the disk is taken, the ones that later tests build from with it.
  local kubelet command
  kubelet=$(cat "$cluster/kubelet.pid")
  mapfile -d '' -t command <"/proc/$kubelet/cmdline"
  kill "$kubelet"
  while kill -0 "$kubelet" 2>/dev/null; do sleep 0.1; done
  cd "$cluster"
  echo 'imageGCHighThresholdPercent: 100' >>kubelet.yaml
  setsid nohup "${command[@]}" >>logs/kubelet 2>&1 </dev/null &
  echo $! >kubelet.pid
  cd - >/dev/null
  for _ in $(seq 300); do
    (exec 3<>/dev/tcp/127.0.0.1/10248) 2>/dev/null && return
    sleep 0.2
  done
  tail -3 "$cluster/logs/kubelet" >&2
  return 1
}

case ${1:?up or down} in
up)
  if [ ! -x "$shared/tools/kubernetes" ]; then
    echo "nothing that starts an engine and a Kubernetes lies beside this checkout; set by hand:" >&2
    echo "  export SIGHTLINE_TEST_DOCKER_HOST=unix:///path/to/docker.sock SIGHTLINE_TEST_KUBECONFIG=/path/to/kubeconfig" >&2
    exit 1
  fi
  mkdir -p "$kept"
  engine=$("$shared/tools/container-engine" up "$kept/engine")
  eval "$engine"
  "$shared/tools/base-image" "$kept/base" >&2
  export KUBECONFIG=$cluster/kubeconfig
  if ! kubectl get node localhost >/dev/null 2>&1; then
    # What was killed left its mounts.
    "$shared/tools/kubernetes" down "$cluster" >/dev/null 2>&1 || true
    rm -rf "$cluster"
    "$shared/tools/kubernetes" up "$cluster" >/dev/null
    keep_images
  fi
  echo "export SIGHTLINE_TEST_DOCKER_HOST=$DOCKER_HOST SIGHTLINE_TEST_KUBECONFIG=$KUBECONFIG"
  if [ -d "$shared/wheels" ]; then echo "export SIGHTLINE_TEST_WHEELS=$shared/wheels"; fi
  ;;
down)
  export DOCKER_HOST=unix://$kept/engine/docker.sock
  "$shared/tools/kubernetes" down "$cluster"
  "$shared/tools/container-engine" down "$kept/engine"
  rm -rf "$cluster"
  ;;
*) echo "usage: $0 up|down" >&2; exit 2 ;;
esac
