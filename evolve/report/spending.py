"""What a run has spent on models, by role and model: as data and as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.records.results import Totals

    Usage = Sequence[tuple[str, str, Totals]]


def list_spending(usage: Usage) -> list[dict[str, Any]]:
    """Returns one object for each role and model, as `evolve show --json` prints them."""
    return [
        {
            "role": role,
            "model": model,
            "calls": used.calls,
            "tokens": used.tokens,
            "prompt_tokens": used.prompt_tokens,
            "cached_tokens": used.cached_tokens,
            "completion_tokens": used.completion_tokens,
            "thinking_tokens": used.thinking_tokens,
            "cost_usd": used.cost_usd,
            "unpriced_calls": used.unpriced_calls,
            "lost_requests": used.lost_requests,
            "lost_usd": used.lost_usd,
        }
        for role, model, used in usage
    ]


def describe_spending(usage: Usage) -> list[str]:
    """Returns one line for each role and model, in columns."""
    rows = [(role, model, *_describe(used)) for role, model, used in usage]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                row[1].ljust(widths[1]),
                *(row[column].rjust(widths[column]) for column in (2, 3, 4)),
                *row[5:],
            ]
        ).rstrip()
        for row in rows
    ]


def describe_money(used: Totals) -> str:
    """Returns the money of calls with known prices, and says what it leaves out."""
    parts = [f"${used.cost_usd:.4f}"]
    if used.unpriced_calls:
        parts.append(f"{used.unpriced_calls} calls of unknown price")
    if used.lost_requests:
        parts.append(f"at most ${used.lost_usd:.4f} for {used.lost_requests} lost requests")
    return " + ".join(parts)


def _describe(used: Totals) -> tuple[str, str, str, str]:
    read = f"{used.prompt_tokens} read"
    if used.cached_tokens:
        read += f" ({used.cached_tokens} cached)"
    # The preflight is no call of any slot.
    calls = f"{used.calls} calls" if used.calls else ""
    written = f"{used.completion_tokens} written"
    if used.thinking_tokens:
        written += f" ({used.thinking_tokens} thinking)"
    return calls, read, written, describe_money(used)
