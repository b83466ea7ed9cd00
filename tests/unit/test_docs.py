"""The documents and the code say the same: links, files, functions, verbs, options, exit codes, the picture."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
import types
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import pytest

import pi_agent.cli
import training_host.cli
from pi_agent.contract.errors import Exit
from tests.support_nets import CPU, coloured_set
from training_host.nets.build import build_net
from training_host.removal.base import EVASION, EXTRACTION, MODIFICATION, Thief
from training_host.removal.summary import BROKEN, FAILED, SPOILED, SURVIVED, WITHIN_POINTS
from training_host.watermarks.deliverables import NAMES
from training_host.watermarks.krc import KrcSettings
from training_host.watermarks.schemes import SCHEMES

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOURS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("tour-*.md"))}
STOPS = [(name, stop) for name, tour in TOURS.items() for stop in re.split(r"^## ", tour, flags=re.MULTILINE)]
PROGRAMS = {"pi-agent": pi_agent.cli, "train-host": training_host.cli}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    local = [t.partition("#")[0] for t in targets if "://" not in t and not t.startswith("#")]
    assert [t for t in local if not (document.parent / t).exists()] == []


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of all functions in a file, methods both as `method` and as `Class.method`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = node.body if isinstance(node, ast.ClassDef | ast.Module) else []
        for child in body:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                names |= {child.name, f"{node.name}.{child.name}" if isinstance(node, ast.ClassDef) else child.name}
    return frozenset(names)


def files_in(text: str) -> list[Path]:
    return [ROOT / name for name in dict.fromkeys(re.findall(r"\b((?:pi_agent|training_host)/[\w/]+\.py)\b", text))]


@pytest.mark.parametrize("tour", TOURS)
def test_every_file_in_a_tour_exists(tour: str) -> None:
    assert len(files_in(TOURS[tour])) > 20
    assert [p for p in files_in(TOURS[tour]) if not p.is_file()] == []


@pytest.mark.parametrize(("tour", "stop"), STOPS, ids=[f"{n}: {s.partition(chr(10))[0][:30]}" for n, s in STOPS])
def test_every_function_in_a_tour_exists(tour: str, stop: str) -> None:
    mentioned = set(re.findall(r"`([A-Za-z_][\w.]*)\(\)`", stop))
    # A stop may mention a function that an earlier one has shown.
    shown = TOURS[tour][: TOURS[tour].index(stop) + len(stop)]
    known = frozenset().union(*(functions_of(path) for path in files_in(shown)))
    assert mentioned - known == set()


def test_the_main_tour_names_the_three_places_at_its_top() -> None:
    top = TOURS["tour-main-job"].partition("\n## ")[0]
    for place in ("Turn.mark_sent()", "Quota.admit()", "weigh()"):
        assert f"`{place}`" in top


def test_the_tour_of_the_mark_names_its_places_and_all_that_embed_leaves() -> None:
    tour = TOURS["tour-a-mark"]
    for place in ("draw_rules()", "KrcMark.batch()", "KrcMark.loss()", "summarise()"):
        assert f"`{place}`" in tour.partition("\n## ")[0]
    (stop,) = (s for s in tour.split("\n## ") if s.startswith("5. "))
    told = {name.strip("`/") for row in re.findall(r"^\| (`.*?) \|", stop, re.MULTILINE) for name in row.split(", ")}
    assert told == {"model.onnx", "manifest.json", "model.safetensors", "carriers.tar", "commitment.json", *NAMES}


def test_the_tour_of_the_mark_names_every_scheme_every_verdict_and_its_settings() -> None:
    tour = TOURS["tour-a-mark"]
    for name in (*SCHEMES, *(f"`{field.name}`" for field in fields(KrcSettings))):
        assert name in tour
    for verdict in (SURVIVED, BROKEN, SPOILED, FAILED):
        assert f"**{verdict}**" in tour
    assert f"within {WITHIN_POINTS:g} points" in tour


def test_the_attack_in_the_tour_of_the_mark_can_be_carried_out() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", TOURS["tour-a-mark"], re.MULTILINE | re.DOTALL)
    module = types.ModuleType("attack")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(block, "tour-a-mark.md", "exec"), vars(module))
    finally:
        del sys.modules[module.__name__]
    pictures, network = coloured_set(64, 1), build_net("recycleme-narrow", 4, seed=0)
    thief = Thief(network.eval(), "recycleme-narrow", pictures, CPU, 1, 0, honest=lambda number: network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attack = module.ClipWeights(limit=0.1)
    stolen = attack.steal(thief)
    assert attack.kind in (EXTRACTION, MODIFICATION, EVASION)
    assert stolen.scores_of(pictures.images).shape == (64, 4)
    assert stolen.network is not None
    after = stolen.network.state_dict()
    assert any(not value.equal(after[name]) for name, value in before.items() if value.ndim > 1)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def test_every_verb_in_the_documents_exists() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    for program, module in PROGRAMS.items():
        verbs = set(re.findall(rf"{program} ([a-z]+)\b", "\n".join(code_in(text))))
        assert verbs, program
        assert verbs - set(module.VERBS) == set()


def code_in(text: str) -> list[str]:
    """Everything between backticks, and every fenced block."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def command_lines(document: str) -> list[str]:
    """The lines of a document's shell blocks that call one of the programs."""
    blocks = re.findall(r"^```sh\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(tuple(f"{program} " for program in PROGRAMS))]


COMMANDS = [*command_lines(README), *(line for tour in TOURS.values() for line in command_lines(tour))]


def test_readme_and_tours_show_commands() -> None:
    assert len(command_lines(README)) > 12
    assert command_lines(TOURS["tour-a-claim"]) and command_lines(TOURS["tour-a-mark"])


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line.split()[:3]))
def test_command_lines_in_readme_and_tours_are_accepted(line: str) -> None:
    """By the program's own parser: names of options, choices, what is required. Nothing is run."""
    program, *arguments = shlex.split(line)
    command: click.Command = PROGRAMS[program].cli
    context = click.Context(command)
    while isinstance(command, click.Group):
        name = arguments.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{program} has no {name}"
        command = found
    values, _, given = command.make_parser(click.Context(command)).parse_args(list(arguments))
    for parameter in given:
        if isinstance(parameter.type, click.Choice):
            assert values[parameter.name] in parameter.type.choices
    missing = {p.name for p in command.params if p.required} - {p.name for p in given}
    assert not missing, f"{line}: without {missing}"


@pytest.mark.parametrize("document", ["README", *TOURS])
def test_no_command_of_a_document_finds_the_output_of_an_earlier_one(document: str) -> None:
    lines = command_lines(README if document == "README" else TOURS[document])
    outputs = [out for line in lines for out in re.findall(r"--out[ =](\S+)", line)]
    assert len(outputs) == len(set(outputs)), outputs


def test_the_table_of_exit_codes_is_complete() -> None:
    table = README.partition("## Exit codes")[2].partition("\n## ")[0]
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert codes == sorted(int(code) for code in Exit)


def test_the_picture_is_what_its_program_draws() -> None:
    spec = importlib.util.spec_from_file_location("draw_system", ROOT / "docs" / "draw_system.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.draw().encode() == (ROOT / "docs" / "system.svg").read_bytes(), "run python docs/draw_system.py"
