//! Fields of a mapping that say something impossible: each error names its field and the remedy.

use std::sync::Arc;

use changeover::flags::Key;
use changeover::worker::image::Image;
use changeover::worker::mapping::toml::TomlMapping;
use changeover::worker::mapping::{Mapping, MappingError, Shape, SourceRows};

use super::stand::{LEGACY, MAPPING, NEW, Stand, both_engines, spoil, usual_mapping};
use super::wrong::{FINE, WRONG, WRONG_POSTGRES, WRONG_SQLITE, WRONG_TYPES, Wrong};

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
            wrong.extend(WRONG_POSTGRES);
        } else {
            wrong.extend(WRONG_SQLITE);
        }
        let usual = Stand::usual(postgres).await;
        for wrong in wrong {
            let own;
            let stand = if wrong.legacy == FINE && wrong.new == FINE {
                &usual
            } else {
                let (legacy, new) = (spoil(LEGACY, wrong.legacy), spoil(NEW, wrong.new));
                own = Stand::start(postgres, &legacy, &new).await;
                &own
            };
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
