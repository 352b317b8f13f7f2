//! Field paths: how a field inside a value is named in rules, diffs and evidence.
//!
//! The segments of a path are joined by `.`; a segment is a field's name or the number of a list's
//! item, from 0. In a rule a segment `*` stands for any one of either, and `**` for any number of them,
//! none included. Inside a name `\`, `.` and `*` are written with a `\` before them, and the empty name is written `\e`. The empty path is the
//! root.

use std::fmt::{self, Write as _};

use crate::{BadRule, MAX_DEPTH};

/// One step down a real value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    Field(&'a str),
    Index(usize),
}

/// The text of a path, escaped so that it can be pasted into a rule.
pub(crate) fn join(segments: &[Segment<'_>]) -> String {
    let mut text = String::new();
    for (position, segment) in segments.iter().enumerate() {
        if position > 0 {
            text.push('.');
        }
        match segment {
            Segment::Field(name) => push_escaped(&mut text, name),
            Segment::Index(index) => {
                write!(text, "{index}").expect("writing to a String cannot fail");
            }
        }
    }
    text
}

fn push_escaped(text: &mut String, name: &str) {
    if name.is_empty() {
        text.push_str(r"\e");
    }
    for c in name.chars() {
        if matches!(c, '\\' | '.' | '*') {
            text.push('\\');
        }
        text.push(c);
    }
}

/// A rule's path as it is written.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (position, step) in self.0.iter().enumerate() {
            if position > 0 {
                text.push('.');
            }
            match step {
                Step::Any => text.push('*'),
                Step::AnyDepth => text.push_str("**"),
                Step::Name(name, _) => push_escaped(&mut text, name),
            }
        }
        f.write_str(&text)
    }
}

/// One step of a rule's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Any,
    /// Any number of steps.
    AnyDepth,
    /// A field's name, and the item's number it can also mean.
    Name(String, Option<usize>),
}

impl Step {
    fn name(name: String) -> Step {
        // Only the plain spelling: "07" and "+7" are names.
        let index = name
            .parse()
            .ok()
            .filter(|index: &usize| index.to_string() == name);
        Step::Name(name, index)
    }

    pub(crate) fn matches(&self, segment: Segment<'_>) -> bool {
        match (self, segment) {
            (Step::Any | Step::AnyDepth, _) => true,
            (Step::Name(name, _), Segment::Field(field)) => name == field,
            (Step::Name(_, index), Segment::Index(item)) => *index == Some(item),
        }
    }
}

/// The path of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Step>);

