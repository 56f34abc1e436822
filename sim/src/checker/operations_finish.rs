//! L6: long work ends. A few seconds after everything was healed all that operators began has ended, whoever led the controller
//! meanwhile, and what has ended stays as it ended. The number is ours: a move of the small logs here takes about a second, eight go
//! at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use model::controller::{Image, Operation, OperationState};

use crate::nemesis::HEAL;

/// When operations must have ended; until then operators leave things as they are.
pub const OVER: Duration = HEAL.saturating_add(Duration::from_secs(8));

/// What became of operations, for the counts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// One was begun.
    Begun,
    /// One is done.
    Finished,
    /// It was done under another leader of the controller than it was begun under.
    FinishedByAnother,
    /// It was ended on demand.
    Cancelled,
}

impl News {
    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        match self {
            News::Begun => "operation begun",
            News::Finished => "operation finished",
            News::FinishedByAnother => "operation went on under another controller",
            News::Cancelled => "operation cancelled",
        }
    }
}

/// An operation as it was seen last.
struct Seen {
    token: u64,
    state: OperationState,
    /// The controller's term when it was seen first.
    term: u64,
    /// It was said already that it is late.
    is_late: bool,
}

/// The checker of one run.
#[derive(Default)]
pub struct OperationsFinish {
    /// The newest image seen: when those who have it are down, others know less.
    version: u64,
    seen: BTreeMap<u64, Seen>,
}

impl OperationsFinish {
    /// Looks at the newest image; `term` is that of the controller's leader.
    pub fn look(&mut self, at: Duration, image: &Image, term: Option<u64>) -> (Vec<String>, Vec<News>) {
        let (mut violations, mut news) = (Vec::new(), Vec::new());
        if image.version < self.version {
            return (violations, news);
        }
        self.version = image.version;
        for operation in image.operations.values() {
            self.follow(operation, term.unwrap_or(0), &mut news, &mut violations);
            let seen = self.seen.get_mut(&operation.id).filter(|seen| !seen.is_late && !seen.state.is_end());
            if let Some(seen) = seen.filter(|_| at >= OVER) {
                seen.is_late = true;
                violations.push(format!("at {at:?} it has not ended: {operation:?}"));
            }
        }
        (violations, news)
    }

    fn follow(&mut self, operation: &Operation, term: u64, news: &mut Vec<News>, violations: &mut Vec<String>) {
        let (token, state) = (operation.token, operation.state);
        let seen = self.seen.entry(operation.id).or_insert_with(|| {
            news.push(News::Begun);
            Seen { token, state: OperationState::Running, term, is_late: false }
        });
        if seen.token != token || (seen.state.is_end() && seen.state != state) {
            violations.push(format!("it was {:?} once, or another one: {operation:?}", seen.state));
        }
        if seen.state != state {
            match state {
                OperationState::Finished => {
                    news.push(News::Finished);
                    news.extend((term > seen.term).then_some(News::FinishedByAnother));
                }
                OperationState::Cancelled => news.push(News::Cancelled),
                _ => {}
            }
        }
        (seen.token, seen.state) = (token, state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::controller::OperationKind;

    use super::*;

    /// A look at an operation with this token and state: how many promises are broken, and what is new.
    fn look(checker: &mut OperationsFinish, at: Duration, token: u64, state: OperationState) -> (usize, Vec<News>) {
        let operation = Operation {
            id: 1,
            token,
            kind: OperationKind::Rebalance,
            state,
            started_ms: 0,
            changed_ms: 0,
            moves: Vec::new(),
            done: Default::default(),
            total: 0,
            finished: 0,
            bytes: 0,
            bytes_done: 0,
            note: String::new(),
        };
        let mut image = Image::default();
        image.operations = [(1, Arc::new(operation))].into();
        let (violations, news) = checker.look(at, &image, Some(at.as_secs()));
        (violations.len(), news)
    }

    #[test]
    fn what_does_not_end_is_seen_once() {
        let mut checker = OperationsFinish::default();
        for state in [OperationState::Running, OperationState::Paused] {
            assert_eq!(look(&mut checker, HEAL, 7, state).0, 0);
        }
        assert_eq!(look(&mut checker, OVER, 7, OperationState::Running).0, 1);
        assert_eq!(look(&mut checker, OVER, 7, OperationState::Running).0, 0);
    }

    #[test]
    fn what_ended_and_changes_is_seen() {
        let mut checker = OperationsFinish::default();
        let first = look(&mut checker, Duration::from_secs(1), 7, OperationState::Running);
        assert_eq!(first, (0, vec![News::Begun]));
        let then = look(&mut checker, Duration::from_secs(2), 7, OperationState::Finished);
        assert_eq!(then, (0, vec![News::Finished, News::FinishedByAnother]));
        assert_eq!(look(&mut checker, OVER, 7, OperationState::Finished), (0, vec![]));
        assert_eq!(look(&mut checker, OVER, 7, OperationState::Cancelled).0, 1, "after its end");
        assert_eq!(look(&mut checker, OVER, 8, OperationState::Cancelled).0, 1, "a number given twice");
    }
}
