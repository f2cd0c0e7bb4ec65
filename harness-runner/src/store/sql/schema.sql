-- The tables of `history.sqlite`: site/docs/sql.md describes each column, and a test compares the two.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    started_at TEXT NOT NULL,
    elapsed REAL,
    workspace_root TEXT NOT NULL,
    profile TEXT NOT NULL,
    command_line TEXT NOT NULL,
    harness_version TEXT NOT NULL,
    rerun_of TEXT,
    partial INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    tests INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    passed INTEGER,
    flaky INTEGER,
    failed INTEGER,
    interrupted INTEGER,
    cancelled TEXT,
    trace_level TEXT NOT NULL,
    imported INTEGER NOT NULL,
    damaged INTEGER NOT NULL
);
CREATE TABLE tests (
    id INTEGER PRIMARY KEY,
    binary TEXT NOT NULL,
    name TEXT NOT NULL,
    package TEXT,
    UNIQUE (binary, name)
);
CREATE TABLE results (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    test INTEGER NOT NULL REFERENCES tests,
    iteration INTEGER,
    verdict TEXT NOT NULL,
    flaky INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    file TEXT,
    line INTEGER
);
CREATE INDEX results_of_run ON results (run);
CREATE INDEX results_of_test ON results (test);
CREATE TABLE paths (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE
);
-- Most attempts use the same files in the same ways as others, so that is kept once.
CREATE TABLE file_sets (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE
);
CREATE TABLE file_uses (
    file_set INTEGER NOT NULL REFERENCES file_sets ON DELETE CASCADE,
    path INTEGER NOT NULL REFERENCES paths,
    use TEXT NOT NULL,
    PRIMARY KEY (file_set, path, use)
) WITHOUT ROWID;
CREATE INDEX uses_of_path ON file_uses (path);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    test INTEGER NOT NULL REFERENCES tests,
    iteration INTEGER,
    number INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    outcome TEXT NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    reason TEXT,
    message TEXT,
    slow INTEGER NOT NULL,
    leaked INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    elapsed REAL NOT NULL,
    slot INTEGER,
    cpu_user REAL NOT NULL,
    cpu_system REAL NOT NULL,
    peak_memory INTEGER NOT NULL,
    peak_tree_memory INTEGER,
    processes INTEGER,
    disk_read INTEGER NOT NULL,
    disk_written INTEGER NOT NULL,
    stdout_bytes INTEGER NOT NULL,
    stderr_bytes INTEGER NOT NULL,
    trace_level TEXT,
    trace_backend TEXT,
    complete INTEGER,
    file_set INTEGER REFERENCES file_sets
);
CREATE INDEX attempts_of_run ON attempts (run);
CREATE INDEX attempts_of_test ON attempts (test);
CREATE INDEX attempts_of_file_set ON attempts (file_set);
CREATE VIEW files AS
    SELECT attempts.id AS attempt, paths.path AS path, use
    FROM attempts JOIN file_uses USING (file_set) JOIN paths ON paths.id = file_uses.path;
CREATE TABLE processes (
    attempt INTEGER NOT NULL REFERENCES attempts ON DELETE CASCADE,
    pid INTEGER NOT NULL,
    creator INTEGER,
    args TEXT NOT NULL,
    execs INTEGER NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    exit_code INTEGER,
    signal INTEGER
);
CREATE INDEX processes_of_attempt ON processes (attempt);
CREATE TABLE peers (
    attempt INTEGER NOT NULL REFERENCES attempts ON DELETE CASCADE,
    operation TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER,
    reach TEXT NOT NULL,
    names TEXT NOT NULL,
    count INTEGER NOT NULL,
    errno INTEGER
);
CREATE INDEX peers_of_attempt ON peers (attempt);
CREATE TABLE failures (
    attempt INTEGER NOT NULL REFERENCES attempts ON DELETE CASCADE,
    at REAL NOT NULL,
    pid INTEGER NOT NULL,
    call TEXT NOT NULL,
    target TEXT NOT NULL,
    errno INTEGER NOT NULL
);
CREATE INDEX failures_of_attempt ON failures (attempt);
CREATE TABLE metrics (
    attempt INTEGER NOT NULL REFERENCES attempts ON DELETE CASCADE,
    payload TEXT,
    invocation INTEGER,
    name TEXT NOT NULL,
    value REAL,
    unit TEXT,
    polarity TEXT NOT NULL,
    target REAL,
    source TEXT
);
CREATE INDEX metrics_of_attempt ON metrics (attempt);
CREATE INDEX metrics_by_name ON metrics (name);
CREATE TABLE budgets (
    attempt INTEGER NOT NULL REFERENCES attempts ON DELETE CASCADE,
    name TEXT NOT NULL,
    value REAL,
    unit TEXT,
    max REAL,
    min REAL,
    fails INTEGER NOT NULL,
    unmeasured TEXT,
    file TEXT NOT NULL,
    line INTEGER NOT NULL
);
CREATE INDEX budgets_of_attempt ON budgets (attempt);
