"""Regenerate hyperdust/proto/*_pb2*.py from work.proto and signer.proto; `--check` only compares."""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("work", "signer")
SOURCES = tuple(f"hyperdust/proto/{name}.proto" for name in NAMES)
GENERATED = tuple(f"{name}{end}" for name in NAMES for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"))


def generate(folder: Path) -> None:
    arguments = [f"--proto_path={ROOT}", f"--python_out={folder}", f"--pyi_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(["protoc", *arguments, *SOURCES]) != 0:
        raise SystemExit("protoc failed")


def stale_files() -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        generate(fresh)
        kept = ROOT / "hyperdust" / "proto"
        made = fresh / "hyperdust" / "proto"
        return [
            file
            for file in GENERATED
            if not (kept / file).exists() or (kept / file).read_bytes() != (made / file).read_bytes()
        ]


def main() -> None:
    if "--check" in sys.argv:
        stale = stale_files()
        if stale:
            raise SystemExit(f"out of date: {', '.join(stale)}; run scripts/proto.py")
        return
    generate(ROOT)


if __name__ == "__main__":
    main()
