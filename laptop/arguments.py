"""A parser of command lines that answers a mistake in one sentence. Imports little: --help answers at once."""

import argparse
import sys
from typing import Any, NoReturn

from sightline.errors import did_you_mean

WRONG_USE = 2  # exit status
BEFORE = "argument "


class Parser(argparse.ArgumentParser):
    """Names the nearest command, option or choice, and where the rest is told, instead of printing the whole usage."""

    def parse_known_args(self, *given: Any, **how: Any) -> Any:
        """Like argparse's, but a command refuses itself what it does not know: only it knows its options."""
        known, unknown = super().parse_known_args(*given, **how)
        if unknown:
            name = next((each for each in unknown if each.startswith("-")), unknown[0]).partition("=")[0]
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            what = f"there is no option {name} here" if name.startswith("-") else f"{name!r} is one word too many"
            self.error(f"{what}.{did_you_mean(name, flags) if name.startswith('-') else ''}")
        return known, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(each) for each in action.choices]
            hint = did_you_mean(str(value), choices) or f" It takes {', '.join(choices)}."
            raise argparse.ArgumentError(action, f"there is no {value!r}.{hint}")

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave."""
        said = message.removeprefix(BEFORE)
        end = "" if said.endswith((".", "?")) else "."
        print(f"error: {said}{end} See python {self.prog} --help.", file=sys.stderr)
        sys.exit(WRONG_USE)
