#!/usr/bin/env bash
# Measure on a machine with one GPU, in seven minutes, without a network and without Horovod: laws on the device, the loop against a
# minimal DDP loop, scoring, epochs with hidden samples, a training without a filter and with two.
#
#   benchmarks/gpu.sh SOURCE [FOLDER]
#
# SOURCE     a packed file, or anything that `hpcfilter pack` reads, such as CIFAR-10 in an .h5 file; "digits" for a trial
# FOLDER     takes gpu.jsonl, and what doctor says of the machine              (default: benchmarks/results/gpu)
#
# PYTHON     an interpreter whose torch sees the GPU                           (default: python3 on PATH)
# WHEELS     a folder of wheels, from which packages that are missing, and all they depend on (numpy too), go into
#            .cache/gpu/packages, and no index is asked
#            (default: none; a missing package is then named, and nothing is installed)
# UNPACK     a program `UNPACK SOURCE TARGET` that makes SOURCE readable first (default: none)
# MINUTES    from the start of this script; what does not fit is left out      (default: 7)
# LAUNCH     how two ranks are started: torchrun, or mpirun with Horovod       (default: torchrun)
# GPU=0      try the script on the CPU, at small sizes
# More words go to `python -m benchmarks gpu`: benchmarks/gpu.sh SOURCE FOLDER --parts laws loop
set -euo pipefail

die() { echo "gpu.sh: $*" >&2; exit 2; }
ask() { "$PYTHON" -c "$@" 2>/dev/null; }
says() { echo "== $*"; }

[ $# -ge 1 ] || die "got no SOURCE, expected benchmarks/gpu.sh SOURCE [FOLDER]"
ROOT=$(cd "$(dirname "$0")/.." && pwd)
WHEELS=${WHEELS:+$(realpath "$WHEELS")} UNPACK=${UNPACK:+$(realpath "$(command -v "$UNPACK" || echo "$UNPACK")")}
SOURCE=$1 FOLDER=$(realpath -m "${2:-$ROOT/benchmarks/results/gpu}")
shift $(($# > 1 ? 2 : 1))
if [ "$SOURCE" != digits ]; then
  [ -e "$SOURCE" ] || die "$SOURCE: no such file or folder"
  SOURCE=$(realpath -e "$SOURCE")
fi
GPU=${GPU:-1} MINUTES=${MINUTES:-7} LAUNCH=${LAUNCH:-torchrun} PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || die "no interpreter '$PYTHON'"
PYTHON=$(realpath -s "$(command -v "$PYTHON")")
cd "$ROOT"
WORK=$ROOT/.cache/gpu
mkdir -p "$WORK" "$FOLDER"
export PYTHONPATH=$ROOT:$WORK/packages${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

TORCH=$(ask 'import torch; print(torch.__version__)') || die "$PYTHON has no torch; set PYTHON to an interpreter that has one"
DEVICE=cpu
if [ "$GPU" != 0 ]; then
  DEVICE=$(ask 'import torch; print(next(kind for kind in ("cuda", "xpu") if torch.get_device_module(kind).is_available()))') ||
    die "torch $TORCH sees no GPU; GPU=0 tries the script without one"
fi

MISSING=$("$PYTHON" - "$SOURCE" <<'END'
import importlib.util
import sys
names = {"numpy": "numpy", "h5py": "h5py", "jinja2": "jinja2", "pydantic": "pydantic", "scipy": "scipy", "tomli_w": "tomli-w",
         "tqdm": "tqdm", **({"sklearn": "scikit-learn"} if sys.argv[1] == "digits" else {})}
print(*(package for module, package in names.items() if importlib.util.find_spec(module) is None))
END
)
if [ -n "$MISSING" ]; then
  [ -n "${WHEELS:-}" ] || die "missing: $MISSING; set WHEELS to a folder of their wheels, or install them"
  says "packages from $WHEELS: $MISSING"
  # shellcheck disable=SC2086  # several words
  "$PYTHON" -m pip install -q --disable-pip-version-check --no-index --find-links "$WHEELS" --target "$WORK/packages" $MISSING
fi

says "data"
DATA=$SOURCE
if ! ask 'import sys; from hpcfilter.data import is_packed; sys.exit(not is_packed(sys.argv[1]))' "$SOURCE"; then
  DATA=$WORK/data.h5
  if [ -n "${UNPACK:-}" ]; then
    "$UNPACK" "$SOURCE" "$WORK/unpacked.h5"
    SOURCE=$WORK/unpacked.h5
  fi
  "$PYTHON" -m hpcfilter pack "$SOURCE" -o "$DATA" --replace
fi
says "doctor"
"$PYTHON" -m hpcfilter doctor --folder "$WORK" 2>&1 | tee "$FOLDER/doctor.txt" || says "doctor has found problems; the measurement goes on"

SMALL=()
if [ "$GPU" = 0 ]; then
  SMALL=(--model cnn --batch 128 --epochs 2 --accuracy-epochs 2 --samples 256)
fi
LEFT=$(awk -v all="$MINUTES" -v gone="$SECONDS" 'BEGIN { print all - gone / 60 }')
exec "$PYTHON" -m benchmarks gpu --data "$DATA" --folder "$FOLDER" --minutes "$LEFT" --device "$DEVICE" --launch "$LAUNCH" "${SMALL[@]}" "$@"
