//! Protocols before they are built: every order of a few steps, tried one by one.

mod door;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;

/// A protocol as states and steps.
trait Model {
    type State: Copy + Eq + Hash;
    type Step: Copy + Debug;

    fn start(&self) -> Self::State;

    /// What may happen next, and what comes of it.
    fn steps(&self, state: &Self::State) -> Vec<(Self::Step, Self::State)>;

    /// The rule that does not hold.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Every state was visited, and no rule was broken.
    Nothing { states: usize },
    /// The shortest way to a broken rule.
    Broken {
        rule: &'static str,
        steps: Vec<String>,
    },
}

/// Visits every state that can be reached, nearest first.
fn explore<M: Model>(model: &M) -> Found {
    let start = model.start();
    let mut reached = HashMap::from([(start, None)]);
    let mut next = VecDeque::from([start]);
    while let Some(state) = next.pop_front() {
        if let Some(rule) = model.broken(&state) {
            let (mut steps, mut at) = (Vec::new(), state);
            while let Some(&Some((step, before))) = reached.get(&at) {
                steps.push(format!("{step:?}"));
                at = before;
            }
            steps.reverse();
            return Found::Broken { rule, steps };
        }
        for (step, after) in model.steps(&state) {
            reached.entry(after).or_insert_with(|| {
                next.push_back(after);
                Some((step, state))
            });
        }
    }
    Found::Nothing {
        states: reached.len(),
    }
}
