"""Builds what is native: every ``.pyx`` is one extension module; ``cimport`` joins those of ``broker/_core``.

Here belong compilers, their flags and the three build flavours. Not here: metadata and tool settings, which are in
``pyproject.toml``.

The environment decides:

``IOT_BROKER_BUILD``      ``release`` (default), ``debug`` (bounds checks, asserts) or ``sanitize`` (ASan and UBSan).
``IOT_BROKER_BUILD_DIR``  where generated C, objects and the build tree go; default ``build/FLAVOUR``.
``IOT_BROKER_LINETRACE``  ``1`` adds line tracing, for coverage of the core (debug only, slow).
``IOT_BROKER_JOBS``       compilers at a time; default: the number of processors.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CORE = Path("broker") / "_core"
SANITIZERS = "-fsanitize=address,undefined"

CHECKED = {"boundscheck": True, "initializedcheck": True, "nonecheck": True}
UNCHECKED = {"boundscheck": False, "initializedcheck": False, "nonecheck": False}


@dataclass(frozen=True)
class Flavour:
    """How one flavour of the core is compiled; each flavour lives in an environment of its own."""

    compile_args: list[str]
    link_args: list[str] = field(default_factory=list)
    macros: list[tuple[str, str | None]] = field(default_factory=list)
    directives: dict[str, Any] = field(default_factory=dict)


FLAVOURS = {
    "release": Flavour(["-O3", "-g1"], macros=[("CYTHON_WITHOUT_ASSERTIONS", "1")], directives=UNCHECKED),
    "debug": Flavour(["-O0", "-g", "-UNDEBUG"], macros=[("IOT_BROKER_DEBUG", "1")], directives=CHECKED),
    # Every slab and pool becomes malloc and free: AddressSanitizer cannot see into a pool.
    "sanitize": Flavour(
        ["-O1", "-g1", "-UNDEBUG", SANITIZERS, "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
        link_args=[SANITIZERS],
        macros=[("IOT_BROKER_DEBUG", "1"), ("IOT_BROKER_PLAIN_MALLOC", "1")],
        directives=CHECKED,
    ),
}


class PrunedBuild(build_py):
    """Leaves nothing in the build tree whose source is gone, so that a removed module is not installed again."""

    def run(self) -> None:
        """Remove stale modules, then build as usual."""
        for built in Path(self.build_lib).glob("*/**/*"):
            if built.is_file() and not self.has_source(built.relative_to(self.build_lib)):
                built.unlink()
        super().run()

    @staticmethod
    def has_source(built: Path) -> bool:
        """Tell whether a file of the build tree still has the file it was made from."""
        source = built.with_name(built.name.split(".")[0] + ".pyx") if built.suffix == ".so" else built
        return (ROOT / source).exists()


def native_modules(flavour: Flavour) -> list[Extension]:
    """One extension for each module of the core, and for the few beside it."""
    headers = [str(header.relative_to(ROOT)) for header in sorted((ROOT / CORE).glob("*.h"))]
    return [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            include_dirs=[str(CORE)],
            depends=["setup.py", *headers],
            # strict aliasing off: the core reads packed layouts through typed pointers
            extra_compile_args=[*flavour.compile_args, "-fno-strict-aliasing", "-Wno-unused-function"],
            extra_link_args=flavour.link_args,
            define_macros=[*flavour.macros, *trace_macros()],
        )
        for source in sorted(
            found.relative_to(ROOT) for found in [*ROOT.glob("broker/*/*.pyx"), *ROOT.glob("api/*.pyx")]
        )
    ]


def trace_macros() -> list[tuple[str, str | None]]:
    """The C side of line tracing, when it is asked for."""
    return [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")] if line_tracing() else []


def line_tracing() -> bool:
    """Tell whether the core reports its lines to the tracer of coverage."""
    return os.environ.get("IOT_BROKER_LINETRACE") == "1"


def directives(flavour: Flavour) -> dict[str, Any]:
    """Cython's directives: C semantics everywhere, and only the debug flavours check an index."""
    return {
        "language_level": 3,
        "wraparound": False,
        "cdivision": True,
        "infer_types": False,
        "embedsignature": False,
        "linetrace": line_tracing(),
        **flavour.directives,
    }


def main() -> None:
    """Translate, compile and package the flavour that the environment names."""
    name = os.environ.get("IOT_BROKER_BUILD") or "release"
    if name not in FLAVOURS:
        sys.exit(f"IOT_BROKER_BUILD={name}: expected one of {', '.join(FLAVOURS)}")
    flavour = FLAVOURS[name]
    build_dir = os.environ.get("IOT_BROKER_BUILD_DIR") or os.path.join("build", name)
    jobs = int(os.environ.get("IOT_BROKER_JOBS") or os.cpu_count() or 1)
    modules = native_modules(flavour)
    if modules:
        modules = cythonize(
            modules,
            build_dir=os.path.join(build_dir, "c"),
            compiler_directives=directives(flavour),
            nthreads=jobs,
            show_all_warnings=False,
        )
    setup(
        ext_modules=modules,
        cmdclass={"build_py": PrunedBuild},
        options={"build": {"build_base": build_dir}, "build_ext": {"parallel": jobs}},
    )


# cythonize starts worker processes; a worker must not start the build again.
if __name__ == "__main__":
    main()
