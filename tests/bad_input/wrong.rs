//! Everything that can be wrong in a field, and what the error says.

/// One thing wrong: in the old schema, in the new one, in the mapping; and what the error says.
pub struct Wrong {
    pub legacy: (&'static str, &'static str),
    pub new: (&'static str, &'static str),
    pub mapping: (&'static str, &'static str),
    pub says: &'static [&'static str],
}

pub const FINE: (&str, &str) = ("", "");

const fn mapping(from: &'static str, to: &'static str, says: &'static [&'static str]) -> Wrong {
    Wrong {
        legacy: FINE,
        new: FINE,
        mapping: (from, to),
        says,
    }
}

const fn legacy(from: &'static str, to: &'static str, says: &'static [&'static str]) -> Wrong {
    Wrong {
        legacy: (from, to),
        new: FINE,
        mapping: FINE,
        says,
    }
}

const fn new(from: &'static str, to: &'static str, says: &'static [&'static str]) -> Wrong {
    Wrong {
        legacy: FINE,
        new: (from, to),
        mapping: FINE,
        says,
    }
}

/// Wrong on both engines.
pub const WRONG: &[Wrong] = &[
    mapping(
        "revision = 1",
        "revision = 1\nrevison = 2",
        &["revison", "unknown field", "expected one of"],
    ),
    mapping(
        "table = \"items\"",
        "table = \"itmes\"",
        &["root.table", "\"itmes\"", "create the table"],
    ),
    mapping(
        "table = \"items\"",
        "table = \"\"",
        &["root.table", "is not a name", "write the name"],
    ),
    mapping(
        "table = \"bits\"",
        "table = \"bitz\"",
        &["target \"bit\".table", "\"bitz\"", "create the table"],
    ),
    mapping(
        "key = [\"id\"] }\nsource",
        "key = [\"idd\"] }\nsource",
        &["root.key", "no column \"idd\"", "add the column"],
    ),
    mapping(
        "key = [\"id\"] }\nsource",
        "key = [\"ID\"] }\nsource",
        &["root.key", "did you mean \"id\""],
    ),
    mapping(
        "{ key = [\"item_id\"] }",
        "{ key = [\"itemid\"] }",
        &["source.parts.key", "no column \"itemid\""],
    ),
    mapping(
        "{ key = [\"item_id\"] }",
        "{ keys = \"SELECT id FROM itms WHERE id = $row.item_id\" }",
        &["source.parts.keys", "itms", "correct"],
    ),
    mapping(
        "{ key = [\"item_id\"] }",
        "{ keys = \"SELECT id, id FROM items WHERE id = $row.item_id\" }",
        &[
            "source.parts.keys",
            "2 column(s)",
            "one column per component",
        ],
    ),
    mapping(
        "{ key = [\"item_id\"] }",
        "{ keys = \"SELECT id FROM items WHERE id = $row.item_id; DROP TABLE parts\" }",
        &["source.parts.keys", "';'", "one SELECT"],
    ),
    mapping(
        "label = \"label\"",
        "lable = \"label\"",
        &["target \"bit\".columns", "no column \"lable\""],
    ),
    mapping(
        "table = \"kinds\"\nshared_by = [\"kind\"]\nid = \"id\"",
        "table = \"kinds\"\nshared_by = [\"kind\"]\nid = \"idd\"",
        &["target \"kind\".id", "no column \"idd\""],
    ),
    mapping(
        "by = \"code\"",
        "by = \"cod\"",
        &["lookup.maker", "no column \"cod\""],
    ),
    // Expressions.
    mapping(
        "price = \"price\"",
        "price = \"prize\"",
        &[
            "target \"thing\".columns.price",
            "prize",
            "correct the expression",
        ],
    ),
    mapping(
        "price = \"price\"",
        "price = '\"prize\"'",
        &[
            "target \"thing\".columns.price",
            "prize",
            "correct the expression",
        ],
    ),
    mapping(
        "price = \"price\"",
        "price = \"price); DELETE FROM items; --\"",
        &["target \"thing\".columns.price", "one SQL expression"],
    ),
    mapping(
        "price = \"price\"",
        "price = \"price --\"",
        &["target \"thing\".columns.price", "comment"],
    ),
    mapping(
        "price = \"price\"",
        "price = \"$1\"",
        &["target \"thing\".columns.price", "parameters", "literals"],
    ),
    mapping(
        "by = \"maker\" }",
        "by = \"makr\" }",
        &[
            "target \"thing\".columns.maker_id.by",
            "makr",
            "correct the expression",
        ],
    ),
    mapping(
        "from = \"parts\"",
        "from = \"partz\"",
        &["target \"bit\".from", "partz", "after FROM"],
    ),
    mapping(
        "slot = \"id\"",
        "slot = \"idd\"",
        &["target \"bit\".columns.slot", "idd"],
    ),
    mapping(
        "key = [\"item_id\"]\nslot",
        "key = [\"nope\"]\nslot",
        &["target \"bit\".key", "nope"],
    ),
    mapping(
        "key = [\"item_id\"]\nslot",
        "key = [\"item_id\"]\nwhere = \"nope\"\nslot",
        &["target \"bit\".where", "nope"],
    ),
    // Keys.
    legacy(
        "items (id bigint PRIMARY KEY NOT NULL",
        "items (id bigint NOT NULL",
        &["root.key", "unique", "add a unique index"],
    ),
    legacy(
        "items (id bigint PRIMARY KEY NOT NULL",
        "items (id bigint UNIQUE",
        &["root.key", "may be NULL", "declare it NOT NULL"],
    ),
    Wrong {
        legacy: (
            "items (id bigint PRIMARY KEY NOT NULL, name text, price decimal(10,2), maker text, made timestamp);",
            "items (id bigint NOT NULL, name text, price decimal(10,2), maker text, made timestamp); INSERT INTO items (id) VALUES (7), (7), (8), (8), (8);",
        ),
        new: FINE,
        mapping: FINE,
        says: &[
            "root.key",
            "2 key(s) stand more than once",
            "remove the duplicates",
        ],
    },
    legacy(
        "items (id bigint PRIMARY",
        "items (id double precision PRIMARY",
        &["root.key", "\"id\"", "name another key"],
    ),
    legacy(
        "item_id bigint NOT NULL",
        "item_id text NOT NULL",
        &[
            "source.parts.key",
            "\"item_id\"",
            "two texts",
            "declare both alike",
        ],
    ),
    // The new tables.
    new(
        "note text)",
        "note text NOT NULL)",
        &["target \"thing\".columns", "\"note\"", "give it a default"],
    ),
    new(
        "CREATE INDEX bits_of ON bits (thing_id);",
        "",
        &["target \"bit\".owned_by", "no index of bits", "add one"],
    ),
    new(
        "legacy_id bigint NOT NULL UNIQUE",
        "legacy_id bigint NOT NULL",
        &["target \"thing\".owned_by", "no index of things", "add one"],
    ),
    new(
        "kind text NOT NULL UNIQUE",
        "kind text NOT NULL",
        &[
            "target \"kind\"",
            "nothing keeps (kind) unique in kinds",
            "add a unique index",
        ],
    ),
    new(
        "kind text NOT NULL UNIQUE",
        "kind text UNIQUE",
        &["target \"kind\"", "may be NULL", "declare it NOT NULL"],
    ),
    new(
        "code text NOT NULL UNIQUE",
        "code text NOT NULL",
        &[
            "lookup.maker.by",
            "nothing keeps \"code\" unique",
            "add a unique index",
        ],
    ),
    new(
        "bits (id {id}",
        "bits (id bigint NOT NULL PRIMARY KEY",
        &["target \"bit\".id", "generates no ids", "identity"],
    ),
    new(
        "kinds (id {id}",
        "kinds (id bigint NOT NULL PRIMARY KEY",
        &["target \"kind\"", "\"id\""],
    ),
    new(
        "kinds (id {id}",
        "kinds (id bigint UNIQUE",
        &["target \"kind\".id", "generates no ids", "identity"],
    ),
    new(
        "bigint REFERENCES kinds (id)",
        "bigint REFERENCES kinds (id) ON DELETE CASCADE",
        &["target \"thing\".table", "rows of kinds go", "NO ACTION"],
    ),
    new(
        "INSERT INTO makers",
        "CREATE TABLE reviews (id {id}, thing_id bigint REFERENCES things ON DELETE CASCADE); INSERT INTO makers",
        &["target \"thing\".table", "rows of reviews", "NO ACTION"],
    ),
    new(
        "price decimal(10,2),",
        "price decimal(10,2) GENERATED ALWAYS AS (1.5) STORED,",
        &["target \"thing\".columns.price", "computes", "leave it out"],
    ),
    mapping(
        "id = \"id\"\n[target.columns]\nlegacy_id",
        "id = \"legacy_id\"\n[target.columns]\nlegacy_id",
        &["target \"thing\".id", "is mapped", "identity = "],
    ),
    mapping(
        "thing_id = { row = \"thing\" }\n",
        "",
        &[
            "target \"bit\".owned_by",
            "\"thing_id\"",
            "not among the columns",
        ],
    ),
];

