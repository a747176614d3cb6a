"""The ledger's schema, as it grew."""

_SCHEMA_1 = """
CREATE TABLE plugins (
    plugin_id TEXT PRIMARY KEY, good TEXT, floor TEXT, repository TEXT, channel TEXT,
    projected TEXT, projection_due INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE generations (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, version TEXT NOT NULL, stem TEXT NOT NULL,
    payload_sha256 TEXT NOT NULL, key_id TEXT NOT NULL, capabilities TEXT NOT NULL,
    digest TEXT, repository TEXT, installed_at REAL NOT NULL, committed_at REAL,
    PRIMARY KEY (plugin_id, release)
) STRICT;
CREATE TABLE trials (
    plugin_id TEXT PRIMARY KEY, release TEXT NOT NULL, previous TEXT,
    started_at REAL NOT NULL, ends_at REAL NOT NULL
) STRICT;
CREATE TABLE rejected (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, version TEXT NOT NULL,
    reason TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (plugin_id, release)
) STRICT;
CREATE TABLE refused (
    repository TEXT NOT NULL, digest TEXT NOT NULL, terms TEXT NOT NULL,
    reason TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (repository, digest)
) STRICT;
CREATE TABLE first_seen (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT, release TEXT, at REAL NOT NULL,
    PRIMARY KEY (repository, tag)
) STRICT;
CREATE TABLE samples (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, minute INTEGER NOT NULL,
    calls INTEGER NOT NULL, failures INTEGER NOT NULL, health_failures INTEGER NOT NULL,
    PRIMARY KEY (plugin_id, release, minute)
) STRICT;
CREATE TABLE grants (
    plugin_id TEXT NOT NULL, capability TEXT NOT NULL, granted INTEGER NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (plugin_id, capability)
) STRICT;
CREATE TABLE trust_serials (store TEXT PRIMARY KEY, serial INTEGER NOT NULL) STRICT;
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, plugin_id TEXT NOT NULL,
    kind TEXT NOT NULL, version TEXT, release TEXT, detail TEXT NOT NULL
) STRICT;
CREATE TABLE decisions (
    plugin_id TEXT PRIMARY KEY, at REAL NOT NULL, candidate TEXT, outcome TEXT NOT NULL,
    step TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX history_of ON history (plugin_id, number);
"""
_SCHEMA_2 = """
DROP TABLE refused;
CREATE TABLE refused (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT, terms TEXT NOT NULL,
    code TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (repository, tag)
) STRICT;
ALTER TABLE first_seen DROP COLUMN release;
CREATE TABLE audit_head (
    only INTEGER PRIMARY KEY CHECK (only = 1), lines INTEGER NOT NULL, hash TEXT NOT NULL,
    segment INTEGER NOT NULL, size_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE audit_refusals (
    plugin_id TEXT NOT NULL, version TEXT NOT NULL, said TEXT NOT NULL,
    PRIMARY KEY (plugin_id, version)
) STRICT;
"""
_COUNTED = """
BEGIN
    INSERT INTO memories VALUES ({row}.plugin_id, 1)
    ON CONFLICT (plugin_id) DO UPDATE SET number = number + 1; END"""
