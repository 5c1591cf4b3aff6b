"""Builds the package: first the messages, from the .proto files of the repository.

`mezzo/v1` is written by the pinned protoc of grpcio-tools, and its `__init__.py` by this script.
Nobody edits what lies there, and git ignores it; `python setup.py generate` writes it without
building anything.
"""

import shutil
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
SOURCE = HERE / "src"
OUT = SOURCE / "mezzo" / "v1"

PACKAGE = "mezzo.v1"
INIT_HEAD = '"""Messages of the v1 API, written by setup.py from the .proto files."""\n\n'


def generate() -> None:
    """Writes mezzo/v1 anew."""
    if not PROTO.is_dir():
        if (OUT / "__init__.py").is_file():
            return  # A source distribution, which brings what was generated.
        raise SystemExit(f"{PROTO} is not there: build from the repository, or from an sdist")
    import grpc_tools
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    # Services are for gRPC, which this package does not speak.
    files = sorted(
        str(path.relative_to(PROTO))
        for path in (PROTO / "mezzo" / "v1").glob("*.proto")
        if not path.name.endswith("_service.proto")
    )
    descriptors = OUT / "descriptors.bin"
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO}",
            f"--proto_path={well_known}",
            f"--python_out={SOURCE}",
            f"--pyi_out={SOURCE}",
            f"--descriptor_set_out={descriptors}",
            *files,
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with {status}")
    parsed = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    descriptors.unlink()
    (OUT / "__init__.py").write_text(init(parsed.file))


def init(files) -> str:
    """Common messages under their own names, those of an endpoint in a module of its own."""
    lines = [INIT_HEAD]
    names = []
    for file in files:
        module = Path(file.name).stem + "_pb2"
        if file.package != PACKAGE:
            # The file of an endpoint has the name of its package; others have their own.
            name = Path(file.name).stem
            lines.append(f"from {PACKAGE} import {module} as {name}\n")
            names.append(name)
            continue
        here = [message.name for message in file.message_type]
        for enum in file.enum_type:
            here += [enum.name, *(value.name for value in enum.value)]
        if here:
            items = "".join(f"    {name} as {name},\n" for name in here)
            lines.append(f"from {PACKAGE}.{module} import (\n{items})\n")
        names += here
    items = "".join(f'    "{name}",\n' for name in sorted(names))
    return "".join([*lines, f"\n__all__ = [\n{items}]\n"])


class Generate(Command):
    """python setup.py generate"""

    description = "write the messages from the .proto files"
    user_options = []

    def initialize_options(self):
        pass

    def finalize_options(self):
        pass

    def run(self):
        generate()


class BuildPy(build_py):
    def run(self):
        generate()
        super().run()


class EggInfo(egg_info):
    """The first step of a build, which lists what there is."""

    def run(self):
        if not (OUT / "__init__.py").is_file():
            generate()
        super().run()


class Sdist(sdist):
    def run(self):
        generate()
        super().run()


setup(
    cmdclass={
        "generate": Generate,
        "build_py": BuildPy,
        "egg_info": EggInfo,
        "sdist": Sdist,
    }
)
