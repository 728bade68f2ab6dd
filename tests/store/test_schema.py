import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, make_dataclass
from typing import Any

import pytest

from evolve.records import AttemptKey, Lesson, Plan, Status, Summary
from evolve.store.schema import RecordTable


@dataclass(frozen=True)
class Inner:
    status: Status
    note: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    key: AttemptKey
    parent: AttemptKey | None
    inner: Inner
    long: tuple[Lesson, ...] = ()
    summary: Summary | None = None
    plans: tuple[Plan, ...] = ()
    unstored: str = "default"


TABLE = RecordTable(
    "outer_records", Outer, leave_out=frozenset({"unstored"}), packed=frozenset({"long"}),
    more={"extra": "TEXT"},
)  # fmt: skip
FULL = Outer(
    AttemptKey(1, 2, 3),
    AttemptKey(0, 0, 0),
    Inner(Status.OK, "n", {"a": 1.5}),
    (Lesson("claim", tags=("t", "u")),),
    Summary("v", (Lesson("l"),), ("1.0",)),
    (Plan("change", hypothesis="why"),),
)
EMPTY = Outer(AttemptKey(1, 2, 4), None, Inner(Status.TIMEOUT))


def store_and_load(table: RecordTable, record: Any, **more: Any) -> Any:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(table.schema)
        connection.execute(f"INSERT {table.insert}", table.dump(record, **more))
        (row,) = connection.execute(f"SELECT {table.select('t')} FROM {table.name} t")
    return table.load(row)


@pytest.mark.parametrize("record", [FULL, EMPTY])
def test_a_record_comes_back_equal_from_its_table(record):
    assert store_and_load(TABLE, record, extra="x") == record


def test_numbers_and_texts_are_columns_and_long_texts_come_last():
    assert TABLE.columns == [
        "generation", "slot", "number", "parent_generation", "parent_slot", "parent_number",
        "status", "note", "numbers", "summary", "plans", "extra", "long",
    ]  # fmt: skip
    assert "status TEXT NOT NULL, note TEXT, numbers TEXT NOT NULL, summary TEXT," in TABLE.schema
    assert "parent_slot INTEGER," in TABLE.schema


def test_a_new_field_of_a_record_is_a_new_column():
    wider = make_dataclass(
        "Wider", [("provider", str, field(default="")), ("retries", int, field(default=0))],
        bases=(Outer,), frozen=True,
    )  # fmt: skip
    table = RecordTable("wider_records", wider)
    assert table.columns[-2:] == ["provider", "retries"]
    record = wider(FULL.key, None, FULL.inner, provider="p", retries=2)
    assert store_and_load(table, record) == record


@pytest.mark.parametrize(
    ("column", "value"),
    [("slot", "two"), ("slot", None), ("status", "other"), ("note", 1), ("numbers", '{"a": "b"}'),
     ("numbers", "[]"), ("plans", '[{"unknown": 1}]'), ("summary", "null,")],
)  # fmt: skip
def test_a_value_of_another_form_is_an_error(column, value):
    row = {**TABLE.dump(FULL, extra=None), column: value}
    with pytest.raises((TypeError, ValueError)):
        TABLE.load([row[name] for name in TABLE.columns])
