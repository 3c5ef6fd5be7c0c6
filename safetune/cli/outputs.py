"""The files for a build server that a command writes beside its answer: Markdown, JUnit XML and SARIF.

They are there from the beginning, saying that there is no verdict, so that a command that is killed leaves no old
PASS behind; and they are written whatever the verdict is, also when the command ends with an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safetune.core.errors import SafetuneError, UsageError

if TYPE_CHECKING:
    from safetune.core.diagnostics import Diagnostic
    from safetune.engine.planning import Prepared
    from safetune.report.ci import CiReport

Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE.md", help="Write the gate as Markdown for a pull request.")
]
JUnit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE.xml", help="Write the gate as JUnit XML for a build server.")
]
Sarif = Annotated[
    Path | None, typer.Option("--sarif", metavar="FILE.sarif", help="Write mistakes of the playbook as SARIF 2.1.0.")
]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Which files are wanted, and the files that the command reads and may therefore not overwrite.

    `found` takes the problems that a survey finds before anything is run; SARIF holds them however the command ends.
    """

    markdown: Path | None = None
    junit: Path | None = None
    sarif: Path | None = None
    inputs: tuple[Path | None, ...] = ()
    found: list[Diagnostic] = field(default_factory=list)

    def survey(self, prepared: Prepared) -> None:
        """Take in the problems of a survey."""
        if self.sarif is not None:
            from safetune.report.problems import survey_problems

            self.found.extend(survey_problems(prepared.facts, prepared.playbook, prepared.where))

    @property
    def named(self) -> dict[str, Path]:
        """The wanted files by their options."""
        found = {"--markdown": self.markdown, "--junit": self.junit, "--sarif": self.sarif}
        return {option: path for option, path in found.items() if path is not None}


@contextmanager
def outputs(wanted: Outputs, title: str) -> Iterator[Callable[[CiReport], None]]:
    """Give the function that writes how the command ended; an error in between is written, too.

    Raises:
        UsageError: before anything is done, when a file cannot be what it is asked to be.
        MachineError: when the machine refuses to write one.
    """
    if not wanted.named:  # the usual case loads nothing more
        yield lambda report: None
        return
    from safetune.report.ci import failed_report, unfinished_report

    _check(wanted)
    _write(wanted, unfinished_report(title))
    try:
        yield lambda report: _write(wanted, report)
    except SafetuneError as error:
        _write(wanted, failed_report(title, error))
        raise


def _check(wanted: Outputs) -> None:
    taken = {_real(path): "what the command reads" for path in wanted.inputs if path is not None}
    for option, path in wanted.named.items():
        if not path.parent.is_dir():
            raise UsageError(f"{option}: the folder {path.parent} does not exist", hint=f"mkdir -p {path.parent}")
        if path.exists() and not path.is_file():
            raise UsageError(f"{option}: {path} is not a file", hint="name a file, such as reports/safetune.xml")
        if _real(path) in taken:
            raise UsageError(f"{option}: {path} is {taken[_real(path)]}", hint="give it a file of its own")
        taken[_real(path)] = "written by another option"


def _real(path: Path) -> str:
    return os.path.realpath(path)


def _write(wanted: Outputs, report: CiReport) -> None:
    from safetune.state.atomic import write_atomic

    for option, path in wanted.named.items():
        # The file behind a link is written, and the link stays.
        write_atomic(Path(_real(path)), _text(option, report, wanted.found).encode())


def _text(option: str, report: CiReport, found: Sequence[Diagnostic]) -> str:
    if option == "--markdown":
        from safetune.report.markdown import markdown_text

        return markdown_text(report)
    if option == "--junit":
        from safetune.report.junit import junit_text

        return junit_text(report)
    from safetune.report.sarif import sarif_text

    return sarif_text(report.error, str(Path.cwd()), report.exit_code, found)
