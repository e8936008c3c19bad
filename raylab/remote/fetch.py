"""A results directory through the log of a Ray job: packed to lines there, unpacked from them here.

The job API gives back nothing but logs, so the files travel as base64 of one tar with its hash.
"""

import base64
import binascii
import hashlib
import sys
import tarfile
import tempfile
from typing import IO

from raylab.storage import Folder

MARK = "raylab-parcel "
END_MARK = "raylab-parcel-end "
# Ray hands a log on in pieces of 20,000 characters: a line fits into one.
LINE_BYTES = 12_000
UNWANTED = ("scratch/", "states/")


class BrokenParcel(Exception):
    """What arrived is not what was sent."""


def pack(location: str, out: IO[str]) -> None:
    """Write every finished file below the folder as lines of text; nothing where there is none."""
    folder = Folder(location)
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as parcel:
        with tarfile.open(fileobj=parcel, mode="w:gz", compresslevel=1) as tar:
            for name in folder.names():
                if not name.startswith(UNWANTED):
                    tar.add(folder.path_of(name), arcname=name, recursive=False)
        parcel.seek(0)
        while piece := parcel.read(LINE_BYTES):
            digest.update(piece)
            out.write(f"{MARK}{base64.b64encode(piece).decode()}\n")
    out.write(f"{END_MARK}{digest.hexdigest()}\n")


class Parcel:
    """Takes a job's log in pieces as they come; other lines in it are passed over."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the parcel
        self._digest = hashlib.sha256()
        self._rest = ""
        self._expected: str | None = None

    def hear(self, text: str) -> None:
        """The next piece of the log, cut anywhere."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.startswith(MARK):
                try:
                    piece = base64.b64decode(line.removeprefix(MARK), validate=True)
                except binascii.Error as error:
                    raise BrokenParcel(str(error)) from error
                self._digest.update(piece)
                self._file.write(piece)
            elif line.startswith(END_MARK):
                self._expected = line.removeprefix(END_MARK).strip()

    def unpack(self, into: Folder) -> frozenset[str]:
        """Write the files, each whole; their names. BrokenParcel if damaged: nothing is written."""
        if self._expected != self._digest.hexdigest():
            raise BrokenParcel("it ended early, or was damaged on its way")
        self._file.seek(0)
        names = set()
        with tarfile.open(fileobj=self._file, mode="r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise BrokenParcel(f"{member.name!r} is no plain file")
                # Folder refuses names that leave it.
                into.write_bytes(member.name, content.read())
                names.add(member.name)
        self._file.close()
        return frozenset(names)


if __name__ == "__main__":
    pack(sys.argv[1], sys.stdout)
