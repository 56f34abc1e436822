//! What was wrong with which node when, as far as clients connected to it are concerned: what they hear and say through it may be late or
//! lost then. Faults of disks and of single partitions are not among it: a node must do its duty in spite of them.

use std::time::Duration;

use crate::fault::Fault;

/// A node may be missed by others, or not know of them, for so long when what was wrong is over.
const AFTERMATH: Duration = Duration::from_secs(3);

struct Trouble {
    nodes: Option<[u32; 2]>,
    from: Duration,
    /// When it was over; not yet if there is none.
    until: Option<Duration>,
    /// What ends it.
    ending: Option<Fault>,
}

/// The troubles of a run.
#[derive(Default)]
pub struct Troubles {
    all: Vec<Trouble>,
    /// Wall clocks do not agree from then on.
    clocks: bool,
}

impl Troubles {
    /// A fault took effect.
    pub fn note(&mut self, at: Duration, fault: &Fault) {
        let over =
            self.all.iter_mut().filter(|trouble| trouble.until.is_none() && trouble.ending.as_ref() == Some(fault));
        over.for_each(|trouble| trouble.until = Some(at));
        self.clocks |= matches!(fault, Fault::ClockJump { .. } | Fault::ClockDrift { .. });
        let ending = fault.ending();
        let until = ending.is_none().then_some(at);
        self.all.push(Trouble { nodes: nodes(fault), from: at, until, ending });
    }

    /// A node stopped by itself.
    pub fn stopped(&mut self, at: Duration, node: u32) {
        self.note(at, &Fault::Kill { node });
    }

    /// A node that stopped by itself runs again.
    pub fn started(&mut self, at: Duration, node: u32) {
        self.note(at, &Fault::Start { node });
    }

    /// Whether anything was wrong with `node` in this time.
    pub fn of(&self, node: u32, from: Duration, until: Duration) -> bool {
        let meets = |trouble: &Trouble| trouble.meets(from, until);
        self.all.iter().any(|trouble| trouble.nodes.is_some_and(|nodes| nodes.contains(&node)) && meets(trouble))
    }

    /// Whether nothing at all was wrong in this time.
    pub fn none(&self, from: Duration, until: Duration) -> bool {
        !self.all.iter().any(|trouble| trouble.meets(from, until))
    }

    /// Whether the wall clocks of all nodes agree.
    pub fn clocks_agree(&self) -> bool {
        !self.clocks
    }
}

impl Trouble {
    fn meets(&self, from: Duration, until: Duration) -> bool {
        self.from <= until && self.until.is_none_or(|over| over + AFTERMATH >= from)
    }
}

/// Whom a fault cuts off.
fn nodes(fault: &Fault) -> Option<[u32; 2]> {
    match *fault {
        Fault::Kill { node }
        | Fault::PowerLoss { node }
        | Fault::Stop { node }
        | Fault::Pause { node }
        | Fault::CutClients { node }
        | Fault::HalfOpen { node } => Some([node, node]),
        Fault::Cut { from, to } | Fault::Slow { from, to, .. } => Some([from, to]),
        Fault::Reset { one, other } => Some([one, other]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_lasts_until_a_while_after_its_end() {
        let at = Duration::from_secs;
        let mut troubles = Troubles::default();
        troubles.note(at(5), &Fault::Kill { node: 2 });
        assert!(troubles.of(2, at(90), at(99)) && !troubles.of(1, at(0), at(99)) && !troubles.of(2, at(1), at(4)));
        troubles.note(at(8), &Fault::Start { node: 2 });
        assert!(troubles.of(2, at(10), at(10)) && !troubles.of(2, at(12), at(20)));
        troubles.note(at(20), &Fault::Reset { one: 1, other: 3 });
        assert!(troubles.of(1, at(22), at(24)) && troubles.of(3, at(0), at(20)) && !troubles.of(3, at(24), at(30)));
        assert!(troubles.clocks_agree());
    }
}
