"""The statements that write and read the run's database."""

from __future__ import annotations

# What is paid for, by table; a row that is there already stays.
INSERT_PAID = {
    table: f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * columns)})"
    for table, columns in (
        ("calls", 16),
        ("evaluations", 11),
        ("artifacts", 4),
        ("artifact_files", 8),
    )
}
INSERT_EXPENSE = f"INSERT INTO expenses VALUES (NULL, {', '.join('?' * 10)})"
INSERT_SOURCE = "INSERT INTO sources (data) VALUES (?)"
INSERT_PROGRAM = "INSERT OR REPLACE INTO programs VALUES (?, ?, ?)"
INSERT_ATTEMPT = f"INSERT INTO attempts VALUES ({', '.join('?' * 13)})"
INSERT_LAUNCH = f"INSERT INTO launches VALUES ({', '.join('?' * 7)})"
INSERT_GENERATION = "INSERT INTO generations VALUES (?, ?, ?, ?)"
# What belongs to one slot, and was recorded by another that needed the same evaluation first.
MOVE_EVALUATION = tuple(
    f"UPDATE {table} SET generation = ?, slot = ?, sequence = ? "
    "WHERE generation = ? AND slot = ? AND sequence = ?"
    for table in ("evaluations", "artifacts", "artifact_files")
)

_FILES = (
    "(SELECT json_group_object(f.name, json_array(f.sha256, f.start, f.end)) "
    "FROM artifact_files f WHERE f.generation = e.generation AND f.slot = e.slot "
    "AND f.sequence = e.sequence)"
)
# Null for what was rejected; no status at all where the row that is referred to is not there.
_STATUS = "CASE WHEN a.evaluation IS NOT NULL THEN COALESCE(e.status, 'missing') END"
_VERDICT = f"e.objective, e.metrics, e.measures, e.instances, e.seconds, e.reason, r.data, {_FILES}"
_JOIN = (
    "LEFT JOIN evaluations e ON e.generation = a.generation AND e.slot = a.slot "
    "AND e.sequence = a.evaluation LEFT JOIN programs p ON p.id = a.program"
)
_ARTIFACTS = (
    "LEFT JOIN artifacts r ON r.generation = e.generation AND r.slot = e.slot "
    "AND r.sequence = e.sequence"
)
_SOURCE = "LEFT JOIN sources s ON s.number = p.source"
SELECT_TOLD = (
    "SELECT a.generation, a.slot, a.number, a.island, a.parent_generation, a.parent_slot, "
    "a.parent_number, a.depth, json_extract(a.plan, '$.operator'), a.program, p.fingerprint, "
    f"{_STATUS}, e.objective, e.measures, e.metrics, e.instances FROM attempts "
    f"a {_JOIN} "
    "WHERE a.generation >= ? AND a.generation <= ? ORDER BY a.generation, a.slot, a.number"
)
SELECT_ATTEMPT = (
    "SELECT a.generation, a.slot, a.number, a.island, a.parent_generation, a.parent_slot, "
    "a.parent_number, a.depth, a.plan, s.data, a.reason, a.detail, "
    f"{_STATUS}, {_VERDICT}, p.source IS NULL AND p.id IS NOT NULL, a.program "
    f"FROM attempts a {_JOIN} {_SOURCE} {_ARTIFACTS} "
    "WHERE a.generation = ? AND a.slot = ? AND a.number = ?"
)
SELECT_CHILDREN = (
    "SELECT generation, slot, number FROM attempts WHERE parent_generation = ? "
    "AND parent_slot = ? AND parent_number = ? AND generation <= ? "
    "ORDER BY generation DESC, slot DESC, number DESC LIMIT ?"
)
SELECT_CALLS = (
    "SELECT * FROM calls WHERE generation > ? AND generation <= ? "
    "ORDER BY generation, slot, sequence"
)
SELECT_EVALUATIONS = (
    f"SELECT e.generation, e.slot, e.sequence, s.data, e.status, {_VERDICT}, e.program "
    f"FROM evaluations e LEFT JOIN programs p ON p.id = e.program {_SOURCE} {_ARTIFACTS} "
    "WHERE e.generation > ? AND e.generation <= ? ORDER BY e.generation, e.slot, e.sequence"
)
_RANGE = "generation > ? AND generation <= ? GROUP BY role, model ORDER BY role, model"
SELECT_USAGE = (
    "SELECT role, model, COUNT(*), SUM(prompt_tokens), SUM(cached_tokens), "
    "SUM(completion_tokens), COALESCE(SUM(cost_usd), 0.0), COUNT(*) - COUNT(cost_usd), "
    f"SUM(thinking_tokens) FROM calls WHERE {_RANGE}"
)
SELECT_EXPENSES = (
    "SELECT role, model, 0, SUM(prompt_tokens), SUM(cached_tokens), SUM(completion_tokens), "
    "COALESCE(SUM(cost_usd), 0.0), COUNT(*) - COUNT(cost_usd), SUM(thinking_tokens) "
    f"FROM expenses WHERE lost = '' AND {_RANGE}"
)
SELECT_EXPENSES_OF = (
    "SELECT * FROM expenses WHERE generation > ? AND generation <= ? ORDER BY generation, number"
)
SELECT_EFFORTS = (
    "SELECT g.generation, COUNT(a.number), COUNT(*) FILTER (WHERE e.status != 'rejected'), "
    "COUNT(*) FILTER (WHERE instr(COALESCE(NULLIF(a.reason, ''), e.reason), ?)) "
    "FROM generations g LEFT JOIN attempts a ON a.generation = g.generation "
    "AND COALESCE(json_extract(a.plan, '$.operator'), '') = '' "
    "LEFT JOIN evaluations e ON e.generation = a.generation AND e.slot = a.slot "
    "AND e.sequence = a.evaluation WHERE g.generation > ? GROUP BY g.generation "
    "ORDER BY g.generation"
)
SELECT_REJECTIONS = (
    "SELECT COALESCE(NULLIF(a.reason, ''), e.reason) AS why, COUNT(*) FROM attempts a "
    "LEFT JOIN evaluations e ON e.generation = a.generation AND e.slot = a.slot "
    "AND e.sequence = a.evaluation WHERE COALESCE(e.status, 'rejected') = 'rejected' "
    "GROUP BY why ORDER BY COUNT(*) DESC, why"
)
SELECT_LOST = (
    "SELECT role, model, COUNT(*), SUM(prompt_tokens + completion_tokens), "
    f"COALESCE(SUM(cost_usd), 0.0) FROM expenses WHERE lost != '' AND {_RANGE}"
)
SELECT_USES = (
    "SELECT generation, slot, role, model, cost_usd, prompt_tokens + completion_tokens "
    "FROM calls WHERE generation >= ? AND generation <= ? ORDER BY generation, slot, sequence"
)
SELECT_NEWEST = (
    "SELECT MAX(newest) FROM (SELECT MAX(generation) AS newest FROM generations "
    "UNION ALL SELECT MAX(generation) FROM calls "
    "UNION ALL SELECT MAX(generation) FROM evaluations)"
)
COUNT_EVALUATIONS = (
    "SELECT COUNT(*) FROM evaluations "
    "WHERE generation > ? AND generation <= ? AND status != 'rejected'"
)
SELECT_OUTCOMES = (
    "SELECT COALESCE(e.status, 'rejected') AS outcome, COUNT(*) FROM attempts a "
    "LEFT JOIN evaluations e ON e.generation = a.generation AND e.slot = a.slot "
    "AND e.sequence = a.evaluation WHERE a.generation > ? AND a.generation <= ? "
    "GROUP BY outcome ORDER BY outcome"
)
