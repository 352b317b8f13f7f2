//! One TOML file per entity, which a person on call may edit.
//!
//! ```toml
//! format = 1
//! entity = "listings"
//! # Optional: keys that are excepted from read_new, and percentages of single operations.
//! always_new.routed_by = ["test-tenant"]
//! never_new.keys = ["42"]
//! operations.get = { read_new = 50.0 }
//! read_new = 25.0
//! sample = 1.0
//! kill = false          # true, or a reason in quotes
//!
//! [learnt]              # what the database said last; an edit is not taken from here
//! epoch = 3
//! stage = "dual-write"
//! revision = 1
//! base = 0
//! ready = true
//! ```
//!
//! 1. It is replaced whole: a temporary file in the same directory, synced, renamed over it, and
//!    the directory synced. A crash leaves the old file or the new one.
//! 2. Every other key above `[learnt]` is required, an unknown key is an error, and both name the key:
//!    half a file never passes for a whole one. Of a wrong one of this entity that is TOML, of another format
//!    too, a kill is taken, nothing else. What is wrong is said without the keys that stand there.
//! 3. The mode of the file is kept; comments are not.
//!
//! Not promised: two processes saving in the same instant. Each looks at the file before it
//! replaces it, but nothing locks it in between. Give each instance its own directory.

mod mistake;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use super::{Kill, Learnt, Saved, Store, StoreError};
use crate::{Entity, Exceptions, KeyList, Percent, Shares, Stage, Version};

use mistake::Mistake;

/// The format this release writes and reads.
const FORMAT: i64 = 1;

/// Far above what a file can need; a larger one is not ours.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Keeps the flags of one entity in `<directory>/<entity>.toml`.
///
/// Both operations block on the file system: on an async runtime's thread call them, and the
/// changes of [`Flags`](crate::Flags) that lead here, through a blocking task if the disk is slow.
#[derive(Debug, Clone)]
pub struct FileStore {
    directory: PathBuf,
    entity: Entity,
}

