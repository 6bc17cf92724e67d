"""Reference pages of the command line: one for each command, and one of all settings, from what help pages hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from cyclopts import App

from smidgen.cli import app as command_line
from smidgen.cli.app import COMMANDS, build_app
from smidgen.cli.flags import LOSSES
from tools.docs.flags import Flag, HelpPage, help_page
from tools.docs.markdown import anchor, code, escaped, flag_table, page, table

_TITLES = {"Arguments": "Given by place", "Parameters": "Flags", "Rare": "Rarely needed"}
_EVERYWHERE = "Everywhere"
# A page without the list of its headings, which has none.
_WIDE = "---\nhide:\n  - toc\n---\n\n"


def command_pages() -> dict[str, str]:
    """Pages by their path below the reference's folder."""
    app = build_app(described=COMMANDS)
    tree = {name: list(_helps(app, name)) for name in COMMANDS}
    pages = {f"commands/{name}.md": _command(*helps) for name, helps in tree.items()}
    everywhere = tree["bench"][0].flags[_EVERYWHERE]
    return pages | {
        "commands/index.md": _overview(help_page(app, ""), everywhere),
        "settings.md": _settings([found for helps in tree.values() for found in helps]),
    }


def _helps(app: App, name: str) -> Iterator[HelpPage]:
    """A command's help, then that of the commands below it, in the order of its help page."""
    found = help_page(app, name)
    yield found
    for names in found.commands.values():
        for below in names:
            yield from _helps(app, f"{name} {below}")


def _overview(root: HelpPage, everywhere: Sequence[Flag]) -> str:
    return page(
        "Command line",
        escaped(root.says),
        table(
            ["Command", "What it does"],
            ([f"[`smidgen {name}`]({name}.md)", escaped(about)] for name, (_, about) in COMMANDS.items()),
        ),
        "## Flags of every command",
        "Also `--help` (or `-h`) for the common flags and `--help-all` for all of them; `smidgen --version` says the "
        "version.",
        _table(everywhere),
        "## Exit codes",
        _exit_codes(),
    )


def _exit_codes() -> str:
    """The paragraph that the command line's own module has on them, as a table."""
    (said,) = re.findall(r"^Exit codes: (.*?)\.$", command_line.__doc__ or "", re.MULTILINE | re.DOTALL)
    return table(
        ["Code", "Meaning"], ([code(number), meaning] for number, meaning in re.findall(r"(\d+) ([^,]+)", said))
    )


def _command(first: HelpPage, *below: HelpPage) -> str:
    """The page of a command: its flags, or those of every command below it."""
    title = f"smidgen {first.name}"
    if not below:
        return page(title, *_opening(first), *_panels(first.flags))
    blocks = [escaped(first.says)]
    by_group = {
        group: [found for found in below if found.name.split()[-1] in names]
        for group, names in first.commands.items()
        if names
    }
    for found in by_group.values():
        blocks.append(table(["Command", "What it does"], ([_link(one.name), _line(one.says)] for one in found)))
    for group, found in by_group.items():
        blocks += _losses(found) if group == LOSSES.name else [block for one in found for block in _section(one)]
    return page(title, *blocks)


def _section(found: HelpPage) -> list[str]:
    return [f"## smidgen {found.name}", *_opening(found), _table(_all(found))]


def _losses(helps: Sequence[HelpPage]) -> Iterator[str]:
    """The commands of losses: each with its own flags, then once those that all of them take."""
    shared = [flag for flag in _all(helps[0]) if all(flag in _all(found) for found in helps)]
    title = "Flags of every loss"
    for found in helps:
        own = [flag for flag in _all(found) if flag not in shared]
        yield from (f"## smidgen {found.name}", *_opening(found))
        if own:
            yield _table(own)
        yield f"And the [{title.lower()}](#{anchor(title)})."
    yield from (f"## {title}", _table(shared))


def _all(found: HelpPage) -> list[Flag]:
    """A command's own flags, the common ones first."""
    return [flag for title, flags in found.flags.items() if title != _EVERYWHERE for flag in flags]


def _opening(found: HelpPage) -> list[str]:
    usage = found.usage.removeprefix("Usage: ")
    return [f"```text\n{usage}\n```", *(escaped(paragraph) for paragraph in found.says.split("\n\n"))]


def _panels(panels: Mapping[str, Sequence[Flag]]) -> Iterator[str]:
    for title, flags in panels.items():
        if title != _EVERYWHERE:
            yield from (f"## {_TITLES.get(title, title)}", _table(flags))


def _table(flags: Sequence[Flag]) -> str:
    return flag_table(
        ["Flag", "Type", "Default", "Meaning"],
        ([f"{', '.join(_shown(flag))} {escaped(flag.metavar)}".strip(), *_facts(flag)] for flag in flags),
    )


def _shown(flag: Flag) -> list[str]:
    return [code(name) for name in (flag.place, *flag.names) if name]


def _facts(flag: Flag) -> tuple[str, str, str]:
    return escaped(flag.kind), "required" if flag.required else code(flag.default), escaped(flag.says)


def _link(command: str) -> str:
    first, *rest = command.split()
    return f"[`smidgen {command}`]({first}.md" + (f"#{anchor(f'smidgen {command}')})" if rest else ")")


def _line(says: str) -> str:
    return escaped(says.split("\n\n")[0])


def _settings(helps: Sequence[HelpPage]) -> str:
    """All settings by name; where one means the same in several commands, it is written once."""
    takers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for found in helps:
        for flag in _all(found):
            if flag.setting:
                takers[flag.setting, *_facts(flag)].append(found.name)
    losses = [f"train {name}" for found in helps for name in found.commands.get(LOSSES.name, ())]
    return _WIDE + page(
        "Settings",
        "Every flag is a setting: `--max-length 256` on the command line is `max_length: 256` in the file that "
        "`--config` names, and `--set max_length=256` on top of it; `--recipe.steps 200` is `steps: 200` below "
        "`recipe:`. Flags go first, then `--set`, then the file, then a preset. A run keeps all of them, resolved, in "
        "its `settings.yaml`, which is such a file. `smidgen settings schema` prints them as JSON schema.",
        flag_table(
            ["Setting", "Type", "Default", "Meaning", "Commands"],
            ([code(name), *facts, _commands(takers[name, *facts], losses)] for name, *facts in sorted(takers)),
        ),
    )


def _commands(names: Sequence[str], losses: Sequence[str]) -> str:
    """Links to commands; all losses are one."""
    every = bool(losses) and set(losses) <= set(names)
    shown = [_link(name).replace("smidgen ", "").replace("](", "](commands/") for name in names]
    shown = [link for name, link in zip(names, shown, strict=True) if not (every and name in losses)]
    return " ".join([*shown, *(["[every loss](commands/train.md#flags-of-every-loss)"] if every else [])])
