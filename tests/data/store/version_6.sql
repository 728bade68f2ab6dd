BEGIN TRANSACTION;
CREATE TABLE artifact_files (     -- artifacts too large for `artifacts`, which holds a null
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,         -- of the text, and the name of the file in `artifacts/`
        bytes INTEGER NOT NULL,
        start TEXT NOT NULL,          -- JSON: what is shown of it when the file is missing
        end TEXT NOT NULL,
        PRIMARY KEY (generation, slot, sequence, name)
    ) WITHOUT ROWID;
CREATE TABLE artifacts (          -- of an evaluation that has any
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        data BLOB NOT NULL,           -- zlib of JSON
        UNIQUE (generation, slot, sequence)
    );
INSERT INTO "artifacts" VALUES(0,0,0,X'789CAB56CACB2F4955B252502A49AD285188294DB1304E0192A906064AB5008F980974');
INSERT INTO "artifacts" VALUES(1,0,0,X'789CAB56CACB2F4955B252502A49AD285188294DB1304E0192A906064AB5008F980974');
CREATE TABLE attempts (           -- written with the commit of their generation
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        number INTEGER NOT NULL,
        island INTEGER NOT NULL,
        parent_generation INTEGER,
        parent_slot INTEGER,
        parent_number INTEGER,
        depth INTEGER NOT NULL,
        plan TEXT,                    -- JSON
        program TEXT REFERENCES programs(id),
        evaluation INTEGER,           -- sequence in `evaluations`; null when none was paid for
        reason TEXT NOT NULL,         -- why it was rejected; the evaluation has its own
        detail TEXT NOT NULL,
        PRIMARY KEY (generation, slot, number)
    ) WITHOUT ROWID;
INSERT INTO "attempts" VALUES(0,0,0,0,NULL,NULL,NULL,0,'{"change": "change", "hypothesis": "hypothesis", "predicted_gain": 0.5, "risk": "risk", "tags": ["a", "b"], "operator": "", "lessons": []}','28784f0c4e6541aa',0,'','');
INSERT INTO "attempts" VALUES(0,0,1,0,NULL,NULL,NULL,0,NULL,NULL,NULL,'no code','d');
INSERT INTO "attempts" VALUES(1,0,0,0,0,0,0,1,'{"change": "change", "hypothesis": "hypothesis", "predicted_gain": 0.5, "risk": "risk", "tags": ["a", "b"], "operator": "", "lessons": []}','94f71131ac10d7c4',0,'','');
INSERT INTO "attempts" VALUES(1,0,1,0,0,0,0,1,NULL,NULL,NULL,'no code','d');
CREATE TABLE calls (              -- durable as soon as they are paid for
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        request_hash TEXT NOT NULL,
        role TEXT NOT NULL,
        model TEXT NOT NULL,
        error TEXT NOT NULL,          -- why the reply cannot be used; empty when it can
        finish_reason TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost_usd REAL,                -- null when the price is unknown
        seconds REAL NOT NULL,
        dictionary INTEGER,           -- of the request; null when compressed on its own
        request BLOB NOT NULL,        -- zlib of JSON
        reply BLOB NOT NULL, cached_tokens INTEGER NOT NULL DEFAULT 0,          -- zlib of text
        UNIQUE (generation, slot, sequence)
    );
INSERT INTO "calls" VALUES(0,0,0,'70fd7c71c52faa6cce3ee7ab2352b963','editor','model','','length',10,5,NULL,1.5,1,X'78BB7AB32DC2AB1EC46E03007AB32DC2',X'789C2B49AD280100046701C6',0);
INSERT INTO "calls" VALUES(1,0,0,'70fd7c71c52faa6cce3ee7ab2352b963','editor','model','','length',10,5,NULL,1.5,1,X'78BB7AB32DC2AB1EC46E03007AB32DC2',X'789C2B49AD280100046701C6',0);
CREATE TABLE dictionaries (       -- what texts of a kind are compressed against
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,           -- `program`, or the role of a call
        data BLOB NOT NULL            -- zlib
    );
INSERT INTO "dictionaries" VALUES(1,'editor',X'789C1D8DC10A02310C447FA5E4BC48F72082BF528A047756C5AD5D921614F1DF4D7ACBCCBCCC7C49EA063A07C2F26855680A54A0CA37A8B929917EB4A1B8AF94A790A82B06D62967A7F97D69F58997F3738C6619BF43B875F1E67838FA33B09838F979BDA3B06F8E562EFB36C6665358D72A6D64BF3F7AB32DC2');
INSERT INTO "dictionaries" VALUES(2,'program',X'789C8B8E564AD42BA854D25150AA50B0553088C9538AD55188564AD22BA9280189C6941A18A45A824803B0642C0055C30D9E');
CREATE TABLE evaluations (        -- durable as soon as they are finished
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        program TEXT NOT NULL REFERENCES programs(id),
        status TEXT NOT NULL,
        objective REAL,
        metrics TEXT NOT NULL,        -- JSON
        measures TEXT NOT NULL,       -- JSON
        seconds REAL NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (generation, slot, sequence)
    ) WITHOUT ROWID;
