"""jobs/build_horovod.sh, with stand-ins for Python, cmake and ROCm: what a build for ROCm is told, and what
is refused before anything is built."""

import os
import subprocess

import pytest
from conftest import CHECKOUT, TIMEOUT

SCRIPT = CHECKOUT / "jobs" / "build_horovod.sh"
PYTHON = r"""#!/bin/bash
# pip's wheel calls cmake as Horovod's setup.py does
case "$*" in
  *torch.__version__*) echo 2.8.0+rocm6.4 ;;
  *torch.version.hip*) echo "$FAKE_HIP" ;;
  *sys.version_info*) echo cp312 ;;
  *"pip download"*)
    while [ "$1" != -d ]; do shift; done
    tree=$2/horovod-0.28.1
    mkdir -p "$tree/horovod/torch" "$tree/horovod/common"
    echo 'set(CMAKE_CXX_STANDARD 14)' | tee "$tree/CMakeLists.txt" > "$tree/horovod/torch/CMakeLists.txt"
    touch "$tree/horovod/common/common.h" "$tree/horovod/common/group_table.h"
    tar -C "$2" -czf "$tree.tar.gz" horovod-0.28.1 && rm -r "$tree" ;;
  *"pip wheel"*)
    while [ "$1" != -w ]; do shift; done
    cmake "$3" -DCMAKE_BUILD_TYPE=Release && cmake --build . --config Release || exit
    env | grep -E '^(HOROVOD|HCC|CPATH|ROCM)' > "$FAKE_LOG.env"
    mkdir -p "$2" && touch "$2/horovod-0.28.1-cp312.whl" ;;
esac
"""
CMAKE = """#!/bin/bash
printf '%s\\n' "$*" >> "$FAKE_LOG"
"""
HAS = ("bin/hipcc", "include/rccl/rccl.h", "lib/librccl.so.1", "lib/cmake/hip/FindHIP.cmake")


@pytest.fixture
def build(tmp_path):
    """build(kind, without=(), **variables) -> CompletedProcess; ROCm is a tree of stubs, without some."""
    tools, rocm = tmp_path / "tools", tmp_path / "rocm"
    tools.mkdir()
    for name, text in (("python", PYTHON), ("cmake", CMAKE), ("mpicxx", "#!/bin/bash\necho mpicxx\n"),
                       ("mpirun", "#!/bin/bash\necho 'mpirun (Open MPI) 5.0.11'\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def call(kind, without=(), version="6.4.1", **variables):
        for name in (*HAS, ".info/version"):
            (rocm / name).parent.mkdir(parents=True, exist_ok=True)
            (rocm / name).write_text(f"{version}\n")
            (rocm / name).chmod(0o755)
        for name in without:
            (rocm / name).unlink()
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("HOROVOD", "ROCM", "CPATH", "HCC"))}
        own = {"PYTHON": str(tools / "python"), "WHEELS": str(tmp_path / "wheels"), "ROCM_PATH": str(rocm),
               "FAKE_HIP": "6.4", "FAKE_LOG": str(tmp_path / "log"), "TMPDIR": str(tmp_path),
               "PATH": f"{tools}:{os.environ['PATH']}", **variables}
        return subprocess.run(["bash", str(SCRIPT), kind], env={**clean, **own}, capture_output=True,
                              text=True, timeout=TIMEOUT, check=False)

    return call


def told(tmp_path):
    """(the words of each call of cmake, the variables of the build)."""
    lines = (tmp_path / "log.env").read_text().splitlines()
    return ((tmp_path / "log").read_text().splitlines(),
            dict(line.split("=", 1) for line in lines))


def test_rocm_6_is_told_where_its_modules_are(build, tmp_path):
    done = build("rocm", CPATH="/else")
    assert done.returncode == 0 and "Horovod 0.28.1 (rocm) is installed" in done.stdout, done.stderr
    (configure, make), variables = told(tmp_path)
    rocm = tmp_path / "rocm"
    assert configure.startswith(f"-DCMAKE_MODULE_PATH={rocm}/lib/cmake/hip ")
    assert "-DCMAKE_BUILD_TYPE=Release" in configure
    assert make == "--build . --config Release", "cmake takes no -D beside --build"
    assert variables["CPATH"] == f"{rocm}/include/rccl:/else"
    assert variables["HOROVOD_RCCL_HOME"] == variables["HOROVOD_NCCL_HOME"] == f"{rocm}/include/rccl"
    assert variables["HOROVOD_RCCL_LIB"] == variables["HOROVOD_NCCL_LIB"] == f"{rocm}/lib"
    assert (variables["HOROVOD_GPU"], variables["HOROVOD_GPU_OPERATIONS"]) == ("ROCM", "NCCL")
    assert variables["HOROVOD_ROCM_HOME"] == variables["ROCM_PATH"] == str(rocm)
    assert variables["HCC_AMDGPU_TARGET"] == "gfx90a,gfx942"
    assert not list(tmp_path.glob("tmp.*")), "nothing is left of the build"


def test_what_is_set_already_is_kept(build, tmp_path):
    assert build("rocm", HCC_AMDGPU_TARGET="gfx908", HOROVOD_MPICXX_SHOW="CC x").returncode == 0
    variables = told(tmp_path)[1]
    assert variables["HCC_AMDGPU_TARGET"] == "gfx908" and variables["HOROVOD_MPICXX_SHOW"] == "CC x"


def test_rocm_5_needs_no_remedy(build, tmp_path):
    assert build("rocm", ["lib/cmake/hip/FindHIP.cmake"], version="5.7.0").returncode == 0
    assert not any("CMAKE_MODULE_PATH" in line for line in told(tmp_path)[0])


def test_a_build_for_cpus_knows_nothing_of_it(build, tmp_path):
    assert build("cpu").returncode == 0
    calls, variables = told(tmp_path)
    assert "CMAKE_MODULE_PATH" not in str(calls) and "HOROVOD_RCCL_HOME" not in variables


@pytest.mark.parametrize("without, variables, problem", [
    (["bin/hipcc"], {}, "bin/hipcc; install or load the development part of ROCm"),
    (["include/rccl/rccl.h"], {}, "include/rccl; install RCCL's headers"),
    (["lib/librccl.so.1"], {}, "no librccl.so in "),
    (["lib/cmake/hip/FindHIP.cmake"], {}, "FindHIP.cmake, which ROCm 6 and later need"),
    (["lib/cmake/hip/FindHIP.cmake", ".info/version"], {}, "FindHIP.cmake, which ROCm 6 and later need"),
    ([], {"FAKE_HIP": ""}, "torch 2.8.0+rocm6.4 is not built for ROCm"),
    ([], {"ROCM_PATH": "/nowhere"}, "no ROCm at /nowhere; load its module, or set HOROVOD_ROCM_HOME"),
])
def test_what_cannot_be_built_is_refused_before_it_is_tried(build, tmp_path, without, variables, problem):
    done = build("rocm", without, **variables)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("build_horovod: ") and problem in done.stderr
    assert not (tmp_path / "log").exists() and not list(tmp_path.glob("tmp.*"))


def test_shellcheck():
    try:
        done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True, timeout=TIMEOUT,
                              check=False)
    except FileNotFoundError:
        pytest.skip("shellcheck is not installed")
    assert done.returncode == 0, done.stdout
