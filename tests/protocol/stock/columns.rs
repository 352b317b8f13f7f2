//! The columns of both tables, by engine, with values among which are those that are easily confused.

/// Columns of the old table: name, type, and values, among which are those that are easily confused.
pub(super) type Columns = &'static [(&'static str, &'static str, &'static [&'static str])];

/// A column of the new table: name, type, and the old column.
pub(super) type NewColumn = (&'static str, &'static str, &'static str);

pub(super) const TEXTS: &[&str] = &[
    "NULL",
    "''",
    "' '",
    "'a'",
    "'a '",
    "'A'",
    "'NULL'",
    "'N'",
    "'1'",
    "'a,b'",
    "'a\"b'",
    "'a\\b'",
    "'(a)'",
    "'a\nb'",
    "'é'",
    "'e\u{301}'",
    "'✓'",
];

pub(super) const POSTGRES: Columns = &[
    ("num", "integer", &["NULL", "0", "1", "-1", "2147483647"]),
    (
        "amount",
        "numeric",
        &[
            "NULL",
            "0",
            "0.00",
            "1.5",
            "1.50",
            "100",
            "12345678901234.5678",
            "'NaN'",
        ],
    ),
    (
        "ratio",
        "double precision",
        &[
            "NULL",
            "0",
            "'-0'",
            "0.1",
            "1e20",
            "1e-7",
            "'NaN'",
            "'Infinity'",
        ],
    ),
    (
        "small",
        "real",
        &["NULL", "0", "'-0'", "0.1", "1e20", "16777217"],
    ),
    ("title", "text", TEXTS),
    ("code", "varchar(20)", TEXTS),
    (
        "fixed",
        "char(5)",
        &["NULL", "''", "'a'", "'a  b'", "'abcde'"],
    ),
    ("flag", "boolean", &["NULL", "true", "false"]),
    (
        "at",
        "timestamptz",
        &[
            "NULL",
            "'2024-01-01 00:00:00+00'",
            "'2024-01-01 00:00:00.000001+00'",
            "'2024-01-01 01:00:00+01'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 00:00:00+00 BC'",
        ],
    ),
    (
        "day",
        "date",
        &["NULL", "'2024-01-01'", "'infinity'", "'0001-01-01 BC'"],
    ),
    (
        "blob",
        "bytea",
        &["NULL", "'\\x'", "'\\x00'", "'\\x6100'", "'\\x61'"],
    ),
    (
        "ref",
        "uuid",
        &[
            "NULL",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    (
        "doc",
        "jsonb",
        &[
            "NULL",
            "'null'",
            "'{}'",
            "'{\"a\":1}'",
            "'{\"a\":1.0}'",
            "'[1,2]'",
            "'[2,1]'",
        ],
    ),
    (
        "body",
        "json",
        &[
            "NULL",
            "'{}'",
            "'{\"a\":1, \"c\":2}'",
            "'{\"b\": 1,\"a\":1}'",
        ],
    ),
    (
        "span",
        "interval",
        &["NULL", "'1 day'", "'24:00:00'", "'1 month'", "'30 days'"],
    ),
];

/// PostgreSQL's columns in PostgreSQL.
pub(super) const POSTGRES_NEW: &[NewColumn] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("amount", "numeric", "amount"),
    ("amount_4", "numeric(20,4)", "amount"),
    ("ratio", "double precision", "ratio"),
    ("small", "real", "small"),
    ("small_double", "double precision", "small"),
    ("title", "text", "title"),
    // What a mapping calls the name of a row within its key.
    ("slot", "text", "title"),
    ("code", "text", "code"),
    ("fixed", "char(8)", "fixed"),
    ("fixed_text", "varchar(8)", "fixed"),
    ("flag", "boolean", "flag"),
    ("flag_text", "text", "flag"),
    ("at", "timestamptz", "at"),
    ("at_us", "timestamptz(6)", "at"),
    ("day", "date", "day"),
    ("blob", "bytea", "blob"),
    ("ref", "uuid", "ref"),
    ("ref_text", "text", "ref"),
    ("doc", "jsonb", "doc"),
    ("body", "jsonb", "body"),
    ("span", "interval", "span"),
];

pub(super) const MARIADB: Columns = &[
    ("num", "int", &["NULL", "0", "1", "-1", "2147483647"]),
    (
        "big",
        "bigint unsigned",
        &["NULL", "0", "9223372036854775807"],
    ),
    (
        "amount",
        "decimal(30,4)",
        &["NULL", "0", "1.5", "100", "12345678901234.5678"],
    ),
    ("ratio", "double", &["NULL", "0", "0.1", "1e20", "1e-7"]),
    ("small", "float", &["NULL", "0", "0.1", "1e20", "16777217"]),
    ("title", "text", TEXTS),
    ("code", "varchar(20)", TEXTS),
    ("fixed", "char(5)", &["NULL", "''", "'a'", "'abcde'"]),
    ("flag", "tinyint(1)", &["NULL", "0", "1"]),
    ("tiny", "tinyint(1) unsigned", &["NULL", "0", "200"]),
    (
        "at",
        "timestamp(6) NULL",
        &[
            "NULL",
            "'2024-01-01 00:00:00'",
            "'2024-01-01 00:00:00.000001'",
            "'1970-01-01 00:00:01'",
        ],
    ),
    (
        "moment",
        "datetime(3)",
        &["NULL", "'2024-02-29 23:59:59.999'", "'1000-01-01 00:00:00'"],
    ),
    ("day", "date", &["NULL", "'2024-01-01'", "'9999-12-31'"]),
    ("hour", "time(2)", &["NULL", "'00:00:00'", "'23:59:59.99'"]),
    (
        "bytes",
        "blob",
        &["NULL", "x''", "x'00'", "x'6100'", "x'61'"],
    ),
    (
        "ref",
        "uuid",
        &["NULL", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    ),
    (
        "doc",
        "json",
        &["NULL", "'null'", "'{}'", "'{\"a\":1.0}'", "'[2,1]'"],
    ),
    (
        "kind",
        "enum('a','B','c d')",
        &["NULL", "'a'", "'B'", "'c d'"],
    ),
];

/// MariaDB's columns in PostgreSQL.
pub(super) const MARIADB_TO_POSTGRES: &[NewColumn] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("big", "numeric(20)", "big"),
    ("amount", "numeric", "amount"),
    ("amount_4", "numeric(30,4)", "amount"),
    ("ratio", "double precision", "ratio"),
    ("small", "real", "small"),
    ("small_double", "double precision", "small"),
    ("title", "text", "title"),
    ("slot", "text", "title"),
    ("code", "varchar(20)", "code"),
    ("fixed", "varchar(8)", "fixed"),
    ("flag", "boolean", "flag"),
    ("flag_number", "integer", "flag"),
    ("tiny", "integer", "tiny"),
    ("at", "timestamptz", "at"),
    ("moment", "timestamp(3)", "moment"),
    ("day", "date", "day"),
    ("hour", "time(2)", "hour"),
    ("blob", "bytea", "bytes"),
    ("ref", "uuid", "ref"),
    ("doc", "jsonb", "doc"),
    ("kind", "text", "kind"),
];

/// MariaDB's columns in SQLite.
pub(super) const MARIADB_TO_SQLITE: &[NewColumn] = &[
    ("num", "BIGINT", "num"),
    ("big", "BIGINT", "big"),
    ("amount", "TEXT", "amount"),
    ("ratio", "DOUBLE PRECISION", "ratio"),
    ("small", "REAL", "small"),
    ("title", "TEXT", "title"),
    ("slot", "TEXT", "title"),
    ("code", "", "code"),
    ("fixed", "VARCHAR(8)", "fixed"),
    ("flag", "BOOLEAN", "flag"),
    ("at", "TEXT", "at"),
    ("moment", "TIMESTAMP", "moment"),
    ("day", "DATE", "day"),
    ("hour", "TEXT", "hour"),
    ("blob", "BLOB", "bytes"),
    ("ref", "TEXT", "ref"),
    ("doc", "TEXT", "doc"),
    ("kind", "TEXT", "kind"),
];

/// MariaDB's columns in MariaDB.
pub(super) const MARIADB_NEW: &[NewColumn] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("big", "bigint unsigned", "big"),
    ("amount", "decimal(30,4)", "amount"),
    ("amount_6", "decimal(20,6)", "amount"),
    ("ratio", "double", "ratio"),
    ("small", "float", "small"),
    ("title", "text", "title"),
    ("slot", "text", "title"),
    ("code", "varchar(20)", "code"),
    ("fixed", "char(8)", "fixed"),
    ("flag", "tinyint(1)", "flag"),
    ("tiny", "smallint", "tiny"),
    ("at", "timestamp(6) NULL", "at"),
    ("moment", "datetime(6)", "moment"),
    ("day", "date", "day"),
    ("hour", "time(2)", "hour"),
    ("bytes", "varbinary(20)", "bytes"),
    ("ref", "uuid", "ref"),
    ("doc", "json", "doc"),
    ("kind", "enum('c d','B','a')", "kind"),
];

/// PostgreSQL's columns in MariaDB. What has no form there is held: infinities, `NaN`, years before 1.
pub(super) const POSTGRES_TO_MARIADB: &[NewColumn] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("amount", "decimal(40,10)", "amount"),
    ("amount_text", "varchar(40)", "amount"),
    ("ratio", "double", "ratio"),
    ("small", "float", "small"),
    ("small_double", "double", "small"),
    ("title", "text", "title"),
    ("slot", "text", "title"),
    ("code", "varchar(20)", "code"),
    ("fixed", "varchar(8)", "fixed"),
    ("flag", "tinyint(1)", "flag"),
    ("at", "timestamp(6) NULL", "at"),
    ("at_text", "varchar(40)", "at"),
    ("day", "date", "day"),
    ("bytes", "blob", "blob"),
    ("ref", "uuid", "ref"),
    ("ref_text", "char(36)", "ref"),
    ("doc", "json", "doc"),
    ("body", "longtext", "body"),
    ("span", "text", "span"),
];

/// SQLite's columns in MariaDB. What has no form there is held: words in columns of numbers.
pub(super) const SQLITE_TO_MARIADB: &[NewColumn] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("amount", "decimal(20,4)", "amount"),
    ("amount_double", "double", "amount"),
    ("ratio", "double", "ratio"),
    ("title", "text", "title"),
    ("slot", "varchar(20)", "title"),
    ("anything", "text", "anything"),
    ("flag", "tinyint(1)", "flag"),
    ("bytes", "blob", "blob"),
];

