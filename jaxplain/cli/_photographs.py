"""The photographs to explain, read one at a time, and the files that their pictures are written to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from glob import glob
from pathlib import Path

from PIL import Image

from ..models._reading import read
from ..visualize._files import picture_format
from ._terminal import UsageError


@dataclass(frozen=True)
class Photograph:
    """A photograph: how it is called, how it is read, where its explanation is written to."""

    name: str
    read: Callable[[], Image.Image]
    out: Path


def photographs(paths: Sequence[Path], out: Path | None) -> list[Photograph]:
    """Plan the work, so that no file overwrites another: one file, or a folder for several photographs.

    Args:
      paths: the photographs, folders of them and patterns; none stands for the sample photograph.
      out: the file to write, or the folder to write to, which a name without an ending is.
    """
    paths = expanded(paths)
    if len(paths) > 1 or (out and (os.path.isdir(out) or not out.suffix)):
        folder = out or Path("explanations")
        if folder.suffix.lower() in Image.registered_extensions():
            raise UsageError(f"--out {folder} names one file, but there are {len(paths)} images: name a folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {folder} cannot be made a folder: {error.strerror}") from error
        files = [folder / name for name in distinct_names(paths or [Path("cat")])]
    else:
        files = [out or Path("explanation.png")]
        try:
            picture_format(files[0])
        except (ValueError, OSError) as error:
            raise UsageError(f"--out {error}") from error
    return planned(paths, files)


def expanded(paths: Sequence[Path]) -> list[Path]:
    """The photographs that are meant: those in a folder, those that fit a pattern such as ``photos/*.jpg``."""
    found: list[Path] = []
    for path in paths:
        if os.path.isdir(path):
            found += pictures_in(path) or [path]  # of which is told that it holds none
        elif any(sign in str(path) for sign in "*?[") and not os.path.lexists(path):
            found += [Path(name) for name in sorted(glob(str(path), recursive=True))] or [path]
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder; what has no ending of a picture is none."""
    endings = Image.registered_extensions()
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from error


def planned(paths: Sequence[Path], files: Sequence[Path]) -> list[Photograph]:
    """The photographs with the files that are written of them, none of which may be a photograph itself."""
    originals = set(map(os.path.realpath, paths))  # which does not mind links that lead in a circle
    for file in files:
        if os.path.realpath(file) in originals:
            raise UsageError(f"{file} is one of the images and would be overwritten: choose another --out")
    if not paths:
        return [Photograph("sample photograph", sample_photograph, files[0])]
    return [Photograph(str(path), partial(read, path), file) for path, file in zip(paths, files, strict=True)]


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A file name for each photograph; letter case alone does not tell files apart everywhere."""
    taken: set[str] = set()
    names = []
    for path in paths:
        name, count = f"{path.stem}-explanation.png", 1
        while name.casefold() in taken:
            count += 1
            name = f"{path.stem}-{count}-explanation.png"
        taken.add(name.casefold())
        names.append(name)
    return names


def sample_photograph() -> Image.Image:
    """The cat of scikit-image."""
    try:
        import skimage.data
    except ImportError:
        raise ImportError("the sample photograph needs scikit-image: pip install 'jaxplain[demo]'") from None
    return Image.fromarray(skimage.data.cat())