impl FileStore {
    /// A store in an existing directory. Nothing is read or written yet.
    pub fn new(directory: impl Into<PathBuf>, entity: &Entity) -> FileStore {
        FileStore {
            directory: directory.into(),
            entity: entity.clone(),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.toml", self.entity))
    }

    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    fn parse(&self, path: PathBuf, text: &str) -> Result<Saved, StoreError> {
        let malformed = |source: Box<dyn Error + Send + Sync>| StoreError::Malformed {
            path: path.clone(),
            source,
            kill: self.kill_of(text),
        };
        if text.len() as u64 > MAX_BYTES {
            return Err(malformed(
                format!("it is larger than {MAX_BYTES} bytes").into(),
            ));
        }
        let mistaken = |error: toml::de::Error| malformed(Mistake::of(&error, text).into());
        // The format first: a file of another format would otherwise fail with an unknown key.
        let head = toml::from_str::<Head>(text).map_err(mistaken)?;
        let found = head.format;
        if found != FORMAT {
            return Err(StoreError::Format {
                kill: self.kill_of(text),
                path,
                found,
                expected: FORMAT,
            });
        }
        let written: Written = toml::from_str(text).map_err(mistaken)?;
        if written.entity != self.entity.as_str() {
            return Err(StoreError::WrongEntity {
                path,
                found: written.entity,
                expected: self.entity.clone(),
            });
        }
        if written.operations.len() > Exceptions::MAX_OPERATIONS {
            return Err(malformed(
                format!("more than {} operations", Exceptions::MAX_OPERATIONS).into(),
            ));
        }
        Ok(written.into())
    }

    /// The kill of a file of this entity, whatever else is wrong with it.
    fn kill_of(&self, text: &str) -> Option<Kill> {
        let thrown: Thrown = toml::from_str(text).ok()?;
        (thrown.entity == self.entity.as_str()).then_some(thrown.kill.0)?
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut name = OsString::from(format!(".{}.toml.", self.entity));
        name.push(format!("{}.tmp", std::process::id()));
        let temporary = self.directory.join(name);
        let written = write_synced(&temporary, path, text)
            .and_then(|()| fs::rename(&temporary, path))
            .inspect_err(|_| {
                // Best effort: what is left behind is overwritten by the next try.
                let _ = fs::remove_file(&temporary);
            });
        // Without this the rename itself may be lost with the machine.
        written.and_then(|()| sync_directory(&self.directory))
    }
}

impl Store for FileStore {
    fn load(&self) -> Result<Option<Saved>, StoreError> {
        let path = self.path();
        match self.read(&path) {
            Ok(Some(text)) => self.parse(path, &text).map(Some),
            // Otherwise a mistyped directory would look like a first start.
            Ok(None) if !self.directory.is_dir() => Err(StoreError::NoDirectory {
                path: self.directory.clone(),
            }),
            Ok(None) => Ok(None),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                let (source, kill) = (source.into(), None);
                Err(StoreError::Malformed { path, source, kill })
            }
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        let path = self.path();
        let text = render(&self.entity, saved);
        self.replace(&path, &text)
            .map_err(|source| StoreError::Write { path, source })
    }
}

fn write_synced(temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    if let Ok(old) = fs::metadata(path) {
        // People on call may edit it because of its mode.
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A directory cannot be opened as a file here; the rename is as durable as the system makes it.
#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Written by hand rather than by serde, for the comments: who edits it has no manual open.
fn render(entity: &Entity, saved: &Saved) -> String {
    let kill = match &saved.kill {
        Some(kill) => quoted(&kill.reason),
        None => "false".to_owned(),
    };
    let Exceptions {
        always_new,
        never_new,
        operations,
    } = &*saved.exceptions;
    let mut text = format!(
        "\
# Flags of {entity}. Edit up to [learnt]; a reload takes it up, without any database.
format = {FORMAT}
entity = \"{entity}\"

# Keys that are excepted from read_new, by their own text or by what their reads are routed by: always
# or never read from new. Never beats always; a kill, or a key that is not copied yet, beats both.
always_new.keys = {always_keys}
always_new.routed_by = {always_routed_by}
never_new.keys = {never_keys}
never_new.routed_by = {never_routed_by}
{operations}
# Percent of keys whose reads the new side answers: 0 to 100, two decimals at most.
# Above 0 is refused until a backfill and a clean verify are recorded.
read_new = {read_new:?}

# Percent of reads that are also compared.
sample = {sample:?}

# true, or a reason in quotes: every read goes to the authority, none is compared.
# false: back to read_new.
kill = {kill}
",
        always_keys = texts(always_new.keys()),
        always_routed_by = texts(always_new.routed_by()),
        never_keys = texts(never_new.keys()),
        never_routed_by = texts(never_new.routed_by()),
        operations = shares(operations),
        read_new = saved.read_new.as_f64(),
        sample = saved.sample.as_f64(),
    );
    if let Some(learnt) = &saved.learnt {
        text.push_str(&format!(
            "
# What the database said last. Not for editing: the database decides.
[learnt]
epoch = {epoch}
stage = \"{stage}\"
revision = {revision}
base = {base}
ready = {ready}
",
            epoch = learnt.epoch,
            stage = learnt.stage,
            revision = learnt.revision,
            base = learnt.base,
            ready = learnt.ready,
        ));
    }
    text
}

fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.map(quoted).collect();
    format!("[{}]", quoted.join(", "))
}

/// Above the keys that a file must have, as the lists are: a torn file must not pass for one without.
fn shares(operations: &BTreeMap<String, Shares>) -> String {
    let mut text = String::new();
    for (operation, shares) in operations {
        let share = |name: &str, share: Option<Percent>| {
            share.map(|share| format!("{name} = {:?}", share.as_f64()))
        };
        let shares = [
            share("read_new", shares.read_new),
            share("sample", shares.sample),
        ];
        let shares: Vec<String> = shares.into_iter().flatten().collect();
        let (operation, shares) = (quoted(operation), shares.join(", "));
        text.push_str(&format!("operations.{operation} = {{ {shares} }}\n"));
    }
    if text.is_empty() {
        text.push_str(
            "# Percentages of one operation: operations.name = { read_new = 50.0, sample = 5.0 }\n",
        );
    }
    text
}

/// A TOML string on one line, which an editor of the file keeps whole, as does a torn read: the
/// form over several lines has beginnings that are strings themselves.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[derive(Deserialize)]
struct Head {
    format: i64,
}

#[derive(Deserialize)]
struct Thrown {
    entity: String,
    kill: WrittenKill,
}

/// The file as it is typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "format")]
    _format: i64,
    entity: String,
    #[serde(default)]
    always_new: KeyList,
    #[serde(default)]
    never_new: KeyList,
    #[serde(default)]
    operations: BTreeMap<String, Shares>,
    read_new: Percent,
    sample: Percent,
    kill: WrittenKill,
    learnt: Option<WrittenLearnt>,
}

// No prefix of `ready = true` or `ready = false` is valid, so keep it last: a torn table is seen.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLearnt {
    epoch: i64,
    stage: Stage,
    revision: i64,
    base: i64,
    ready: bool,
}

/// `false`, `true`, or a reason.
struct WrittenKill(Option<Kill>);

impl<'de> Deserialize<'de> for WrittenKill {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WrittenKill, D::Error> {
        struct Typed;

        impl Visitor<'_> for Typed {
            type Value = WrittenKill;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a reason in quotes")
            }

            fn visit_bool<E>(self, thrown: bool) -> Result<WrittenKill, E> {
                Ok(WrittenKill(thrown.then(|| {
                    Kill::new("thrown in the flags file, no reason given")
                })))
            }

            // Even an empty reason is a kill: who typed quotes meant to throw it.
            fn visit_str<E>(self, reason: &str) -> Result<WrittenKill, E> {
                Ok(WrittenKill(Some(Kill::new(reason))))
            }
        }

        deserializer.deserialize_any(Typed)
    }
}

impl From<Written> for Saved {
    fn from(written: Written) -> Saved {
        Saved {
            read_new: written.read_new,
            sample: written.sample,
            exceptions: Arc::new(Exceptions {
                always_new: written.always_new,
                never_new: written.never_new,
                operations: written.operations,
            }),
            kill: written.kill.0,
            learnt: written.learnt.map(|learnt| Learnt {
                stage: learnt.stage,
                epoch: learnt.epoch,
                revision: learnt.revision,
                base: Version(learnt.base),
                ready: learnt.ready,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