impl Pattern {
    pub(crate) fn parse(path: &str) -> Result<Pattern, BadRule> {
        if path.is_empty() {
            return Err(BadRule::EmptyPath);
        }
        let steps = split(path).into_iter().map(|segment| step(segment, path));
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        if steps.len() > MAX_DEPTH {
            return Err(BadRule::TooDeep {
                path: path.to_owned(),
            });
        }
        Ok(Pattern(steps))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this names exactly the field at `segments`.
    pub(crate) fn matches(&self, segments: &[Segment<'_>]) -> bool {
        reaches(
            &self.0,
            segments,
            |step, segment| step.matches(*segment),
            <[_]>::is_empty,
        )
    }

    /// Whether this names the field at `segments` or one that holds it.
    pub(crate) fn matches_start_of(&self, segments: &[Segment<'_>]) -> bool {
        reaches(
            &self.0,
            segments,
            |step, segment| step.matches(*segment),
            |_| true,
        )
    }

    /// Whether every field that `other` names is named by this, or lies inside one that is.
    pub(crate) fn covers(&self, other: &Pattern) -> bool {
        let covers = |step: &Step, other: &Step| match (step, other) {
            (Step::AnyDepth, _) => true,
            (_, Step::AnyDepth) => false,
            (step, other) => *step == Step::Any || step == other,
        };
        reaches(&self.0, &other.0, covers, |_| true)
    }

    /// Whether some step is a name.
    pub(crate) fn names_a_field(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Name(..)))
    }

    pub(crate) fn has_any_depth(&self) -> bool {
        self.0.contains(&Step::AnyDepth)
    }

    pub(crate) fn ends_in_wildcard(&self) -> bool {
        self.0.last() == Some(&Step::Any)
    }

    pub(crate) fn wildcards(&self) -> usize {
        self.0.iter().filter(|step| **step == Step::Any).count()
    }

    /// The text with every number replaced by `*`: one text for the items of a list.
    pub(crate) fn without_numbers(&self) -> String {
        let mut text = String::new();
        for (position, step) in self.0.iter().enumerate() {
            if position > 0 {
                text.push('.');
            }
            match step {
                Step::Any | Step::Name(_, Some(_)) => text.push('*'),
                Step::AnyDepth => text.push_str("**"),
                Step::Name(name, None) => push_escaped(&mut text, name),
            }
        }
        text
    }
}

/// Walks down `path` by `steps`, of which an [`Step::AnyDepth`] may take any number; `end` says whether
/// the rest of the path may be left when the steps are used up. Only the last such step is ever taken
/// up again, so it takes time in the product of both lengths at most.
fn reaches<T>(
    steps: &[Step],
    path: &[T],
    fits: impl Fn(&Step, &T) -> bool,
    end: impl Fn(&[T]) -> bool,
) -> bool {
    let (mut steps_left, mut path_left) = (steps, path);
    let mut again: Option<(&[Step], &[T])> = None;
    loop {
        match (steps_left, path_left) {
            ([], rest) if end(rest) => return true,
            ([Step::AnyDepth, rest @ ..], path) => {
                again = Some((rest, path));
                steps_left = rest;
                continue;
            }
            ([step, steps @ ..], [segment, path @ ..]) if fits(step, segment) => {
                (steps_left, path_left) = (steps, path);
                continue;
            }
            _ => {}
        }
        match again {
            Some((steps, [_, path @ ..])) => {
                again = Some((steps, path));
                (steps_left, path_left) = (steps, path);
            }
            _ => return false,
        }
    }
}

/// The field that a reported path is counted under: one for all items of a list.
pub(crate) fn field_of(path: &str) -> String {
    Pattern::parse(path).map_or_else(|_| path.to_owned(), |path| path.without_numbers())
}

/// The raw segments, cut at each `.` that no `\` stands before.
fn split(path: &str) -> Vec<&str> {
    let mut escaped = false;
    path.split(|c| {
        let cut = c == '.' && !escaped;
        escaped = c == '\\' && !escaped;
        cut
    })
    .collect()
}

fn step(segment: &str, path: &str) -> Result<Step, BadRule> {
    match segment {
        "" => {
            return Err(BadRule::EmptySegment {
                path: path.to_owned(),
            });
        }
        "*" => return Ok(Step::Any),
        "**" => return Ok(Step::AnyDepth),
        r"\e" => return Ok(Step::name(String::new())),
        _ => {}
    }
    let mut name = String::new();
    let mut chars = segment.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                return Err(BadRule::PartialWildcard {
                    path: path.to_owned(),
                });
            }
            '\\' => match chars.next() {
                Some(c @ ('\\' | '.' | '*')) => name.push(c),
                _ => {
                    return Err(BadRule::BadEscape {
                        path: path.to_owned(),
                    });
                }
            },
            c => name.push(c),
        }
    }
    Ok(Step::name(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reported_path_is_a_rule_for_that_field_alone(
            names in proptest::collection::vec(r"[a.*\\e]{0,3}", 1..4),
            others in proptest::collection::vec(r"[a.*\\e]{0,3}", 1..4),
        ) {
            let segments: Vec<_> = names.iter().map(|name| Segment::Field(name)).collect();
            let other: Vec<_> = others.iter().map(|name| Segment::Field(name)).collect();
            let pattern = Pattern::parse(&join(&segments)).expect("joined paths parse");
            prop_assert!(pattern.matches(&segments));
            prop_assert_eq!(pattern.matches(&other), names == others);
        }
    }

    #[test]
    fn wildcards_stand_for_one_segment() {
        let pattern = Pattern::parse("lines.*.price").expect("a path");
        let path = [
            Segment::Field("lines"),
            Segment::Index(3),
            Segment::Field("price"),
        ];
        assert!(pattern.matches(&path));
        assert!(!pattern.matches(&path[..2]));
        assert!(
            Pattern::parse("lines.3")
                .expect("a path")
                .matches(&path[..2])
        );
        assert!(
            !Pattern::parse("lines.03")
                .expect("a path")
                .matches(&path[..2])
        );
        assert_eq!(
            Pattern::parse("lines.3.price")
                .expect("a path")
                .without_numbers(),
            "lines.*.price"
        );
    }
}
