"""The command line: ``jaxplain explain``, ``compare``, ``evaluate``, ``recommend``, ``methods``, ``layers``, ...

Exit status: 0 when all is done, 1 when an image could not be explained, 2 when the command cannot be carried out,
130 when it was interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from .. import __version__
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``argv`` defaults to the words after the program's name."""
    words = sys.argv[1:] if argv is None else list(argv)
    escape_unprintable()
    WORDS.set(tuple(words))
    if words == ["--version"]:
        STDOUT.print(f"jaxplain {__version__}")
        return 0
    try:
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
