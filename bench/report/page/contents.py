"""What stands in a report: the verdict first, then tables, charts, causes, conditions, doubts."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.derive.findings import Findings
from bench.report.page import details, sections
from bench.report.page.blocks import Block, Bullets, Heading, Image, Paragraph
from bench.report.page.formats import count
from bench.report.page.tables.attention import attention
from bench.report.page.tables.deployments import deployment_tables, scenario_blocks
from bench.report.page.tables.main_table import MAIN_DEFINITIONS, main_table
from bench.report.page.tables.seeds import seeds
from bench.report.page.verdict import verdict

TITLE = "senet-bench report"


def contents(found: Findings, charts: Sequence[Image] = ()) -> list[Block]:
    """Return the blocks of a report; ``charts`` are the images beside it."""
    study = found.study
    return [
        Heading(TITLE, 1),
        Paragraph(_counts(found)),
        *verdict(found),
        Heading("Results"),
        *main_table(study),
        *_charts(charts),
        *sections.differences(found),
        *seeds(study),
        *attention(found),
        *sections.attribution(found),
        *sections.fronts(found),
        *details.time_to_accuracy(found),
        *deployment_tables(study, found.luck),
        *scenario_blocks(study.costs),
        *sections.speeds(found),
        *details.costs(study),
        *details.times(found),
        *details.by_class(found),
        *details.published(found),
        *details.conditions(study),
        *details.not_comparable(found),
        *details.set_aside(found),
        *details.reproduce(found),
        Heading("Columns"),
        Bullets(tuple((f"{name}:", what) for name, what in MAIN_DEFINITIONS.items())),
    ]


def _counts(found: Findings) -> str:
    study = found.study
    where = ", ".join(study.looked_in)
    counted = (
        f"{count(study.num_runs, 'run')} and {count(study.num_profiles, 'profile')} from {where}."
    )
    aside = len(found.set_aside)
    return counted + (f" {aside} set aside; see “Set aside” for which and why." if aside else "")


def _charts(charts: Sequence[Image]) -> list[Block]:
    return [Heading("Charts"), *charts] if charts else []