INSERT INTO "evaluations" VALUES(0,0,0,'28784f0c4e6541aa','ok',1.5,'{"m": 2.0}','{"x": 0.25}',0.5,'');
INSERT INTO "evaluations" VALUES(1,0,0,'94f71131ac10d7c4','ok',1.5,'{"m": 2.0}','{"x": 0.25}',0.5,'');
CREATE TABLE expenses (           -- what was paid, or may have been, beside the calls
        number INTEGER PRIMARY KEY,
        generation INTEGER NOT NULL,  -- the first that was not committed, where none asked for it
        slot INTEGER NOT NULL,
        role TEXT NOT NULL,           -- that of the call, or `preflight`
        model TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost_usd REAL,                -- null when the price is unknown
        lost TEXT NOT NULL            -- why no answer came, so that all are upper estimates
    );
INSERT INTO "expenses" VALUES(1,1,0,'preflight','model',3,0,1,0.5,'');
CREATE TABLE facts (              -- what is known when a run starts, and how it stopped
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL           -- JSON
    ) WITHOUT ROWID;
INSERT INTO "facts" VALUES('problem','"valley"');
INSERT INTO "facts" VALUES('seed','1');
CREATE TABLE generations (        -- a row is the checkpoint: its generation is committed
        generation INTEGER PRIMARY KEY,
        seconds REAL NOT NULL         -- running time of the whole run when it was committed
    );
INSERT INTO "generations" VALUES(0,0.0);
INSERT INTO "generations" VALUES(1,1.0);
CREATE TABLE launches (           -- each start and each resume of the run
        number INTEGER PRIMARY KEY,   -- from 1
        started TEXT NOT NULL,        -- UTC, ISO 8601; empty when it was not written down
        pid INTEGER,
        host TEXT NOT NULL,
        version TEXT NOT NULL,        -- of this tool
        generation INTEGER NOT NULL,  -- the first that nothing had been paid for
        changes TEXT NOT NULL         -- JSON: settings changed from there on: {key: [old, new]}
    );
INSERT INTO "launches" VALUES(1,'2026-01-01T00:00:00+00:00',7,'host','0.1.0',0,'{}');
CREATE TABLE lessons (            -- one a slot, written with the commit of its generation
        generation INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        cause TEXT NOT NULL,
        lesson TEXT NOT NULL,
        tags TEXT NOT NULL, evidence TEXT NOT NULL DEFAULT '', next_step TEXT NOT NULL DEFAULT '',           -- JSON
        PRIMARY KEY (generation, slot)
    ) WITHOUT ROWID;
INSERT INTO "lessons" VALUES(0,0,'v','time','lesson','["t"]','','');
INSERT INTO "lessons" VALUES(1,0,'v','time','lesson','["t"]','','');
CREATE TABLE "programs" (
        id TEXT PRIMARY KEY,          -- hash of the content
        fingerprint TEXT NOT NULL,    -- hash of the normal form
        source INTEGER                -- null when it was pruned
    ) WITHOUT ROWID;
INSERT INTO "programs" VALUES('28784f0c4e6541aa','ae956a3c6816ffb6',1);
INSERT INTO "programs" VALUES('94f71131ac10d7c4','e1729a71371fb60c',2);
CREATE TABLE seals (              -- checksums; what an older schema wrote has none
        generation INTEGER PRIMARY KEY, -- -1 for facts and launches
        rows INTEGER,                 -- sum of the CRC-32 of its rows, but for compressed texts
        told INTEGER,                 -- CRC-32 of what the population is told of it
        uses INTEGER                  -- CRC-32 of what its calls used
    );
INSERT INTO "seals" VALUES(-1,5559733397,NULL,NULL);
INSERT INTO "seals" VALUES(0,14011386321,2946050979,867362948);
INSERT INTO "seals" VALUES(1,14712050972,1475887631,2797747217);
CREATE TABLE snapshots (          -- derived; may be deleted at any time
        generation INTEGER PRIMARY KEY,
        version TEXT NOT NULL,        -- of what folded it: another one passes it over
        tally BLOB NOT NULL,          -- zlib of JSON: use of models and outcomes up to where
        population BLOB NOT NULL      -- zlib of JSON
    );
INSERT INTO "snapshots" VALUES(1,'v',X'789C8B36D451888E564A4DC92CC92F52D25150CACD4F49CD01328C80C8404701880C41949E0158082202E4C502B5291514A5A6E564A66794206B04CA1B43F481149AC2F540B401F5552BE5672B59814C532A4ACD4A4D2E494D01716B8116C402009EBC222E',X'7801AB564A4FCD4B2D4A2CC9CCCF53B25230AC050038B705F4');
CREATE TABLE sources (            -- apart from `programs`, which is read whole on a resume
        number INTEGER PRIMARY KEY,
        dictionary INTEGER,           -- null when compressed on its own
        data BLOB NOT NULL            -- zlib of JSON: [[path, text], ...]
    );
INSERT INTO "sources" VALUES(1,2,X'78BB55C30D9E8B2659070055C30D9E');
INSERT INTO "sources" VALUES(2,2,X'78BB55C30D9E8B46D5614858070055E60D9F');
CREATE INDEX attempts_by_parent
        ON attempts (parent_generation, parent_slot, parent_number);
CREATE INDEX dictionaries_by_kind ON dictionaries (kind, number);
CREATE INDEX artifact_files_by_hash ON artifact_files (sha256);
CREATE INDEX expenses_by_generation ON expenses (generation);
COMMIT;
PRAGMA user_version = 6;