pub(super) const SQLITE: Columns = &[
    (
        "num",
        "INTEGER",
        &[
            "NULL",
            "0",
            "1",
            "-1",
            "'abc'",
            "1.5",
            "9223372036854775807",
        ],
    ),
    (
        "amount",
        "NUMERIC",
        &["NULL", "0", "1.5", "'1.50'", "100", "'x'", "1e20", "0.1"],
    ),
    (
        "ratio",
        "REAL",
        &["NULL", "0", "-0.0", "1", "0.1", "1e20", "9e999", "'x'"],
    ),
    ("title", "TEXT", TEXTS),
    (
        "anything",
        "",
        &["NULL", "1", "1.0", "'1'", "x'31'", "''", "x''", "0.1", "2"],
    ),
    ("flag", "BOOLEAN", &["NULL", "0", "1", "'true'"]),
    (
        "blob",
        "BLOB",
        &["NULL", "x''", "x'00'", "x'6100'", "'a'", "x'61'"],
    ),
];

pub(super) const SQLITE_NEW: &[NewColumn] = &[
    ("num", "BIGINT", "num"),
    ("num_text", "VARCHAR(20)", "num"),
    ("amount", "DECIMAL(12,2)", "amount"),
    ("amount_real", "DOUBLE", "amount"),
    ("ratio", "REAL", "ratio"),
    ("ratio_any", "", "ratio"),
    ("title", "TEXT", "title"),
    ("slot", "TEXT", "title"),
    ("anything", "", "anything"),
    ("anything_number", "NUMERIC", "anything"),
    ("flag", "BOOLEAN", "flag"),
    ("blob", "BLOB", "blob"),
];

