"""Compiles the kernels to PTX: python compile.py 70|80|90 path/to/libnvrtc.so.12 [out.ptx]

The number is ten times the lowest compute capability of the PTX. The PTX for 8.0 and 9.0 contains only kernels that the previous one
lacks: those of matrix units, and those of clusters of blocks. NVRTC 12.0.140 compiles the committed PTX for 7.0 and 8.0; 12.1.105, the
first version with all instructions of clusters, compiles that for 9.0. These versions are old because a driver rejects PTX from a
compiler that is newer than itself. This script concatenates and hashes the sources as build.rs does. The first line of the PTX contains
the hash; PTX with another hash is never loaded.
"""

import ctypes
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent
FILES = ["uniforms.cuh", "elementary.cuh", "units.cuh", "layers.cuh", "chains.cu", "clusters.cu", "strips.cu", "phases.cu", "energies.cu", "learn.cu", "rules.cuh", "descend.cu", "gemm.cu", "visible.cu", "grid.cuh", "grid.cu"]
COMMON = ["uniforms.cuh", "elementary.cuh", "units.cuh", "layers.cuh"]
NEWER = {"80": ["grid.cuh", "grid.cu"], "90": ["clusters.cu"]}
OPTIONS = [b"--fmad=false", b"--std=c++17"]


def source(files):
    """Concatenates files, without their #include and #pragma lines."""
    lines = (line for name in files for line in (FOLDER / name).read_text().splitlines())
    return "".join(f"{line}\n" for line in lines if not line.startswith(('#include "', "#pragma once")))


def fnv(text):
    """FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def compile(capability, library, text):
    nvrtc = ctypes.CDLL(library)
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture=compute_{capability}".encode(), *OPTIONS]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if status != 0 or log.value.strip():
        sys.exit(f"NVRTC failed:\n{log.value.decode()}")
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    return ptx.value.decode()


if __name__ == "__main__":
    capability, library = sys.argv[1:3]
    newer = [name for names in NEWER.values() for name in names]
    own = COMMON + NEWER[capability] if capability in NEWER else [name for name in FILES if name not in newer]
    out = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else FOLDER / "ptx" / f"compute_{capability}.ptx")
    out.write_text(f"// harmonium kernels {fnv(source(FILES)):016x}\n{compile(capability, library, source(own))}")