_SCHEMA_3 = f"""
CREATE TABLE holds (
    plugin_id TEXT PRIMARY KEY, until REAL, at REAL NOT NULL
) STRICT;
ALTER TABLE plugins ADD COLUMN stop TEXT;
ALTER TABLE grants ADD COLUMN until REAL;
ALTER TABLE grants ADD COLUMN max_calls INTEGER;
ALTER TABLE grants ADD COLUMN calls_left INTEGER;
ALTER TABLE grants ADD COLUMN serial TEXT;
CREATE TABLE went_live (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, PRIMARY KEY (plugin_id, release)
) STRICT;
INSERT INTO went_live SELECT plugin_id, release FROM generations;
CREATE TABLE flat_sets (
    stem TEXT PRIMARY KEY, plugin_id TEXT NOT NULL, stamp TEXT NOT NULL, terms TEXT,
    version TEXT, outcome TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
    detail TEXT NOT NULL, hint TEXT, at REAL NOT NULL
) STRICT;
ALTER TABLE first_seen ADD COLUMN release TEXT;
CREATE TABLE awaited (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT, terms TEXT NOT NULL,
    version TEXT NOT NULL, release TEXT NOT NULL, detail TEXT NOT NULL, message TEXT NOT NULL,
    hint TEXT, at REAL NOT NULL, PRIMARY KEY (repository, tag)
) STRICT;
CREATE TABLE audit_uncovered (first INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT;
CREATE TABLE ledger (only INTEGER PRIMARY KEY CHECK (only = 1), id TEXT NOT NULL) STRICT;
INSERT INTO ledger VALUES (1, lower(hex(randomblob(16))));
CREATE TABLE memories (plugin_id TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;
INSERT INTO memories SELECT plugin_id, 1 FROM plugins UNION SELECT plugin_id, 1 FROM rejected
UNION SELECT plugin_id, 1 FROM grants;
CREATE TRIGGER memory_of_new AFTER INSERT ON plugins {_COUNTED.format(row="new")};
CREATE TRIGGER memory_of_plugin
AFTER UPDATE OF floor, repository, channel, good, stop ON plugins
WHEN old.floor IS NOT new.floor OR old.repository IS NOT new.repository
OR old.channel IS NOT new.channel OR old.good IS NOT new.good OR old.stop IS NOT new.stop
{_COUNTED.format(row="new")};
CREATE TRIGGER memory_of_commit AFTER UPDATE OF committed_at, digest ON generations
WHEN new.committed_at IS NOT NULL {_COUNTED.format(row="new")};
CREATE TRIGGER memory_of_pruned AFTER DELETE ON generations
WHEN old.committed_at IS NOT NULL {_COUNTED.format(row="old")};
CREATE TRIGGER memory_of_rejection AFTER INSERT ON rejected {_COUNTED.format(row="new")};
CREATE TRIGGER memory_of_pardon AFTER DELETE ON rejected {_COUNTED.format(row="old")};
CREATE TRIGGER memory_of_hold AFTER INSERT ON holds {_COUNTED.format(row="new")};
CREATE TRIGGER memory_of_letting_go AFTER DELETE ON holds {_COUNTED.format(row="old")};
CREATE TRIGGER memory_of_grant AFTER INSERT ON grants {_COUNTED.format(row="new")};
CREATE TRIGGER memory_of_calls AFTER UPDATE OF calls_left ON grants
WHEN old.calls_left IS NOT new.calls_left {_COUNTED.format(row="new")};
CREATE TRIGGER memory_of_taking_back AFTER DELETE ON grants {_COUNTED.format(row="old")};
"""  # noqa: S608 - put together from literals above
"""The triggers count all changes of what a tree remembers of a plugin: ``agent.ledger.memory``."""
_SCHEMA_4 = """
ALTER TABLE history ADD COLUMN beside TEXT;
CREATE TABLE cursors (reader TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;
INSERT INTO sqlite_sequence SELECT 'history', 0 WHERE NOT EXISTS
(SELECT 1 FROM sqlite_sequence WHERE name = 'history');
UPDATE sqlite_sequence SET seq =
max(seq, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)) WHERE name = 'history';
CREATE TABLE watched_trials (
    plugin_id TEXT NOT NULL, release TEXT NOT NULL, deaths INTEGER NOT NULL,
    is_armed INTEGER NOT NULL, PRIMARY KEY (plugin_id, release)
) STRICT;
"""
"""Events are numbered from the time in milliseconds on, which no ledger catches up with: so those
of a ledger that is made anew follow those of the one that was lost."""
MIGRATIONS = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3, _SCHEMA_4)
"""The n-th leads from version n - 1 of the schema to version n; never edited, only added to."""