/// PostgreSQL's columns in SQLite. What one of these changes is held: numbers with more digits than a
/// float has, and `NaN`.
pub(super) const POSTGRES_TO_SQLITE: &[NewColumn] = &[
    ("num", "BIGINT", "num"),
    ("num_text", "VARCHAR(20)", "num"),
    ("amount", "DECIMAL(12,2)", "amount"),
    ("amount_text", "TEXT", "amount"),
    ("ratio", "DOUBLE PRECISION", "ratio"),
    ("small", "REAL", "small"),
    ("title", "TEXT", "title"),
    ("slot", "TEXT", "title"),
    ("code", "", "code"),
    ("fixed", "VARCHAR(8)", "fixed"),
    ("flag", "BOOLEAN", "flag"),
    ("at", "TEXT", "at"),
    ("at_time", "TIMESTAMP", "at"),
    ("day", "DATE", "day"),
    ("blob", "BLOB", "blob"),
    ("ref", "TEXT", "ref"),
    ("doc", "TEXT", "doc"),
    ("body", "TEXT", "body"),
    ("span", "TEXT", "span"),
];

/// SQLite's columns in PostgreSQL. What has no form there is held: words in columns of numbers.
pub(super) const SQLITE_TO_POSTGRES: &[NewColumn] = &[
    ("num", "bigint", "num"),
    ("num_text", "text", "num"),
    ("amount", "numeric", "amount"),
    ("amount_4", "numeric(20,4)", "amount"),
    ("ratio", "double precision", "ratio"),
    ("title", "text", "title"),
    ("slot", "varchar", "title"),
    ("anything", "text", "anything"),
    ("flag", "boolean", "flag"),
    ("blob", "bytea", "blob"),
];
