"""A command group whose commands are imported when they are called, so that `atelier status` does not load what `atelier worker` needs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class LazyGroup(TyperGroup):
    """Besides the commands registered as usual, those of ``lazy``: name → (``module:attribute``, one line of help).

    The attribute is a :class:`typer.Typer` or a plain function with Typer's annotations.
    """

    lazy: Mapping[str, tuple[str, str]] = {}

    def list_commands(self, ctx):  # type: ignore[no-untyped-def]
        return [*super().list_commands(ctx), *sorted(self.lazy)]

    def get_command(self, ctx, cmd_name):  # type: ignore[no-untyped-def]
        """For help texts a stand-in is enough; :meth:`resolve_command` loads the real one."""
        if cmd_name in self.lazy:
            return TyperCommand(cmd_name, help=self.lazy[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]
        if args and args[0] in self.lazy:
            return args[0], load(args[0], self.lazy[args[0]][0]), args[1:]
        return super().resolve_command(ctx, args)


def load(name: str, path: str):  # type: ignore[no-untyped-def]
    module, attribute = path.split(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command()(found)
        found = app
    command = get_command(found)
    command.name = name
    return command
