//! Fields of a mapping that say something impossible: each error names its field and the remedy.

use std::sync::Arc;

use changeover::flags::Key;
use changeover::worker::image::Image;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::mapping::{Mapping, MappingError, Shape, SourceRows};

use super::stand::{LEGACY, MAPPING, NEW, Stand, both_engines, spoil, usual_mapping};

/// One thing wrong: in the old schema, in the new one, in the mapping; and what the error says.
struct Wrong {
    legacy: (&'static str, &'static str),
    new: (&'static str, &'static str),
    mapping: (&'static str, &'static str),
    says: &'static [&'static str],
}

const FINE: (&str, &str) = ("", "");

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
const WRONG: &[Wrong] = &[
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

/// Wrong on PostgreSQL alone, whose columns refuse values by type.
const WRONG_TYPES: &[Wrong] = &[
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

both_engines!(
    every_field,
    both_sides_the_same_table,
    mappings_that_panic,
    nothing_is_wrong
);

mod scenario {
    use super::*;

    pub(super) async fn every_field(postgres: bool) {
        let mut wrong: Vec<&Wrong> = WRONG.iter().collect();
        if postgres {
            wrong.extend(&WRONG_TYPES[..3]);
        }
        for wrong in wrong {
            let stand = Stand::start(
                postgres,
                &spoil(LEGACY, wrong.legacy),
                &spoil(NEW, wrong.new),
            )
            .await;
            let before = stand.census().await;
            let mapping = spoil(MAPPING, wrong.mapping);
            let change = (wrong.legacy, wrong.new, wrong.mapping);
            let error = stand
                .open(&mapping)
                .await
                .err()
                .unwrap_or_else(|| panic!("{change:?} is taken for good"));
            for word in wrong.says {
                assert!(
                    error.contains(word),
                    "{change:?}\n  does not say {word:?}:\n{error}"
                );
            }
            assert_eq!(stand.census().await, before, "{change:?} wrote something");
        }
    }

    pub(super) async fn nothing_is_wrong(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let before = stand.census().await;
        stand.open(MAPPING).await.unwrap();
        assert_eq!(stand.census().await, before, "opening wrote something");
    }

    pub(super) async fn both_sides_the_same_table(postgres: bool) {
        let stand = Stand::start(
            postgres,
            &format!("{LEGACY}{NEW}"),
            "CREATE TABLE other (id bigint)",
        )
        .await;
        let before = stand.census().await;
        let mapping = spoil(
            MAPPING,
            (
                "table = \"things\"\nowned_by = { key = [\"legacy_id\"] }\nid = \"id\"",
                "table = \"items\"\nowned_by = { key = [\"id\"] }\nidentity = [\"id\"]",
            ),
        );
        let mapping = spoil(
            &mapping,
            (
                "legacy_id = \"id\"\nname = \"name\"\nprice = \"price\"\nmaker_id = { lookup = \"maker\", by = \"maker\" }\nkind_id = { row = \"kind\" }",
                "id = \"id\"",
            ),
        );
        let end = mapping.find("[[target]]\nname = \"bit\"").unwrap();
        let mapping = &mapping[..end];
        let mut others = vec![(stand.legacy_url.clone(), mapping.to_owned())];
        if postgres {
            // The same server by another name, the same table by another name.
            others.push((
                stand.legacy_url.replace("127.0.0.1", "localhost"),
                mapping.to_owned(),
            ));
            others.push((
                stand.legacy_url.clone(),
                spoil(
                    mapping,
                    (
                        "table = \"items\"\nowned_by",
                        "table = \"public.items\"\nowned_by",
                    ),
                ),
            ));
        }
        for (url, mapping) in others {
            let mapping = Arc::new(mapping.parse::<TomlMapping>().unwrap());
            let error = super::super::stand::open(&stand.legacy_url, &url, mapping)
                .await
                .expect_err("one table");
            assert!(
                error.contains("target \"thing\".table")
                    && error.contains("both sides")
                    && error.contains("name the new table"),
                "{error}"
            );
        }
        assert_eq!(stand.census().await, before);
    }

    pub(super) async fn mappings_that_panic(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let before = stand.census().await;
        for (when, says) in [
            (When::Rows, "panicked on key \"1\""),
            (When::NoRows, "panicked on a key of items without rows"),
        ] {
            let mapping = Panics {
                inner: usual_mapping(),
                when,
            };
            let error = stand
                .open_with(Arc::new(mapping))
                .await
                .expect_err("a mapping that panics");
            assert!(
                error.contains("mapping: ") && error.contains(says) && error.contains("answer"),
                "{error}"
            );
        }
        assert_eq!(stand.census().await, before);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum When {
    Rows,
    NoRows,
}

struct Panics {
    inner: Arc<dyn Mapping>,
    when: When,
}

impl Mapping for Panics {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn image(&self, key: &Key, rows: &SourceRows) -> Result<Image, MappingError> {
        let found = if rows.queries.iter().all(Vec::is_empty) {
            When::NoRows
        } else {
            When::Rows
        };
        assert!(found != self.when, "a mapping's own bug");
        self.inner.image(key, rows)
    }
}

/// A view has no row triggers, and a deferrable constraint is no arbiter of conflicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_views_and_deferrable_constraints() {
    let view = &WRONG_TYPES[3];
    let stand = Stand::start(true, &spoil(LEGACY, view.legacy), NEW).await;
    let error = stand
        .open(&spoil(MAPPING, ("table = \"items\"", "table = \"seen\"")))
        .await
        .expect_err("a view");
    assert!(
        error.contains("root.table") && error.contains("a view is none"),
        "{error}"
    );
    let deferrable = &WRONG_TYPES[4];
    let stand = Stand::start(true, LEGACY, &spoil(NEW, deferrable.new)).await;
    let mapping = spoil(
        MAPPING,
        (
            "id = \"id\"\n[target.columns]\nlegacy_id",
            "identity = [\"legacy_id\"]\n[target.columns]\nlegacy_id",
        ),
    );
    let end = mapping.find("[[target]]\nname = \"bit\"").unwrap();
    let error = stand.open(&mapping[..end]).await.expect_err("deferrable");
    assert!(
        error.contains("nothing keeps (legacy_id) unique"),
        "{error}"
    );
}
