//! Names of triggers and procedures, at most 64 characters long.
//!
//! They name the table and not its number in the mapping: a trigger is replaced where it is, and the
//! mapping that a raise replaces keeps its own until the raise is done.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// Longer entities are cut and told apart by a hash.
const ENTITY: usize = 24;

/// What every trigger of an entity's side begins with.
pub(super) fn prefix(kind: &str, place: &str, entity: &str) -> String {
    let entity = if entity.len() <= ENTITY {
        entity.to_owned()
    } else {
        let cut: String = entity.chars().take(ENTITY - 9).collect();
        format!("{cut}_{}", hash(entity))
    };
    format!("changeover_{kind}_{place}_{entity}_")
}

/// What stands for a table in a name.
pub(super) fn of_table(table: &str) -> String {
    hash(table)
}

fn hash(text: &str) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(text.as_bytes());
    format!("{:08x}", hasher.finish() >> 32)
}

/// Whether `name` is `prefix`, a table, and nothing more than an event: entity `a` must not take the
/// triggers of entity `a_1` for its own.
pub(super) fn is_of(name: &str, prefix: &str) -> bool {
    let Some((table, event)) = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.split_at_checked(8))
    else {
        return false;
    };
    table.bytes().all(|byte| byte.is_ascii_hexdigit())
        && matches!(event, "" | "_insert" | "_update" | "_delete")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_takes_its_own_objects_alone() {
        let name = |entity: &str| {
            format!(
                "{}{}_insert",
                prefix("stamp", "legacy", entity),
                of_table("listings")
            )
        };
        let a = prefix("stamp", "legacy", "a");
        assert!(is_of(&name("a"), &a));
        assert!(!is_of(&name("a_1"), &a) && !is_of(&name("a_12345678"), &a));
        assert!(!is_of("changeover_stamp_legacy_a_", &a));
    }

    #[test]
    fn a_name_is_never_longer_than_the_server_takes() {
        let long = "e".repeat(200);
        for (kind, event) in [("stamp", "_insert"), ("dependants", "")] {
            let name = format!(
                "{}{}{event}",
                prefix(kind, "legacy", &long),
                of_table(&long)
            );
            assert!(name.len() <= 64, "{name}");
        }
        assert_ne!(
            prefix("stamp", "new", &long),
            prefix("stamp", "new", &"e".repeat(201))
        );
    }
}
