from evolve.records.results import Totals
from evolve.report.overview import describe_money, list_spending, tabulate_spending

USAGE = [
    ("editor", "openai/a", Totals(12, 3400, 1000, 560, 0.0123, 0, 2, 900, 0.004)),
    ("planner", "b", Totals(3, 70, 0, 5, 0.0, 3)),
]


def test_spending_is_a_table_by_role_and_model():
    money = ["$0.0123 + at most $0.0040 for 2 lost requests", "$0.0000 + 3 calls of unknown price"]
    assert tabulate_spending(USAGE).rows == [
        ("editor", "openai/a", 12, 3400, 1000, 560, 0, money[0]),
        ("planner", "b", 3, 70, 0, 5, 0, money[1]),
    ]


def test_spending_as_data_adds_up():
    parts = list_spending(USAGE)
    assert sum(part["tokens"] for part in parts) == 3400 + 560 + 75
    assert [part["lost_requests"] for part in parts] == [2, 0]


def test_money_says_what_it_leaves_out():
    assert describe_money(Totals(cost_usd=1.5)) == "$1.5000"
