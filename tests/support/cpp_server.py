"""Processes that are TensorFlow without Python, and files that look like them."""

from __future__ import annotations

from pathlib import Path

from support.processes import ROOT, output_of

BEAMS = ["20", "30", "30", "30", "30", "10"]


def build_server(folder: Path) -> Path:
    """Compile load_model.cc and link it with the libraries of the installed TensorFlow."""
    import tensorflow as tf

    binary = folder / "load_model"
    wheel = Path(tf.__file__).parent
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    output_of(
        *["g++", "-std=c++17", "-w", "-DEIGEN_MAX_ALIGN_BYTES=64", "-isystem", wheel / "include"],
        *[ROOT / "tests" / "integration" / "preload" / "load_model.cc", "-o", binary],
        *[f"-L{wheel}", f"-Wl,-rpath,{wheel}", "-Wl,--no-as-needed", *libraries],
    )
    return binary


def names_lacking(library: Path) -> set[str]:
    """What a library expects of the process that loads it, besides the C and C++ libraries."""
    undefined = output_of("nm", "-D", "--undefined-only", library).split("\n")
    return {line.split()[-1] for line in undefined if line and "@" not in line and " U " in line}


def build_look_alike(library: Path, binary: Path) -> Path:
    """Write an executable that defines every name `library` lacks, as a static server; it does nothing."""
    names = names_lacking(library)
    source = binary.with_suffix(".s")
    source.write_text("".join(f'.globl "{name}"\n"{name}":\n' for name in sorted({*names, "TF_Version"})))
    output_of("gcc", "-nostdlib", "-Wl,--export-dynamic", "-Wl,--entry=TF_Version", source, "-o", binary)
    return binary
