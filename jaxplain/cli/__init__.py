"""The command line: ``jaxplain explain``, ``compare``, ``evaluate``, ``recommend``, ``methods``, ``layers``, ...

Exit status: 0 when all is done, 1 when an image could not be explained, 2 when the command cannot be carried out,
130 when it was interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from .. import __version__
from .._taxonomy import methods as explanation_methods
from .._text import as_known, did_you_mean, either
from ._compare import compare
from ._evaluate import evaluate
from ._explain import explain
from ._layers import layers
from ._methods import methods
from ._recommend import recommend
from ._summary import summary
from ._terminal import STDERR, STDOUT, WORDS, UsageError, escape_unprintable

COMMANDS = {
    "explain": explain,
    "compare": compare,
    "evaluate": evaluate,
    "recommend": recommend,
    "methods": methods,
    "layers": layers,
    "summary": summary,
}


def require_words(words: Sequence[str]) -> None:
    """Refuse what is told better here: an unknown command, and names of methods without commas between."""
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        meant = did_you_mean(words[0], COMMANDS) or f": choose {either(COMMANDS)}"
        raise UsageError(f"unknown command {words[0]!r}{meant}")
    names = [method.name for method in explanation_methods()]
    for option, first, second in zip(words, words[1:], words[2:], strict=False):
        if option == "--methods" and as_known(second.partition(":")[0], names) in names:
            raise UsageError(f"--methods takes names with commas between: --methods {first},{second}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``argv`` defaults to the words after the program's name."""
    words = sys.argv[1:] if argv is None else list(argv)
    escape_unprintable()
    WORDS.set(tuple(words))
    if words == ["--version"]:
        STDOUT.print(f"jaxplain {__version__}")
        return 0
    try:
        require_words(words)
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="jaxplain",
            description="Explain the decisions of image classifiers. For example: jaxplain explain cat.jpg. "
            "--version prints the version.",
            args=words,
            config=(tyro.conf.DisallowNone,),
        )
    except (UsageError, ImportError) as error:  # a missing extra says how to install it
        STDERR.print(f"jaxplain: {error}")
        return 2
    except KeyboardInterrupt:
        STDERR.print("jaxplain: interrupted")
        return 130
