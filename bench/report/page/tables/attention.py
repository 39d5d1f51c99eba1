"""What attention brings and costs, each beside its plain twin, and beside what others publish."""

from __future__ import annotations

from collections.abc import Iterator

from bench.report.derive.findings import Findings
from bench.report.derive.gains import Claim, Gain
from bench.report.derive.headline import machine_of
from bench.report.derive.published import options_text
from bench.report.derive.speed.attention_tax import Tax, TaxLine, tax_lines
from bench.report.page.blocks import Block, Bullets, Heading, Paragraph, table
from bench.report.page.formats import MISSING, p_value, point_interval, points, ratio
from bench.report.page.wording import COVERS, interaction_sentence, learned

MAX_GAINS = 60
MAX_INTERACTIONS = 24
GAIN_COLUMNS = ("p", "verdict", "published gain", "by", "how", "comparable")
# The columns of what attention costs, by quantity.
TAXED = {
    "parameters": "params",
    "MACs": "MACs",
    "bytes moved": "bytes moved",
    "operators launched": "operators",
    "latency": "latency",
    "throughput": "throughput",
    "time of a training step": "training step",
    "peak memory": "peak memory",
}


def attention(found: Findings) -> list[Block]:
    """Return the gains, how they change with depth, width, stem and recipe, and the costs."""
    parts = [*_gains(found), *_interactions(found), *_costs(found)]
    return [Heading("What attention brings and costs"), *parts] if parts else []


def _gains(found: Findings) -> list[Block]:
    if not found.gains:
        return []
    tables = []
    for covers, known in COVERS:
        heading = f"gain in points (95 % CI: {covers})"
        chosen = [g for g in found.gains[:MAX_GAINS] if (g.difference.luck is not None) is known]
        lines = [line for gain in chosen for line in _gain_lines(gain, found)]
        tables += [table(("model", "data", heading, *GAIN_COLUMNS), lines)] if lines else []
    rest = len(found.gains) - MAX_GAINS
    note = (
        "Points of top-1 that a model has more than the same model without attention, trained and "
        "tested alike; p is corrected by Holm over all that is tested on the data set. A published "
        "gain is the difference inside one source of the same network and attention."
    )
    more = [Paragraph(f"{rest} more gains are left out.")] if rest > 0 else []
    return [Paragraph(note), *tables, *more]


def _gain_lines(gain: Gain, found: Findings) -> Iterator[list[str]]:
    ours = [
        found.labels[gain.full.key],
        gain.full.dataset,
        point_interval(gain.difference.interval),
        p_value(gain.p_family),
        learned(gain),
    ]
    for claim in gain.claims:
        yield [*ours, *_claimed(claim)]
    if not gain.claims:
        yield [*ours, *[MISSING] * 4]


def _claimed(claim: Claim) -> list[str]:
    full = claim.gain.full
    options = f", {options_text(full.attention)}" if full.attention else ""
    return [
        points(claim.gain.points, sign=True),
        f"{full.source.name}, {full.dataset}{options}",
        full.told,
        f"no: {'; '.join(claim.why_not)}" if claim.why_not else "yes",
    ]


def _interactions(found: Findings) -> list[Block]:
    """Return whether a gain depends on the depth, the width, the stem or the recipe."""
    items = [
        (f"{effect.term.name}, {one.dataset}:", interaction_sentence(effect))
        for one in found.attributions
        for effect in one.effects
        if effect.top1 and effect.is_interaction and "attention" in effect.term.name
    ]
    if not items:
        return []
    rest = len(items) - MAX_INTERACTIONS
    more = [Paragraph(f"{rest} more interactions are under “Attribution”.")] if rest > 0 else []
    return [Heading("Does the gain depend on the network?", 3),
            Bullets(tuple(items[:MAX_INTERACTIONS])), *more]  # fmt: skip


def _costs(found: Findings) -> list[Block]:
    lines = tax_lines(found.study.costs)
    if not lines:
        return []
    known = [name for name in TAXED if any(name in line.taxes for line in lines)]
    columns = ("model", "against", "measured on", *(TAXED[name] for name in known))
    note = (
        "Factors of the plain twin's: ×1.10 is 10 % more. Counts are exact. Times are measured "
        "eager in fp32 where that was done, at the batch size behind the @; those in brackets are "
        "no difference, or not known to be one. Intervals hold between sittings, in brackets "
        "those of a single sitting within it."
    )
    rows = [
        [
            found.model_labels[line.model],
            found.model_labels[line.twin],
            machine_of(line.row)[0],
            *(_factor(line, name) for name in known),
        ]
        for line in lines
    ]
    return [Heading("What it costs", 3), Paragraph(note), table(columns, rows)]


def _factor(line: TaxLine, name: str) -> str:
    tax = line.taxes.get(name)
    if tax is None:
        return MISSING
    told = ratio(tax.ratio) + _batch(tax)
    return told if tax.differs and tax.decides else f"({told})"


def _batch(tax: Tax) -> str:
    """Return the batch size of a measured quantity: `` @64``."""
    batch = next((part for part in tax.setting.split(", ") if part.startswith("batch ")), None)
    return f" @{batch.removeprefix('batch ')}" if batch else ""