/// Wrong on SQLite alone: collations, and columns without a type.
pub const WRONG_SQLITE: &[Wrong] = &[
    legacy(
        "items (id bigint PRIMARY",
        "items (id text COLLATE NOCASE PRIMARY",
        &["root.key", "\"id\"", "differ for equal", "BINARY"],
    ),
    legacy(
        "items (id bigint PRIMARY",
        "items (id text COLLATE RTRIM PRIMARY",
        &["root.key", "\"id\"", "differ for equal", "BINARY"],
    ),
    legacy(
        "item_id bigint NOT NULL",
        "item_id bigint COLLATE NOCASE NOT NULL",
        &["source.parts.key", "\"item_id\"", "differ for equal"],
    ),
    legacy(
        "item_id bigint NOT NULL",
        "item_id NOT NULL",
        &["source.parts.key", "\"item_id\"", "two texts"],
    ),
    new(
        "legacy_id bigint NOT NULL",
        "legacy_id bigint COLLATE NOCASE NOT NULL",
        &["target \"thing\".owned_by", "\"legacy_id\"", "BINARY"],
    ),
];

/// Wrong on PostgreSQL alone: collations under which texts that differ are equal, `citext`, and
/// tables that inherit.
pub const WRONG_POSTGRES: &[Wrong] = &[
    legacy(
        "\nCREATE TABLE items (id bigint PRIMARY",
        "\nCREATE COLLATION lax (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE items (id text COLLATE lax PRIMARY",
        &["root.key", "\"id\"", "differ for equal", "deterministic"],
    ),
    legacy(
        "\nCREATE TABLE items (id bigint PRIMARY",
        "\nCREATE COLLATION forms (provider = icu, locale = 'und', deterministic = false); CREATE TABLE items (id text COLLATE forms PRIMARY",
        &["root.key", "\"id\"", "differ for equal"],
    ),
    legacy(
        "\nCREATE TABLE items (id bigint PRIMARY",
        "\nCREATE EXTENSION citext; CREATE TABLE items (id citext PRIMARY",
        &["root.key", "\"id\"", "differ for equal", "text for citext"],
    ),
    legacy(
        "item_id bigint NOT NULL",
        "item_id numeric NOT NULL",
        &["source.parts.key", "\"item_id\"", "two texts"],
    ),
    legacy(
        "CREATE TABLE parts",
        "CREATE TABLE old_items () INHERITS (items); CREATE TABLE parts",
        &["root.table", "old_items", "NO INHERIT"],
    ),
    legacy(
        "item_id bigint NOT NULL, label text);",
        "item_id bigint NOT NULL, label text); CREATE TABLE old_parts () INHERITS (parts);",
        &["source.parts", "old_parts", "NO INHERIT"],
    ),
    new(
        "CREATE INDEX bits_of",
        "CREATE TABLE more_bits () INHERITS (bits); CREATE INDEX bits_of",
        &["target \"bit\".table", "more_bits", "NO INHERIT"],
    ),
];

/// Wrong on PostgreSQL alone, whose columns refuse values by type.
pub const WRONG_TYPES: &[Wrong] = &[
    mapping(
        "price = \"price\"",
        "price = \"made\"",
        &[
            "target \"thing\".columns.price",
            "TIMESTAMP",
            "numeric",
            "convert it in the expression",
        ],
    ),
    mapping(
        "table = \"items\"",
        "table = \"a.b.c\"",
        &["root.table", "a.b.c", "correct the name"],
    ),
    mapping(
        "table = \"items\"",
        "table = \"nowhere.items\"",
        &["root.table", "nowhere.items", "correct the name"],
    ),
    legacy(
        "CREATE TABLE parts",
        "CREATE VIEW seen AS SELECT * FROM items; CREATE TABLE parts",
        &[],
    ),
    new(
        "legacy_id bigint NOT NULL UNIQUE,",
        "legacy_id bigint NOT NULL UNIQUE DEFERRABLE,",
        &["owned_by", "things"],
    ),
];
